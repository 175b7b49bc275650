"""A limit on request bodies that holds before anything is kept of them.

Django writes a whole body to a temporary file before the first middleware runs, so without this
anybody could fill the disk. Views have narrower limits (``DATA_UPLOAD_MAX_MEMORY_SIZE``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from asgiref.typing import (
    ASGI3Application,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    HTTPScope,
    Scope,
)

SENTENCE = b"What was sent is too large for this site.\n"


Limit = Callable[[HTTPScope], Awaitable[int]]
"""The most bytes of a request's body, by what is known before it comes."""


def limited(application: ASGI3Application, limit: int | Limit) -> ASGI3Application:
    """Answer 413 to a request whose body is too large, announced or not.

    :param application: the ASGI application to protect.
    :param limit: bytes of a body, or what tells them for a request.
    """

    async def protected(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        most = limit if isinstance(limit, int) else await limit(scope)
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
