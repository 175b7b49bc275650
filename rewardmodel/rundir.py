"""The run directory: how a supervisor and a job agree through plain files.

A job is a process of its own. It reads ``spec.json`` and ``data/``, tells of itself in
``attempt-N/progress.jsonl``, publishes folders atomically with a manifest of hashes, and ends by
writing ``result.json``. The supervisor touches ``lease``, which holds the seconds that a touch lasts,
while it lives, and creates ``stop`` to ask for an orderly end; ``settle`` asks a training to publish
what its last checkpoint holds instead of training on. Run by hand on another machine, a job finds no
``lease`` and runs until done.

Nothing here imports torch or Django.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from rewardmodel.contract import JobError
from rewardmodel.memory import keep_freed_memory
from rewardmodel.publish import BrokenFolder, is_disk_full, publish, verify, write_json

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_DISK_FULL = 74
"""Failed because there was no room to write (EX_IOERR of sysexits.h); what was published before is whole."""
EXIT_RESUMABLE = 75
"""Stopped before the end in a state from which it can go on (EX_TEMPFAIL of sysexits.h)."""

SETTLE_FILE = "settle"
LEASE_SECONDS = 30.0
"""How long a touch of the lease lasts where the file does not say."""
LEASE_POLL_SECONDS = 5.0
CHECKPOINTS_KEPT = 2
CHECKPOINT_SHARE = 0.05
"""Share of a job's time that writing checkpoints may take, at most."""


class Stopped(Exception):
    """The job was asked to stop and has saved what it needs to go on."""


class Busy(JobError):
    """Another process is at work in the run directory; the job can be tried again later."""


class CheckpointClock:
    """Says when the next checkpoint is due, so that checkpoints take at most :data:`CHECKPOINT_SHARE` of the time."""

    def __init__(self, least_seconds: float) -> None:
        """Start counting.

        :param least_seconds: shortest time between two checkpoints, seconds.
        """
        self._least = least_seconds
        self._wait = least_seconds
        self._since = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether enough work was done since the last one."""
        return time.monotonic() - self._since >= self._wait

    def write(self, checkpoint: Callable[[], object]) -> None:
        """Write a checkpoint and set when the next is due by how long that took."""
        began = time.monotonic()
        checkpoint()
        self._since = time.monotonic()
        self._wait = max(self._least, (self._since - began) * (1 / CHECKPOINT_SHARE - 1))


class RunDir:
    """A job's view of its run directory, held under an exclusive lock by :func:`open_run`."""

    def __init__(self, path: Path, attempt: int) -> None:
        self.path = path
        self.attempt = attempt
        self.attempt_path = path / f"attempt-{attempt}"
        self.attempt_path.mkdir(parents=True, exist_ok=True)
        self._progress = open(self.attempt_path / "progress.jsonl", "a", encoding="utf-8")  # noqa: SIM115

    def progress(self, stage: str, done: float = 0, total: float = 0, message: str = "", **metrics: Any) -> None:
        """Append one line of progress.

        :param stage: a short word for what is being done, such as ``train``.
        :param done: units done of this stage.
        :param total: units in all, 0 where unknown.
        :param message: one sentence for people.
        :param metrics: plain values for charts and records, such as ``loss=0.6``.
        """
        line = {"at": time.time(), "stage": stage, "done": done, "total": total, "message": message, "metrics": metrics}
        self._progress.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._progress.flush()

    @property
    def stop_requested(self) -> bool:
        """Whether the supervisor asked for an orderly end."""
        return (self.path / "stop").exists()

    @property
    def settle_requested(self) -> bool:
        """Whether the job is to end with what its last checkpoint holds, as its result."""
        return (self.path / SETTLE_FILE).exists()

    def stop_if_asked(self) -> None:
        """End the job in order when the supervisor asks for it.

        :raises Stopped: when it does.
        """
        if self.stop_requested:
            raise Stopped

    def publish_checkpoint(self, step: int, fill: Callable[[Path], None]) -> Path:
        """Publish ``checkpoints/step-N`` and delete all others but the one before it.

        One of a later step is what a job that goes on from an earlier step could not read.
        """
        folder = self.path / "checkpoints" / f"step-{step}"
        publish(folder, fill)
        found = checkpoints(self.path)
        place = found.index(folder)
        for other in [*found[: place + 1][:-CHECKPOINTS_KEPT], *found[place + 1 :]]:
            shutil.rmtree(other, ignore_errors=True)
        return folder

    def latest_checkpoint(self) -> Path | None:
        """The newest checkpoint that matches its manifest, or None."""
        for folder in reversed(checkpoints(self.path)):
            try:
                verify(folder)
                return folder
            except BrokenFolder as problem:
                print(f"A checkpoint is passed over: {problem}", file=sys.stderr, flush=True)
        return None

    def finish(self, result: dict[str, Any]) -> None:
        """Write ``result.json``, the last act of a job that succeeded."""
        write_json(self.path / "result.json", result)

    def close(self) -> None:
        """Close the progress file."""
        self._progress.close()


def checkpoints(path: Path) -> list[Path]:
    """The checkpoints of a run directory, oldest first, unverified."""
    found = [folder for folder in (path / "checkpoints").glob("step-*") if folder.name[5:].isdigit()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was taken."""
    return int(checkpoint.name.removeprefix("step-"))


def leftovers(path: Path) -> list[Path]:
    """What a killed job was in the middle of writing, in a run directory where nobody works."""
    patterns = (".*.tmp", "checkpoints/.*.tmp", "members/.*.tmp", "output/.*.tmp", "attempt-*/policy-*")
    return [left for pattern in patterns for left in path.glob(pattern)]


@contextlib.contextmanager
def open_run(path: Path, attempt: int | None = None) -> Iterator[RunDir]:
    """Hold a run directory exclusively for the length of a job.

    :param attempt: the supervisor's number of this attempt; the next free one when None.
    :raises JobError: when there is no such directory.
    :raises Busy: when another process holds it.
    """
    if not path.is_dir():
        raise JobError(f"{path} is not a run directory: there is no such folder.")
    if attempt is None:
        attempt = 1 + max((int(p.name[8:]) for p in path.glob("attempt-*") if p.name[8:].isdigit()), default=0)
    with open(path / "lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"Another process is already working in {path}.") from None
        for left in leftovers(path):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        run = RunDir(path, attempt)
        watcher = threading.Thread(target=_watch_lease, args=(path / "lease",), daemon=True)
        watcher.start()
        try:
            yield run
        finally:
            run.close()


def is_held(path: Path) -> bool:
    """Whether a process is working in a run directory."""
    try:
        with open(path / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _watch_lease(lease: Path) -> None:
    """End this process and its children once a lease that existed is no longer renewed.

    What counts is that its time changes, not what it says: the supervisor's clock may be another one.
    """
    if not lease.exists():
        return
    seconds = float(lease.read_text() or LEASE_SECONDS)
    renewed_at = time.monotonic()
    touched = lease.stat().st_mtime_ns
    while True:
        time.sleep(min(LEASE_POLL_SECONDS, seconds / 6))
        with contextlib.suppress(FileNotFoundError):
            if (found := lease.stat().st_mtime_ns) != touched:
                renewed_at, touched = time.monotonic(), found
        age = time.monotonic() - renewed_at
        if age > seconds:
            print(f"The supervisor has not renewed the lease for {age:.0f} s; stopping.", file=sys.stderr, flush=True)
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            os._exit(EXIT_RESUMABLE)


def run_job(main: Callable[[RunDir], None], path: Path, attempt: int | None) -> int:
    """Run a job's main function in its directory and translate how it ended into an exit status.

    A :class:`JobError` is a sentence for people and is printed without a traceback.

    :returns: 0 when done, 75 when stopped but resumable, 74 when the disk is full, 1 when failed otherwise.
    """
    keep_freed_memory()
    try:
        with open_run(path, attempt) as run:
            main(run)
    except Stopped:
        return EXIT_RESUMABLE
    except Busy as problem:
        _say(f"error: {problem}")
        return EXIT_RESUMABLE
    except JobError as problem:
        _say(f"error: {problem}")
        return EXIT_FAILED
    except Exception as problem:
        if is_disk_full(problem):
            _say(f"error: The disk that holds {path} is full. What was saved before is whole: make room, then go on.")
            return EXIT_DISK_FULL
        _say(traceback.format_exc())
        return EXIT_FAILED
    return EXIT_DONE


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the log may lie on the disk that is full
        print(text, file=sys.stderr, flush=True)
