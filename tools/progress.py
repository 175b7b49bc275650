"""Shows people which stage of something long is running, and for how long.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

TICK_SECONDS = 1.0
PLAIN_TICK_SECONDS = 15.0
"""Between lines where the output is no terminal and a line cannot be rewritten."""
LINE_WIDTH = 110


class Stages:
    """Numbers the stages of one command: ``[3/9] Database … 4 s``."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.number = 0
        self._terminal = sys.stdout.isatty()

    @contextlib.contextmanager
    def stage(self, title: str, detail: Callable[[], str] = lambda: "") -> Iterator[None]:
        """Show a stage while the block runs, and its seconds when it is done.

        :param detail: called now and then for a few words on how far it is.
        """
        self.number += 1
        head = f"[{self.number}/{self.total}] {title} …"
        started = time.monotonic()
        done = threading.Event()
        self._write(head, rewrite=True)
        ticker = threading.Thread(target=self._tick, args=(head, started, detail, done), daemon=True)
        ticker.start()
        failed = True
        try:
            yield
            failed = False
        finally:
            done.set()
            ticker.join()
            outcome = " failed" if failed else ""
            self._write(f"{head}{outcome} {time.monotonic() - started:.0f} s", rewrite=self._terminal, last=True)

    def _tick(self, head: str, started: float, detail: Callable[[], str], done: threading.Event) -> None:
        while not done.wait(TICK_SECONDS if self._terminal else PLAIN_TICK_SECONDS):
            self._write(f"{head} {time.monotonic() - started:.0f} s  {detail()}", rewrite=self._terminal)

    def _write(self, line: str, *, rewrite: bool, last: bool = False) -> None:
        if self._terminal:
            sys.stdout.write(f"\r\x1b[K{line[:LINE_WIDTH]}" + ("\n" if last else ""))
        else:
            sys.stdout.write(line.rstrip() + "\n")
        sys.stdout.flush()
