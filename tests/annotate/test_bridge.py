"""Requests take turns to be computed, in the order in which they came; answers being streamed keep nobody waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse

from annotate.bridge import SHORT, Bridge

PATIENCE = 10.0
A_MOMENT = 0.2


class Site:
    """What would be Django: knows what it is computing, and answers when it is told."""

    def __init__(self) -> None:
        self.go_on, self.send = threading.Event(), threading.Event()
        self.began: list[str] = []
        self.read: list[bytes] = []
        self.closed: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> HttpResponseBase:
        path = environ["PATH_INFO"]
        self.began.append(path)
        if path == "/broken":
            raise ZeroDivisionError
        self.read.append(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH", 0))))
        response: HttpResponseBase
        if path.startswith("/long"):
            response = StreamingHttpResponse(self._parts(path))
        else:
            self.go_on.wait(PATIENCE)
            response = HttpResponse(f"whole {path}")
        response.close = lambda: self.closed.append(path)  # type: ignore[method-assign]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return response

    def _parts(self, path: str) -> Iterator[bytes]:
        yield b"one "
        self.send.wait(PATIENCE)
        if path == "/long/broken":
            raise ZeroDivisionError
        yield b"two"


async def ask(bridge: Bridge, path: str, body: tuple[bytes, ...] = ()) -> list[Any]:
    """Ask as a web server does, with a body that arrives in parts.

    :returns: the events of the answer.
    """
    arriving = [{"type": "http.request", "body": part, "more_body": True} for part in body]
    arriving.append({"type": "http.request", "body": b"", "more_body": False})
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(0)
        return arriving.pop(0)

    async def send(event: Any) -> None:
        sent.append(event)

    length = sum(map(len, body))
    headers = [(b"content-length", str(length).encode())] if body else []
    scope: Any = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": headers,
    }
    await asyncio.wait_for(bridge(scope, receive, send), PATIENCE)
    return sent


def text(events: list[Any]) -> bytes:
    """The text of an answer."""
    return b"".join(event["body"] for event in events if event["type"] == "http.response.body")


def try_out(test: Callable[[Site], Awaitable[None]]) -> None:
    """Run a test on an event loop; whatever still waits in a thread afterwards is let go."""
    site = Site()

    async def whole() -> None:
        try:
            await test(site)
        finally:
            site.go_on.set()
            site.send.set()

    asyncio.run(whole())


def test_only_so_many_requests_are_computed_at_once_and_in_the_order_in_which_they_came() -> None:
    async def test(site: Site) -> None:
        bridge = Bridge(site, at_once=2, threads=9)
        asked = []
        for n in range(9):
            asked.append(asyncio.create_task(ask(bridge, f"/{n}")))
            await asyncio.sleep(A_MOMENT / 10)
        await asyncio.sleep(A_MOMENT)
        assert site.began == ["/0", "/1"]
        site.go_on.set()
        assert [text(events) for events in await asyncio.gather(*asked)] == [b"whole /%d" % n for n in range(9)]
        assert sorted(site.began[2:]) == [f"/{n}" for n in range(2, 9)]
        assert [abs(int(path[1:]) - place) <= 1 for place, path in enumerate(site.began)] == [True] * 9
        assert sorted(site.closed) == sorted(site.began)

    try_out(test)


def test_a_whole_answer_is_sent_in_one_piece_with_its_head() -> None:
    async def test(site: Site) -> None:
        site.go_on.set()
        head, *parts = await ask(Bridge(site, at_once=1, threads=1), "/page")
        assert head["status"] == 200
        assert head["headers"] == [(b"content-type", b"text/plain")]
        assert [(part["body"], part["more_body"]) for part in parts] == [(b"whole /page", False)]

    try_out(test)


def test_an_answer_that_is_being_streamed_and_one_that_failed_keep_no_turn() -> None:
    async def test(site: Site) -> None:
        bridge = Bridge(site, at_once=1, threads=2)
        site.go_on.set()
        streaming = asyncio.create_task(ask(bridge, "/long"))
        await asyncio.sleep(A_MOMENT)
        with pytest.raises(ZeroDivisionError):
            await ask(bridge, "/broken")
        assert text(await ask(bridge, "/other")) == b"whole /other"
        assert not streaming.done()
        site.send.set()
        events = await streaming
        assert text(events) == b"one two"
        assert [event.get("more_body") for event in events] == [None, True, True, False]
        assert site.closed == ["/other", "/long"]

    try_out(test)


def test_a_stream_that_breaks_is_not_ended_as_if_it_were_whole() -> None:
    async def test(site: Site) -> None:
        bridge = Bridge(site, at_once=1, threads=1)
        site.send.set()
        with pytest.raises(ZeroDivisionError):
            await ask(bridge, "/long/broken")
        assert site.closed == ["/long/broken"]

    try_out(test)


@pytest.mark.parametrize("size", [1, SHORT, SHORT + 1, 3 * SHORT])
def test_a_view_reads_the_whole_body_short_or_long(size: int) -> None:
    body = bytes(n % 251 for n in range(size))

    async def test(site: Site) -> None:
        site.go_on.set()
        parts = tuple(body[begin : begin + 10_000] for begin in range(0, size, 10_000))
        await ask(Bridge(site, at_once=1, threads=1), "/upload", parts)
        assert site.read == [body]

    try_out(test)
