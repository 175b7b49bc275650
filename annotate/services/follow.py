"""Staying with the process of a run: its lease, its progress, its log, and asking it to stop.

The process does the work and this supervisor holds no torch. A database that cannot be reached for a
while stops nothing: the process goes on and its progress is copied later.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.models import Run, RunEvent
from annotate.services import Refused, register
from annotate.services.files import read_json, run_folder
from annotate.services.methods import way_of
from rewardmodel.rundir import SETTLE_FILE

log = logging.getLogger(__name__)

MODULES = {
    Run.Kind.GENERATE: "policy.generate",
    Run.Kind.EVALUATE: "policy.generate",
    Run.Kind.TRAIN_REWARD: "rewardmodel.train",
    Run.Kind.SCORE: "rewardmodel.score",
}
POLL_SECONDS = 0.5
BEAT_SECONDS = 2.0
STOP_SECONDS = 20.0
"""How long a process may take to end in order; it is killed then, which loses what it did since its last checkpoint."""
LOG_LINES_KEPT = 40
LOG_BYTES_READ = 1 << 16

OnProgress = Callable[[str, float, float, str], None]
"""Called with stage, units done, units in all and a message."""

worker_stopping = threading.Event()
"""Set when this worker was asked to stop; the run in its hands is then stopped in order."""


class TakenOver(Exception):
    """The run is no longer ours: another worker has it, or it was ended."""


@dataclass(frozen=True)
class Ending:
    """How a process ended."""

    status: int
    """Exit status, or minus the signal that killed it."""
    asked: bool
    """Whether we had asked it to stop."""


def mine(run: Run) -> QuerySet[Run]:
    """The run's row, as long as the attempt is the one that was claimed."""
    return Run.objects.filter(pk=run.pk, attempt=run.attempt, state=Run.State.RUNNING)


def follow(run: Run, on_progress: OnProgress | None) -> Ending:
    """Start the process of a run and stay with it until it ends.

    :raises TakenOver: when the row was taken from us; the process is killed.
    :raises Refused: when the process announces a file that is not the one it wrote.
    """
    folder = run_folder(run)
    attempt = folder / f"attempt-{run.attempt}"
    attempt.mkdir(exist_ok=True)
    (folder / "stop").unlink(missing_ok=True)
    (folder / SETTLE_FILE).unlink(missing_ok=True)
    if run.selection.get("settle"):
        (folder / SETTLE_FILE).touch()
    lease = folder / "lease"
    lease.write_text(str(settings.HONE_RUN_LOST_SECONDS / 3))
    process = _start(run, folder, attempt / "log.txt")
    log.info("run %s attempt %d: %s started as process %d", run.pk, run.attempt, run.kind, process.pid)
    told = _Told(run, folder, on_progress)
    asked_at: float | None = None
    try:
        while True:
            over = process.poll() is not None
            os.utime(lease)
            up_to_date = told.tell()
            if over and up_to_date:
                return Ending(process.returncode, asked_at is not None)
            if asked_at is None and (told.cancelled or worker_stopping.is_set()):
                (folder / "stop").touch()
                asked_at = time.monotonic()
            if asked_at is not None and time.monotonic() - asked_at > STOP_SECONDS:
                process.kill()
            time.sleep(POLL_SECONDS)
    finally:
        _end(process)


def _start(run: Run, folder: Path, log_file: Path) -> subprocess.Popen[bytes]:
    module = way_of(run).module if run.kind == Run.Kind.IMPROVE else MODULES[Run.Kind(run.kind)]
    command = [sys.executable, "-m", module, "--run-dir", str(folder)]
    hidden = ("SECRET_KEY", "DATABASE_URL", "CELERY_BROKER_URL", "HONE_METRICS_TOKEN", "DJANGO_SETTINGS_MODULE")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    with open(log_file, "ab") as output:
        return subprocess.Popen(
            [*command, "--attempt", str(run.attempt)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**environment, "PYTHONUNBUFFERED": "1"},
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that nothing of the process's group is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def log_tail(folder: Path, attempt: int) -> str:
    """The last lines of an attempt's log."""
    try:
        with open(folder / f"attempt-{attempt}" / "log.txt", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES_READ))
            text = file.read().decode(errors="replace").replace("\x00", "")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-LOG_LINES_KEPT:])


class _Told:
    """What of a process the database knows."""

    def __init__(self, run: Run, folder: Path, on_progress: OnProgress | None) -> None:
        self.cancelled = False
        self._run = run
        self._folder = folder
        self._on_progress = on_progress
        self._path = folder / f"attempt-{run.attempt}" / "progress.jsonl"
        self._offset = 0
        self._number = 0
        self._beat_at = float("-inf")

    def tell(self) -> bool:
        """Copy what is new into the database and see whether the run was cancelled.

        :returns: whether the database could be reached.
        """
        try:
            self._copy_progress()
            if time.monotonic() - self._beat_at > BEAT_SECONDS:
                self._beat()
                self._beat_at = time.monotonic()
        except (OperationalError, InterfaceError) as problem:
            log.warning("run %s goes on without the database: %s", self._run.pk, problem)
            connection.close()
            return False
        return True

    def _beat(self) -> None:
        tail = log_tail(self._folder, self._run.attempt)
        if not mine(self._run).update(heartbeat_at=Now(), log_tail=tail):
            raise TakenOver
        self.cancelled = mine(self._run).filter(cancel_requested=True).exists()

    def _copy_progress(self) -> None:
        events, end = self._new_events()
        if not events:
            return
        for event in events:
            if "shard" in event.metrics:
                register.shard(self._run, event.metrics["shard"], event.metrics["sha256"])
        RunEvent.objects.bulk_create(events, ignore_conflicts=True)
        last = events[-1]
        progress = {name: getattr(last, name) for name in ("stage", "done", "total", "message", "metrics")}
        mine(self._run).update(progress=progress)
        self._offset, self._number = end, last.sequence
        if self._on_progress is not None:
            for event in events:
                self._on_progress(event.stage, event.done, event.total, event.message)

    def _new_events(self) -> tuple[list[RunEvent], int]:
        """The whole lines that were added to the progress file, and where the last of them ends, bytes."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return [], 0
        whole = data[: data.rfind(b"\n") + 1]
        lines = enumerate(whole.splitlines(), start=self._number + 1)
        return [self._event(number, line) for number, line in lines], self._offset + len(whole)

    def _event(self, number: int, line: bytes) -> RunEvent:
        try:
            value: dict[str, Any] = read_json(line)
            return RunEvent(
                run=self._run,
                attempt=self._run.attempt,
                sequence=number,
                at=datetime.fromtimestamp(value["at"], UTC),
                stage=value["stage"][:40],
                done=value["done"],
                total=value["total"],
                message=value["message"],
                metrics=value["metrics"],
            )
        except (ValueError, TypeError, KeyError) as problem:
            sentence = _("Line %(line)d of %(file)s is not what a job writes.")
            raise Refused(sentence % {"line": number, "file": self._path}) from problem
