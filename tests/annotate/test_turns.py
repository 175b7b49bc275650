"""Requests that compute take turns; answers that are being sent keep nobody waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from annotate.asgi import in_turns

PATIENCE = 10.0
A_MOMENT = 0.2


def start_response(*_started: Any) -> Any:
    """Nobody reads the answers' heads here."""


class Counting:
    """An application that knows how many requests it is computing, and sends its answers when it is told."""

    def __init__(self) -> None:
        self.go_on, self.send = threading.Event(), threading.Event()
        self.at_work: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.at_work.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/broken":
            raise ValueError
        self.go_on.wait(PATIENCE)
        return self._parts()

    def _parts(self) -> Iterator[bytes]:
        self.send.wait(PATIENCE)
        yield b"done"


def test_only_so_many_requests_are_computed_at_once() -> None:
    application = Counting()
    answer = in_turns(application, 2)
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(answer, {"PATH_INFO": f"/{n}"}, start_response) for n in range(3)]
        threading.Event().wait(A_MOMENT)
        assert len(application.at_work) == 2
        application.go_on.set()
        application.send.set()
        assert [list(each.result(PATIENCE)) for each in asked] == [[b"done"]] * 3


def test_an_answer_that_is_being_sent_and_one_that_failed_keep_no_turn() -> None:
    application = Counting()
    answer = in_turns(application, 1)
    application.go_on.set()
    with ThreadPoolExecutor(2) as pool:
        sending = pool.submit(lambda: list(answer({"PATH_INFO": "/long"}, start_response)))
        threading.Event().wait(A_MOMENT)
        assert isinstance(pool.submit(answer, {"PATH_INFO": "/broken"}, start_response).exception(PATIENCE), ValueError)
        assert pool.submit(answer, {"PATH_INFO": "/other"}, start_response).result(PATIENCE) is not None
        assert not sending.done()
        application.send.set()
        assert sending.result(PATIENCE) == [b"done"]
