"""What pages ask for and a light worker makes: asked for, carried out, cancelled, begun again where it was lost.

What is made is written in :mod:`annotate.services.makers`. A maker works in one transaction and leaves no part of a
file behind, so that nothing is ever half done. One task of the site is worked on at a time; the others wait.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from contextlib import nullcontext
from typing import Any

from django.db import OperationalError, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils import translation
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from psycopg.errors import DiskFull

from annotate.models import BackgroundTask, Project, User
from annotate.services import Conflict, Refused, audit
from annotate.services.heartbeat import beating, unattended
from annotate.services.makers import AT_A_MOMENT_OF_THEIR_OWN, MAKERS

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
ACTIVE = [BackgroundTask.State.QUEUED, BackgroundTask.State.RUNNING]


def ask(*, project: Project, kind: str, asked: dict[str, Any], actor: User | None) -> BackgroundTask:
    """Have something made by a worker.

    :param kind: one of the makers.
    :param asked: what of it, as plain values.
    :returns: the task; the one that is at work already where the same was asked for before.
    """
    key = hashlib.sha256(json.dumps([kind, asked], sort_keys=True).encode()).hexdigest()
    made = {"kind": kind, "asked": asked, "created_by": actor, "language": get_language() or "en"}
    task, _new = project.background_tasks.get_or_create(key=key, state__in=ACTIVE, defaults=made)
    call_worker(task)
    return task


def cancel(*, task: BackgroundTask, actor: User) -> None:
    """Have a task stopped; what it has done so far is taken back.

    :raises Conflict: when it has ended already.
    """
    with transaction.atomic():
        still = BackgroundTask.objects.filter(pk=task.pk, state__in=ACTIVE)
        if not still.update(cancel_requested=True):
            raise Conflict(_("It has ended already: reload the page to see how."))
        BackgroundTask.objects.filter(pk=task.pk, state=BackgroundTask.State.QUEUED).update(**_ended("cancelled"))
        audit.record("cancelled", task, actor=actor, project=task.project, kind=task.kind)


def carry_on(pk: int) -> None:
    """Make what a task asks for, unless somebody is at it, or at another one; then ring for the next."""
    at_work = BackgroundTask.objects.filter(state=BackgroundTask.State.RUNNING).exclude(unattended())
    if at_work.exists():
        return  # whoever is at it rings again, and so does the sweep
    claimed = BackgroundTask.objects.filter(unattended(), pk=pk, state__in=ACTIVE, cancel_requested=False)
    claim = {"state": BackgroundTask.State.RUNNING, "attempt": F("attempt") + 1, "heartbeat_at": Now(), "done": 0}
    if not claimed.update(**claim):
        return
    task = BackgroundTask.objects.select_related("project", "created_by").get(pk=pk)
    with translation.override(task.language):
        _work(task)
    for waiting in sweep():
        call_worker(waiting)


def sweep() -> list[BackgroundTask]:
    """Find tasks that nobody works on; one that was lost three times has failed.

    :returns: the one to ring for, if any.
    """
    lost = BackgroundTask.objects.filter(unattended(), state=BackgroundTask.State.RUNNING)
    lost.filter(cancel_requested=True).update(**_ended(BackgroundTask.State.CANCELLED))
    error = _("It lost its worker %(count)d times and was given up.") % {"count": MAX_ATTEMPTS}
    lost.filter(attempt__gte=MAX_ATTEMPTS).update(**_ended(BackgroundTask.State.FAILED), error=error)
    return list(BackgroundTask.objects.filter(unattended(), state__in=ACTIVE).order_by("created_at", "pk")[:1])


def call_worker(task: BackgroundTask) -> None:
    """Tell the workers that a task waits, once the current transaction is committed."""
    from annotate.tasks import make

    def ring() -> None:
        try:
            make.delay(task.pk)
        except make.OperationalError:
            log.warning("The broker cannot be reached; %s waits for the next sweep.", task)

    transaction.on_commit(lambda: threading.Thread(target=ring, daemon=True).start())


class _Gone(Exception):
    """The task was cancelled, or somebody else has claimed it meanwhile."""


def _work(task: BackgroundTask) -> None:
    """Make what a claimed task asks for, or say why it could not be."""
    try:
        _make(task)
    except _Gone:
        _mine(task).filter(cancel_requested=True).update(**_ended(BackgroundTask.State.CANCELLED))
    except Refused as refusal:
        _fail(task, str(refusal))
    except Exception as problem:
        if isinstance(problem, OperationalError) and isinstance(problem.__cause__, DiskFull):
            _fail(task, _("The database's disk is full; nothing was changed."))
        else:
            log.exception("%s failed", task)
            _fail(task, _("Hone failed to carry this out: %(problem)s.") % {"problem": problem})


def _make(task: BackgroundTask) -> None:
    fields: dict[str, Any] = {"stage": "", "done": 0, "total": 0}
    with beating(_mine(task).filter(cancel_requested=False), fields) as gone:

        def on_progress(stage: str, done: int, total: int) -> None:
            fields.update(stage=stage, done=done, total=total)
            if gone.is_set():
                raise _Gone

        with nullcontext() if task.kind in AT_A_MOMENT_OF_THEIR_OWN else transaction.atomic():
            result = MAKERS[task.kind](task.project, task.asked, task.created_by, on_progress)
            ended = _ended(BackgroundTask.State.DONE)
            if not _mine(task).filter(cancel_requested=False).update(**ended, result=result):
                raise _Gone


def _mine(task: BackgroundTask) -> QuerySet[BackgroundTask]:
    """The task's row, as long as this attempt is the one that works on it."""
    return BackgroundTask.objects.filter(pk=task.pk, attempt=task.attempt, state=BackgroundTask.State.RUNNING)


def _fail(task: BackgroundTask, error: str) -> None:
    _mine(task).update(**_ended(BackgroundTask.State.FAILED), error=error)


def _ended(state: str) -> dict[str, Any]:
    return {"state": state, "heartbeat_at": None, "finished_at": Now()}
