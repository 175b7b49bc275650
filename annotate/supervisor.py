"""Starts the site's processes, notices when one dies, and leaves nothing behind when they end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

STOP_SECONDS = 8.0
LOG_LINES_SHOWN = 15
PR_SET_CHILD_SUBREAPER = 36


class ChildDied(RuntimeError):
    """A process of the site ended by itself; the message says which, and shows the end of its log."""


@dataclass
class Child:
    """One running process."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    stop_signal: signal.Signals


class Supervisor:
    """Holds the processes of one site. To be used from the main thread, as a context manager."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._children: list[Child] = []
        self._spared: set[int] = set()

    def __enter__(self) -> Supervisor:
        self._log_dir.mkdir(parents=True, exist_ok=True)
        # Whatever our processes leave behind becomes our child, so that it can be found and ended.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._spared = {process.pid for process in psutil.Process().children()}
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        """Start a process with its output in ``NAME.log``; it is told to stop should we be killed.

        :param stop_signal: what asks it to stop.
        """
        log = self._log_dir / f"{name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        with open(log, "ab") as output:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", stop_signal.name.removeprefix("SIG"), "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        self._children.append(Child(name, process, log, stop_signal))

    def check(self) -> None:
        """See that all of them are alive.

        :raises ChildDied: when one is not.
        """
        for child in self._children:
            status = child.process.poll()
            if status is not None:
                how = f"was killed by signal {-status}" if status < 0 else f"stopped with status {status}"
                lines = "\n".join(child.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])
                raise ChildDied(f"The process “{child.name}” {how}; the end of {child.log}:\n{lines}")

    def stop(self) -> None:
        """Ask every process to stop, then end what is left of them and of theirs."""
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(child.stop_signal)
        deadline = time.monotonic() + STOP_SECONDS
        for child in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, deadline - time.monotonic()))
        while left := self._descendants(self._spared):
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=5)
        self._children.clear()

    @staticmethod
    def _descendants(spared: Collection[int]) -> list[psutil.Process]:
        found = []
        for process in psutil.Process().children():
            if process.pid not in spared:
                found.append(process)
                with contextlib.suppress(psutil.NoSuchProcess):
                    found.extend(process.children(recursive=True))
        return found
