"""Where raters and projects stand: how much is judged, by whom.

A small project is counted as one looks. A large one is counted by a task from time to time; what its
raters judged since is added to their own figure, and the project's share may be a few minutes old. A
judgement whose transaction was open while the task counted may be left out until it counts again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from django.db import connection, transaction
from django.db.models import Count, DurationField, ExpressionWrapper, F, Max, Q, Value
from django.db.models.functions import Now

from annotate.models import Judgement, Project, Purpose, Slot, Tally, User
from annotate.models.judgements import COUNTED
from annotate.prepared import Prepared

COUNTED_AT_ONCE = 5_000
"""Slots of a project that is counted as one looks."""
RESTS = 100
"""A project is counted again after so many times the seconds that it took, and not before ``LEAST_REST``."""
LEAST_REST = timedelta(seconds=20)
SHOWN_AT_ONCE = 10

DONE = Q(state=Slot.State.DONE)
_counted = Prepared(lambda user, project: Tally.objects.filter(Q(rater=user) | Q(rater__isnull=True), project=project))


@dataclass(frozen=True)
class Counts:
    """Slots of a project that count."""

    done: int
    total: int


@dataclass(frozen=True)
class Standing:
    """Where a rater and a project stand."""

    mine: int
    """The rater's judgements, whatever they were for."""
    done: int
    """Slots that count and are done."""
    total: int
    recent: int = 0
    """Of the done ones those that the rater's own figure leaves out for now."""

    @property
    def percent(self) -> int:
        """How much of the project is done, as its raters see it."""
        return 100 * (self.done - self.recent) // self.total if self.done < self.total else 100 if self.total else 0


def counts(project: Project) -> Counts:
    """How far a project is."""
    tally = Tally.objects.filter(project=project, rater__isnull=True).first()
    return Counts(tally.done, tally.total) if tally else _counted_now(project)


def standing(*, user: User, project: Project) -> Standing:
    """Progress of one rater and of the project.

    Where gold items or repeats are mixed in, they must not be told from others by a figure that they leave
    unchanged. So all that a rater judged counts as theirs, and what they judged moves the project's share
    only ten at a time.
    """
    tallies = {tally.rater_id: tally for tally in _counted(user=user.pk, project=project.pk)}
    whole, own = tallies.get(None), tallies.get(user.pk)
    if whole is None:
        now = _counted_now(project)
        mine = Slot.objects.filter(DONE, project=project, rater=user).count()
        return Standing(mine, now.done, now.total, recent=_recent(user, project, mine))
    since = Judgement.objects.filter(pk__gt=whole.through, rater=user, slot__project=project).count()
    mine = since + (own.done if own else 0)
    return Standing(mine, whole.done, whole.total)


def _counted_now(project: Project) -> Counts:
    slots = Slot.objects.filter(COUNTED, project=project)
    return Counts(**slots.aggregate(done=Count("pk", filter=DONE), total=Count("pk")))


def _recent(user: User, project: Project, mine: int) -> int:
    if not (project.gold_rate or project.repeat_rate):
        return 0
    latest = Judgement.objects.filter(rater=user, slot__project=project).order_by("-pk")
    purposes = latest.values_list("slot__purpose", flat=True)[: mine % SHOWN_AT_ONCE]
    return sum(purpose in (Purpose.COLLECT, Purpose.EVALUATE) for purpose in purposes)


def count_again() -> None:
    """Count every large project whose last count is old for its size."""
    rest = ExpressionWrapper(F("seconds") * RESTS * Value(timedelta(seconds=1)), output_field=DurationField())
    fresh = Q(at__gt=Now() - LEAST_REST) | Q(at__gt=Now() - rest)
    resting = Tally.objects.filter(fresh, rater__isnull=True).values("project")
    for project in Project.objects.exclude(pk__in=resting).values_list("pk", flat=True):
        _count(project)


def _count(number: int) -> None:
    began = time.monotonic()
    with transaction.atomic():
        with connection.cursor() as cursor:
            # One look at everything: the counts and the judgement up to which they reach belong together.
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        held = Project.objects.select_for_update(no_key=True, skip_locked=True)
        project = held.filter(pk=number).first()
        if project is None or not Slot.objects.filter(COUNTED, project=project)[COUNTED_AT_ONCE:].exists():
            return
        through = Judgement.objects.aggregate(latest=Max("pk"))["latest"] or 0
        now = _counted_now(project)
        raters = Slot.objects.filter(DONE, project=project).order_by().values_list("rater").annotate(done=Count("pk"))
        shared = {"project": project, "through": through, "seconds": time.monotonic() - began}
        Tally.objects.filter(project=project).delete()
        Tally.objects.create(done=now.done, total=now.total, **shared)
        Tally.objects.bulk_create(Tally(rater_id=rater, done=done, **shared) for rater, done in raters)
