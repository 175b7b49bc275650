"""Starts the site's processes, starts one again that dies, and leaves nothing behind when they end.

A process that dies once costs the site some seconds and not its life; one that dies again and again is a fault
that somebody has to see, so that the site ends with the last lines of its log.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

log = logging.getLogger(__name__)

STOP_SECONDS = 8.0
RESTARTS = 3
"""How often a process is started again within :data:`RESTARTS_SECONDS`."""
RESTARTS_SECONDS = 60.0
FIRST_WAIT_SECONDS = 1.0
"""Time before the first restart; it doubles with each further one."""
LOG_LINES_SHOWN = 15
PR_SET_CHILD_SUBREAPER = 36


class ChildDied(RuntimeError):
    """A process of the site ended by itself too often; the message says which, and shows the end of its log."""


@dataclass
class Child:
    """One process, started again as need be."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes]
    deaths: list[float] = field(default_factory=list)
    """When it died, on the monotonic clock, within the last :data:`RESTARTS_SECONDS`."""
    again_at: float | None = None
    """When it is started again, where it is dead."""


class Supervisor:
    """Holds the processes of one site. To be used from the main thread, as a context manager."""

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._children: list[Child] = []
        self._spared: set[int] = set()

    def __enter__(self) -> Supervisor:
        self._log_dir.mkdir(parents=True, exist_ok=True)
        # Whatever our processes leave behind becomes our child, so that it can be found and ended.
        _adopt_orphans(True)
        self._spared = {process.pid for process in psutil.Process().children()}
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        _adopt_orphans(False)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a process with its output in ``NAME.log``; it is killed should we be killed.

        It must have no processes of its own that outlive it.
        """
        log_file = self._log_dir / f"{name}.log"
        if log_file.exists():
            log_file.replace(log_file.with_suffix(".log.1"))
        full = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        every = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._children.append(Child(name, full, every, log_file, _spawn(full, every, log_file)))

    def check(self) -> None:
        """See that all of them are alive, and start those again that are not.

        :raises ChildDied: when one has died too often.
        """
        now = time.monotonic()
        for child in self._children:
            status = child.process.poll()
            if status is None:
                continue
            if child.again_at is None:
                self._mourn(child, status, now)
            elif now >= child.again_at:
                child.again_at = None
                child.process = _spawn(child.command, child.environment, child.log)

    @staticmethod
    def _mourn(child: Child, status: int, now: float) -> None:
        """Set the time of a dead process's restart, if it has one left."""
        how = f"was killed by signal {-status}" if status < 0 else f"stopped with status {status}"
        child.deaths = [*(death for death in child.deaths if now - death < RESTARTS_SECONDS), now]
        if len(child.deaths) > RESTARTS:
            lines = "\n".join(child.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])
            raise ChildDied(f"The process “{child.name}” {how}; the end of {child.log}:\n{lines}")
        wait = FIRST_WAIT_SECONDS * 2 ** (len(child.deaths) - 1)
        child.again_at = now + wait
        log.warning("The process “%s” %s; it is started again in %.0f s.", child.name, how, wait)

    def stop(self) -> None:
        """Ask every process to stop, then end what is left of them and of theirs."""
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.process.terminate()
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


def _adopt_orphans(on: bool) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)


def _spawn(command: list[str], environment: dict[str, str], log_file: Path) -> subprocess.Popen[bytes]:
    with open(log_file, "ab") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
        )
