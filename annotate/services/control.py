"""Stopping a run, and going on with one that ended early."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.models import Run, User
from annotate.services import Conflict, Refused, audit, space
from annotate.services.files import resume_step
from annotate.services.runs import call_worker


def cancel(*, run: Run, actor: User | None) -> Run:
    """End a run: at once while it waits, in order and within seconds while it works.

    What it has saved stays, so it can be resumed. The worker that has it sees the flag and asks the
    process to stop; nothing is sent to the worker.

    :returns: the row as it is now.
    :raises Conflict: when it is over.
    """
    with transaction.atomic():
        run = Run.objects.select_for_update().get(pk=run.pk)
        if not run.active:
            raise Conflict(_("This run is over; there is nothing to cancel."))
        if run.state == Run.State.QUEUED:
            run.state = Run.State.CANCELLED
            run.finished_at = Now()
        run.cancel_requested = True
        run.save(update_fields=["state", "finished_at", "cancel_requested"])
        audit.record("cancelled", run, actor=actor, project=run.project)
    run.refresh_from_db()
    return run


def resume(*, run: Run, actor: User | None, ring: bool = True) -> Run:
    """Queue a failed or cancelled run again; it goes on from its last checkpoint.

    :param ring: whether to call a worker; False leaves the run to the caller.
    :returns: the row as it is now.
    :raises Conflict: when it did not end early, or another of its kind is active.
    :raises Refused: when the disk has no room for it.
    """
    return _again(run, actor, "resumed", ring=ring, settle=False)


def settle(*, run: Run, actor: User | None, ring: bool = True) -> Run:
    """Queue a training that ended early again, only to make a result of what its last checkpoint holds.

    :param ring: whether to call a worker; False leaves the run to the caller.
    :returns: the row as it is now.
    :raises Conflict: when it did not end early, or another of its kind is active.
    :raises Refused: when it has no checkpoint, or the disk has no room for it.
    """
    if not can_settle(run):
        raise Refused(_("This run has saved nothing that could be its result."))
    return _again(run, actor, "settled", ring=ring, settle=True)


def can_settle(run: Run) -> bool:
    """Whether a run is a training that has saved something which could be its result."""
    return run.kind in (Run.Kind.TRAIN_REWARD, Run.Kind.IMPROVE) and resume_step(run) is not None


def _again(run: Run, actor: User | None, action: str, *, ring: bool, settle: bool) -> Run:
    """Queue a run that ended early again.

    :param settle: whether it is only to make a result of its last checkpoint.
    """
    space.check(run.kind, run.job)
    try:
        with transaction.atomic():
            run = Run.objects.select_for_update().get(pk=run.pk)
            if not run.ended_early:
                raise Conflict(_("Only a run that failed or was cancelled can be resumed."))
            run.state, run.finished_at, run.error = Run.State.QUEUED, None, ""
            run.cancel_requested, run.attempts_lost = False, 0
            run.selection["settle"] = settle
            run.save(update_fields=["state", "finished_at", "error", "cancel_requested", "attempts_lost", "selection"])
            audit.record(action, run, actor=actor, project=run.project)
            if ring:
                call_worker(run)
    except IntegrityError as problem:
        if "run_key_active_once" in str(problem):
            kind = run.get_kind_display()
            raise Conflict(_("“%(kind)s” is already queued or running in this project.") % {"kind": kind}) from problem
        raise
    return run
