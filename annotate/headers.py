"""What every answer tells the browser beside what Django itself sends."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

POWERFUL_FEATURES = (
    *("accelerometer", "autoplay", "browsing-topics", "camera", "display-capture", "encrypted-media"),
    *("fullscreen", "geolocation", "gyroscope", "hid", "idle-detection", "local-fonts", "magnetometer", "microphone"),
    *("midi", "payment", "picture-in-picture", "publickey-credentials-get", "screen-wake-lock", "serial", "usb"),
    *("window-management", "xr-spatial-tracking"),
)
PERMISSIONS_POLICY = ", ".join([*(f"{feature}=()" for feature in POWERFUL_FEATURES), "clipboard-write=(self)"])
"""Nothing that a page could ask a device for is used here, but for copying a link."""


def security_headers(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Middleware: no powerful features, no embedding by other sites, and no copies of pages kept."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
        response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        if hasattr(request, "session"):  # a page of ours: static files do not come so far in
            response.headers.setdefault("Cache-Control", "private, no-store")
        return response

    return answer
