"""Views, which are synchronous, behind an asynchronous web server.

Django's own handler starts a thread for each request. a2wsgi, whose reading of requests is used here, passes each part
of an answer from its thread to the event loop and waits there until it was sent; with threads that compete for the
interpreter's lock, each of these waits is long. Here a short request is read before its view begins, and an answer that
is not streamed goes to the event loop in one piece.
"""

from __future__ import annotations

import asyncio
import contextvars
import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from a2wsgi.wsgi import Body, build_environ
from asgiref.typing import (
    ASGIReceiveCallable,
    ASGISendCallable,
    ASGISendEvent,
    HTTPResponseBodyEvent,
    HTTPResponseStartEvent,
    HTTPScope,
    Scope,
)
from django.http import HttpResponseBase

SHORT = 2**16
"""Bytes of a request that are read before its view begins."""

Answering = Callable[[WSGIEnvironment, StartResponse], HttpResponseBase]
"""Django's WSGI application."""


class Bridge:
    """An ASGI application that lets Django's WSGI application answer in a few threads.

    Requests are computed in the order in which they come. One whose answer is being streamed keeps a thread, but no
    other request from being computed.

    :param application: what answers.
    :param at_once: requests that are computed at once. More than a few threads only keep each other from the
        interpreter's lock.
    :param threads: requests that are computed or streamed at once; each may need a connection to the database.
    """

    def __init__(self, application: Answering, *, at_once: int, threads: int) -> None:
        self._application = application
        self._turns = asyncio.Semaphore(at_once)
        self._threads = ThreadPoolExecutor(threads, "view")

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Answer one request; :raises ValueError: for what is not one."""
        if scope["type"] != "http":
            raise ValueError(f"{scope['type']}: only http is answered here")
        loop = asyncio.get_running_loop()
        environ: WSGIEnvironment = {**build_environ(scope, await _body(scope, receive))}  # type: ignore[arg-type]
        answer = _Answer(loop, send)
        async with self._turns:
            work = loop.run_in_executor(
                self._threads, contextvars.copy_context().run, answer.make, self._application, environ
            )
            either: list[asyncio.Future[Any]] = [work, answer.streaming]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        text = await work
        if not answer.streaming.done():
            await send(answer.head)
            await send(_part(text))


class _Answer:
    """An answer on its way from the thread that computes it to the event loop."""

    head: HTTPResponseStartEvent

    def __init__(self, loop: asyncio.AbstractEventLoop, send: ASGISendCallable) -> None:
        self._loop = loop
        self._send = send
        self.streaming: asyncio.Future[None] = loop.create_future()
        """Done when the answer is computed and its parts are being sent from the thread."""

    def make(self, application: Answering, environ: WSGIEnvironment) -> bytes:
        """Compute the answer; send it if it is streamed, else return its text. Runs in a thread."""
        response = application(environ, self._start)  # type: ignore[arg-type]
        try:
            parts: Iterable[bytes] = response
            if not response.streaming:
                return b"".join(parts)
            self._loop.call_soon_threadsafe(self.streaming.set_result, None)
            self._now(self.head)
            for part in parts:
                self._now(_part(part, more=True))
            self._now(_part(b""))
            return b""
        finally:
            response.close()

    def _start(self, status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> None:
        self.head = {
            "type": "http.response.start",
            "status": int(status[:3]),
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
            "trailers": False,
        }

    def _now(self, event: ASGISendEvent) -> None:
        async def sending() -> None:
            await self._send(event)

        asyncio.run_coroutine_threadsafe(sending(), self._loop).result()


def _part(body: bytes, *, more: bool = False) -> HTTPResponseBodyEvent:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def _body(scope: HTTPScope, receive: ASGIReceiveCallable) -> io.BytesIO | Body:
    """What a view reads: all of a short request, or one that arrives as it is read."""
    announced = dict(scope["headers"]).get(b"content-length", b"0")
    if not announced.isdigit() or int(announced) > SHORT:
        return Body(asyncio.get_running_loop(), receive)  # type: ignore[arg-type]
    parts = []
    more = int(announced) > 0
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        parts.append(message["body"])
        more = message["more_body"]
    return io.BytesIO(b"".join(parts))
