"""Carrying out a run: claim it, have its process do the work, register what it made.

The exit status and ``result.json`` decide how the run ended. Every update of the row is conditional
on the attempt that was claimed, so a supervisor that was given up for dead can change nothing any
more. All times are those of the database's clock: workers' clocks may be wrong.
"""

from __future__ import annotations

import logging
import time
import uuid
from pathlib import Path
from typing import Any

from django.db import InterfaceError, OperationalError, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.models import Run
from annotate.observe import context
from annotate.services import Refused, inputs, register, space
from annotate.services.files import remove_checkpoints, run_folder
from annotate.services.follow import Ending, OnProgress, TakenOver, follow, log_tail, mine, worker_stopping
from annotate.services.runs import call_worker
from rewardmodel.publish import is_disk_full
from rewardmodel.rundir import EXIT_DISK_FULL, EXIT_DONE, EXIT_RESUMABLE, is_held

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""Attempts that may be lost to a killed worker or process."""
AGAIN_SECONDS = 1.0


def execute(run_id: uuid.UUID | str, on_progress: OnProgress | None = None) -> bool:
    """Carry out a queued run to the end of an attempt.

    :param on_progress: called for each new line of progress.
    :returns: False when somebody else has claimed it, or it is over.
    """
    run = _claim(run_id)
    if run is None:
        return False
    with context.bound(run_id=str(run.pk), attempt=run.attempt):
        _attempt(run, on_progress)
    return True


def carry_out(run: Run, on_progress: OnProgress | None = None) -> bool:
    """Carry out a queued run here, however many attempts it takes; the row is read anew.

    :returns: False when a worker has claimed it.
    """
    while execute(run.pk, on_progress):
        run.refresh_from_db()
        if run.state != Run.State.QUEUED:
            return True
        time.sleep(AGAIN_SECONDS)
    return False


def _attempt(run: Run, on_progress: OnProgress | None) -> None:
    folder = run_folder(run)
    try:
        if not (folder / "result.json").exists():
            if is_held(folder):
                # A process that lost its supervisor and has not noticed yet: the sweeper rings again.
                _leave(run, Run.State.QUEUED)
                return
            space.check(run.kind, run.job)
            inputs.prepare(run)
            ending = follow(run, on_progress)
            if ending.status != EXIT_DONE:
                _end_without_result(run, ending)
                return
        _succeed(run)
    except TakenOver:
        log.warning("run %s attempt %d was taken over", run.pk, run.attempt)
    except Refused as refusal:
        _fail(run, str(refusal))
    except KeyboardInterrupt:
        _leave(run, Run.State.CANCELLED, finished_at=Now())
        raise
    except (OperationalError, InterfaceError):
        raise  # the row cannot be reached: the sweeper finds the run, and its result where there is one
    except OSError as problem:
        _fail(run, _disk_full(folder) if is_disk_full(problem) else _unforeseen(run, problem))
    except Exception as problem:
        _fail(run, _unforeseen(run, problem))


def _claim(run_id: uuid.UUID | str) -> Run | None:
    claimed = Run.objects.filter(pk=run_id, state=Run.State.QUEUED).update(
        state=Run.State.RUNNING,
        attempt=F("attempt") + 1,
        started_at=Now(),
        heartbeat_at=Now(),
        progress={},
        error="",
        log_tail="",
    )
    if not claimed:
        return None
    return Run.objects.select_related("project", "generation", "snapshot", "reward_model").get(pk=run_id)


def _succeed(run: Run) -> None:
    """Register the result in the transaction that ends the run; then its checkpoints are of no use any more."""
    result = register.read_result(run)
    with transaction.atomic():
        made = register.result(run, result)
        if not mine(run).update(state=Run.State.SUCCEEDED, finished_at=Now(), result=result, cancel_requested=False):
            raise TakenOver
    log.info("run %s attempt %d: succeeded", run.pk, run.attempt)
    remove_checkpoints(run_folder(run))
    register.follow_up(run, made)


def _end_without_result(run: Run, ending: Ending) -> None:
    """Decide by how its process ended what becomes of a run."""
    stopped = ending.status == EXIT_RESUMABLE or ending.asked
    if stopped and mine(run).filter(cancel_requested=True).exists():
        _leave(run, Run.State.CANCELLED, finished_at=Now())
    elif stopped:
        _leave(run, Run.State.QUEUED)
        if worker_stopping.is_set():
            call_worker(run)
    elif ending.status < 0 and run.attempts_lost + 1 < MAX_ATTEMPTS:
        _leave(run, Run.State.QUEUED, attempts_lost=F("attempts_lost") + 1)
        call_worker(run)
    else:
        _fail(run, _last_word(run, ending.status))


def _leave(run: Run, state: str, **fields: Any) -> None:
    """End an attempt without an error."""
    mine(run).update(state=state, **fields)
    log.info("run %s attempt %d: %s", run.pk, run.attempt, state)


def _fail(run: Run, error: str) -> None:
    folder = run_folder(run)
    tail = log_tail(folder, run.attempt)
    mine(run).update(state=Run.State.FAILED, finished_at=Now(), error=error, log_tail=tail, cancel_requested=False)
    log.info("run %s attempt %d: failed: %s", run.pk, run.attempt, error)


def _last_word(run: Run, status: int) -> str:
    """One sentence on why a process failed: its own error line where it wrote one."""
    if status == EXIT_DISK_FULL:
        return _disk_full(run_folder(run))
    lines = log_tail(run_folder(run), run.attempt).splitlines()
    for line in reversed(lines):
        if line.startswith("error: "):
            return line.removeprefix("error: ")
    cause = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if status < 0:
        return _("The process was killed by signal %(signal)d, %(count)d times. %(cause)s") % {
            "signal": -status,
            "count": run.attempts_lost + 1,
            "cause": cause,
        }
    return _("The process failed with status %(status)d: %(cause)s") % {"status": status, "cause": cause}


def _disk_full(folder: Path) -> str:
    return _("The disk of %(folder)s is full. What was saved before is whole: make room, then resume the run.") % {
        "folder": folder
    }


def _unforeseen(run: Run, problem: Exception) -> str:
    log.exception("run %s failed outside its process", run.pk)
    return _("Hone failed to carry out this run: %(problem)s.") % {"problem": problem}
