"""Carrying out a run: claim it, start its process, follow it, register what it made.

The process does the work; this supervisor holds no torch. It renews the process's lease, copies its
progress into the database, registers completions as they are published, and decides by the exit
status and ``result.json`` how the run ended. Every update of the row is conditional on the attempt
that was claimed, so a supervisor that was given up for dead can change nothing any more.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Run, RunEvent
from annotate.observe import context
from annotate.services import Refused, inputs, register
from annotate.services.files import run_folder
from rewardmodel.rundir import EXIT_DONE, is_held

log = logging.getLogger(__name__)

MODULES = {
    Run.Kind.GENERATE: "policy.generate",
    Run.Kind.EVALUATE: "policy.generate",
    Run.Kind.TRAIN_REWARD: "rewardmodel.train",
    Run.Kind.IMPROVE: "policy.train",
}
POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 5.0
HEARTBEAT_LOST = timedelta(seconds=90)
MAX_ATTEMPTS = 3
LOG_LINES_KEPT = 40


OnProgress = Callable[[str, float, float, str], None]
"""Called with stage, units done, units in all and a message."""


def execute(run_id: uuid.UUID | str, on_progress: OnProgress | None = None) -> bool:
    """Carry out a queued run to its end.

    :param on_progress: called for each new line of progress.
    :returns: False when somebody else has claimed it, or it is over.
    """
    run = _claim(run_id)
    if run is None:
        return False
    context.bind(run_id=str(run.pk), attempt=run.attempt)
    folder = run_folder(run)
    try:
        if not (folder / "result.json").exists():
            inputs.write(run)
            _follow(run, folder, on_progress)
        result = json.loads((folder / "result.json").read_text())
        with transaction.atomic():
            made = register.result(run, result)
            _finish(run, Run.State.SUCCEEDED, result=result)
        register.follow_up(run, made)
    except _Failed as failure:
        _finish(run, Run.State.FAILED, error=str(failure), log_tail=_log_tail(folder, run.attempt))
    except Refused as refusal:
        _finish(run, Run.State.FAILED, error=str(refusal), log_tail=_log_tail(folder, run.attempt))
    except Exception as problem:
        log.exception("run %s failed outside its process", run.pk)
        sentence = _("Hone failed to carry out this run: %(problem)s.") % {"problem": problem}
        _finish(run, Run.State.FAILED, error=sentence, log_tail=_log_tail(folder, run.attempt))
    return True


def sweep() -> list[Run]:
    """Find runs that nobody works on: those queued for a while, and those whose heartbeat stopped.

    A run that lost its supervisor is queued again, or failed after its third attempt.

    :returns: the runs to ring for.
    """
    now = timezone.now()
    lost = Run.objects.filter(state=Run.State.RUNNING, heartbeat_at__lt=now - HEARTBEAT_LOST)
    lost.filter(attempt__lt=MAX_ATTEMPTS).update(state=Run.State.QUEUED)
    lost.update(
        state=Run.State.FAILED,
        finished_at=now,
        error=_("The run lost its worker %(count)d times and was given up.") % {"count": MAX_ATTEMPTS},
    )
    return list(Run.objects.filter(state=Run.State.QUEUED, created_at__lt=now - timedelta(seconds=30)))


def requeue_abandoned() -> list[Run]:
    """Queue again what the site's workers left when they were stopped; to be called when none of them lives.

    A run whose heart beat just now is somebody else's, and one whose process still holds its directory is not over.

    :returns: the runs to ring for: all that are queued.
    """
    silent = timezone.now() - timedelta(seconds=HEARTBEAT_SECONDS + 3)
    for run in Run.objects.filter(state=Run.State.RUNNING, heartbeat_at__lt=silent):
        if not is_held(run_folder(run)):
            _mine(run).update(state=Run.State.QUEUED)
    return list(Run.objects.filter(state=Run.State.QUEUED))


class _Failed(Exception):
    """The process ended without a result; the message is its last word."""


def _claim(run_id: uuid.UUID | str) -> Run | None:
    now = timezone.now()
    claimed = Run.objects.filter(pk=run_id, state=Run.State.QUEUED).update(
        state=Run.State.RUNNING,
        attempt=F("attempt") + 1,
        started_at=now,
        heartbeat_at=now,
        progress={},
        error="",
        log_tail="",
    )
    return (
        Run.objects.select_related("project", "generation", "snapshot", "reward_model").get(pk=run_id)
        if claimed
        else None
    )


def _mine(run: Run) -> Any:
    return Run.objects.filter(pk=run.pk, attempt=run.attempt, state=Run.State.RUNNING)


def _finish(run: Run, state: str, **fields: Any) -> None:
    if not _mine(run).update(state=state, finished_at=timezone.now(), **fields):
        raise RuntimeError(f"run {run.pk} was taken over by another worker")
    log.info("run %s attempt %d: %s %s", run.pk, run.attempt, state, fields.get("error", ""))


def _follow(run: Run, folder: Path, on_progress: OnProgress | None) -> None:
    """Start the process of a run and stay with it until it ends."""
    attempt = folder / f"attempt-{run.attempt}"
    attempt.mkdir(exist_ok=True)
    lease = folder / "lease"
    lease.touch()
    command = [sys.executable, "-m", MODULES[Run.Kind(run.kind)], "--run-dir", str(folder)]
    with open(attempt / "log.txt", "ab") as output:
        process = subprocess.Popen(
            [*command, "--attempt", str(run.attempt)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=_environment(),
        )
    log.info("run %s attempt %d: %s started as process %d", run.pk, run.attempt, run.kind, process.pid)
    lines = _Progress(attempt / "progress.jsonl")
    beat = 0.0
    try:
        while True:
            over = process.poll() is not None
            os.utime(lease)
            _record(run, lines.new(), folder, on_progress)
            if time.monotonic() - beat > HEARTBEAT_SECONDS:
                beat = time.monotonic()
                if not _mine(run).update(heartbeat_at=timezone.now()):
                    raise RuntimeError(f"run {run.pk} was taken over by another worker")
            if over:
                break
            time.sleep(POLL_SECONDS)
    finally:
        _end(process)
    if process.returncode != EXIT_DONE:
        raise _Failed(_last_word(folder, run.attempt, process.returncode))


def _environment() -> dict[str, str]:
    """The process's environment: ours without what only the web site may know."""
    hidden = ("SECRET_KEY", "DATABASE_URL", "CELERY_BROKER_URL", "DJANGO_SETTINGS_MODULE")
    return {**{k: v for k, v in os.environ.items() if k not in hidden}, "PYTHONUNBUFFERED": "1"}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that nothing of the process's group is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class _Progress:
    """Reads the whole lines that were added to a progress file since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._number = 0

    def new(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Pairs of line number and content."""
        try:
            with open(self._path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._number += 1
            yield self._number, json.loads(line)


def _record(
    run: Run, lines: Iterator[tuple[int, dict[str, Any]]], folder: Path, on_progress: OnProgress | None
) -> None:
    """Copy new lines of progress into the database and register what they announce."""
    events = [
        RunEvent(
            run=run,
            attempt=run.attempt,
            sequence=number,
            at=datetime.fromtimestamp(line["at"], UTC),
            stage=line["stage"][:40],
            done=line["done"],
            total=line["total"],
            message=line["message"],
            metrics=line["metrics"],
        )
        for number, line in lines
    ]
    if not events:
        return
    for event in events:
        if on_progress is not None:
            on_progress(event.stage, event.done, event.total, event.message)
        if "shard" in event.metrics:
            register.shard(run, folder / event.metrics["shard"])
    last = events[-1]
    RunEvent.objects.bulk_create(events, ignore_conflicts=True)
    _mine(run).update(
        progress={
            "stage": last.stage,
            "done": last.done,
            "total": last.total,
            "message": last.message,
            "metrics": last.metrics,
        },
        heartbeat_at=timezone.now(),
    )


def _last_word(folder: Path, attempt: int, status: int) -> str:
    """One sentence on why a process failed: its own error line where it wrote one."""
    lines = _log_tail(folder, attempt).splitlines()
    for line in reversed(lines):
        if line.startswith("error: "):
            return line.removeprefix("error: ")
    cause = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if status < 0:
        return _("The process was killed by signal %(signal)d. %(cause)s") % {"signal": -status, "cause": cause}
    return _("The process failed with status %(status)d: %(cause)s") % {"status": status, "cause": cause}


def _log_tail(folder: Path, attempt: int) -> str:
    try:
        text = (folder / f"attempt-{attempt}" / "log.txt").read_text(errors="replace").replace("\x00", "")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-LOG_LINES_KEPT:])
