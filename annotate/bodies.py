"""A limit on request bodies that holds before anything is kept of them.

Django writes a whole body to a temporary file before the first middleware runs, so without this
anybody could fill the disk. Views have narrower limits (``DATA_UPLOAD_MAX_MEMORY_SIZE``).
"""

from __future__ import annotations

import contextlib

from asgiref.typing import (
    ASGI3Application,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    Scope,
)

SENTENCE = b"What was sent is too large for this site.\n"


def limited(application: ASGI3Application, most: int) -> ASGI3Application:
    """Answer 413 to a request whose body is too large, announced or not.

    :param application: the ASGI application to protect.
    :param most: bytes of a body.
    """

    async def protected(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > most:
            await _refuse(send)
            return
        came = 0

        async def counted() -> ASGIReceiveEvent:
            nonlocal came
            message = await receive()
            if message["type"] == "http.request":
                came += len(message.get("body", b""))
                if came > most:
                    raise TooLarge
            return message

        async def unless_too_large(message: ASGISendEvent) -> None:
            # What the application makes of the broken body is not what went wrong.
            if came <= most:
                await send(message)

        with contextlib.suppress(TooLarge):
            await application(scope, counted, unless_too_large)
        if came > most:
            await _refuse(send)

    return protected


class TooLarge(OSError):
    """More came than is allowed; raised where the body is read, when no answer has begun. Django expects an OSError."""


async def _refuse(send: ASGISendCallable) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(SENTENCE)).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers, "trailers": False})
    await send({"type": "http.response.body", "body": SENTENCE, "more_body": False})
