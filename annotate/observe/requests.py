"""What is told of each request: a name by which its lines are found, a line of its own, and its time."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from annotate.observe import context, metrics
from annotate.observe.logs import route_of, safe_path
from annotate.views import health

log = logging.getLogger("annotate.access")

SAFE_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
PROBES = {"/healthz": health.healthz, "/readyz": health.readyz, "/metrics": health.metrics}


class Observed:
    """The outermost middleware: gives each request an id, logs and counts it.

    Questions of machines about the site's health are answered here, before any other middleware: they come
    without a session, by whatever host name or address, over plain http, and are not worth a line in the log.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer, then tell of it."""
        with context.bound(request_id=_request_id(request)):
            if probe := PROBES.get(request.path_info):
                response: HttpResponseBase = probe(request)
            else:
                began = time.perf_counter()
                response = self._get_response(request)
                _tell(request, response, time.perf_counter() - began)
            response["X-Request-ID"] = context.fields()["request_id"]
            return response


def _request_id(request: HttpRequest) -> str:
    """The proxy's name for the request where it is harmless to repeat, else a new one."""
    given = request.headers.get("X-Request-ID", "")
    return given if SAFE_ID.fullmatch(given) else uuid.uuid4().hex


def _tell(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
    static = request.path.startswith(settings.STATIC_URL)
    route = "static" if static else _route_name(request)
    method = request.method if request.method in metrics.METHODS else "other"
    metrics.REQUESTS.labels(method, route, response.status_code).inc()
    metrics.REQUEST_SECONDS.labels(method, route).observe(seconds)
    if static and response.status_code < 400:
        return
    # What Django keeps once a view or middleware has asked; asking here would read the session of every request.
    user = getattr(request, "_cached_user", None)
    data = {
        "user_id": user.pk if user is not None else None,
        "method": method,
        "path": safe_path(request),
        "status": response.status_code,
        "duration_ms": round(seconds * 1000, 1),
    }
    message = f"{method} {data['path']} {data['status']} {data['duration_ms']} ms user={data['user_id']}"
    log.info("%s", message, extra={"data": data})


def _route_name(request: HttpRequest) -> str:
    """The route's name, so that there are as many series as pages and not as many as addresses."""
    route = route_of(request)
    return "unknown" if route is None else route.view_name or route.route
