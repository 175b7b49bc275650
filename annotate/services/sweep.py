"""Finding runs that nobody works on. Heartbeats and their age are by the database's clock alone."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import F
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.models import Run
from annotate.services.execute import MAX_ATTEMPTS
from annotate.services.files import run_folder
from annotate.services.follow import BEAT_SECONDS, mine
from rewardmodel.rundir import is_held


def sweep() -> list[Run]:
    """Find runs that nobody works on: those queued for a while, and those whose heartbeat stopped.

    A run that lost its supervisor is queued again, or failed after its third attempt; one that was
    being cancelled is cancelled.

    :returns: the runs to ring for.
    """
    lost_after = timedelta(seconds=settings.HONE_RUN_LOST_SECONDS)
    lost = Run.objects.filter(state=Run.State.RUNNING, heartbeat_at__lt=Now() - lost_after)
    lost.filter(cancel_requested=True).update(state=Run.State.CANCELLED, finished_at=Now())
    counted = {"attempts_lost": F("attempts_lost") + 1}
    lost.filter(attempts_lost__lt=MAX_ATTEMPTS - 1).update(state=Run.State.QUEUED, **counted)
    lost.update(
        state=Run.State.FAILED,
        finished_at=Now(),
        error=_("The run lost its worker %(count)d times and was given up.") % {"count": MAX_ATTEMPTS},
        **counted,
    )
    return list(Run.objects.filter(state=Run.State.QUEUED, created_at__lt=Now() - lost_after / 3))


def requeue_abandoned() -> list[Run]:
    """Queue again what the site's workers left when they were stopped; to be called when none of them lives.

    A run whose heart beat just now is somebody else's, and one whose process still holds its directory is not over.

    :returns: the runs to ring for: all that are queued.
    """
    silent = Now() - timedelta(seconds=3 * BEAT_SECONDS)
    for run in Run.objects.filter(state=Run.State.RUNNING, heartbeat_at__lt=silent):
        if not is_held(run_folder(run)):
            mine(run).update(state=Run.State.QUEUED)
    return list(Run.objects.filter(state=Run.State.QUEUED))
