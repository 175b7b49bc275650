"""Where raters and projects stand: how much is judged, by whom.

A small project is counted as one looks. A large one is counted by a task from time to time; what its
raters judged since is added to their own figure, and the project's share may be a few minutes old. A
judgement whose transaction was open while the task counted may be left out until it counts again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, DurationField, ExpressionWrapper, F, Max, Q, QuerySet, Value
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
    """Progress of one rater and of the project."""
    key = {"user": user.pk, "project": project.pk}
    counted = {tally.rater_id: tally for tally in _counted(**key)}
    if whole := counted.get(None):
        since = dict(_since_of_one.rows(**key, last=whole.through))
        return _of_large(whole, counted.get(user.pk), since)
    return _of_small(user, [project], _slots_of_one.rows(**key))[project.pk]


def standings(*, user: User, projects: Collection[Project]) -> dict[int, Standing]:
    """The same of several projects, by their numbers; as many queries for many as for few."""
    counted = Tally.objects.filter(Q(rater=user) | Q(rater__isnull=True), project__in=projects)
    tallies = {(tally.project_id, tally.rater_id): tally for tally in counted}
    large = {project: whole for (project, rater), whole in tallies.items() if rater is None}
    small = [project for project in projects if project.pk not in large]
    found = _of_small(user, small, _slots(user.pk, [project.pk for project in small]))
    since = dict(_together([_judged_since(user.pk, project, whole.through) for project, whole in large.items()]))
    return found | {
        project: _of_large(whole, tallies.get((project, user.pk)), since) for project, whole in large.items()
    }


def _of_large(whole: Tally, own: Tally | None, since: Mapping[int, int]) -> Standing:
    """The standing in a project that a task has counted.

    :param own: the count of the rater's judgements then; None where there were none.
    :param since: how many they have made since, by project.
    """
    return Standing(since.get(whole.project_id, 0) + (own.done if own else 0), whole.done, whole.total)


def _of_small(user: User, projects: Collection[Project], slots: Iterable[Any]) -> dict[int, Standing]:
    """The standings in projects that are counted now.

    Where gold items or repeats are mixed in, they must not be told from others by a figure that they leave
    unchanged. So all that a rater judged counts as theirs, and what they judged moves the project's share
    only ten at a time.

    :param slots: what :func:`_slots` finds for them.
    """
    found = {project.pk: Standing(0, 0, 0) for project in projects}
    found |= {project: Standing(mine, done, total) for project, mine, done, total in slots}
    mixing = {project.pk: found[project.pk].mine for project in projects if project.gold_rate or project.repeat_rate}
    recent = _recent(user, mixing)
    return {project: replace(standing, recent=recent[project]) for project, standing in found.items()}


def _slots(user: int, projects: Sequence[int]) -> QuerySet[Slot, Any]:
    """By project: how many slots the rater has judged, how many are done of those that count, how many count."""
    return (
        Slot.objects.filter(project__in=projects)
        .order_by()
        .values_list("project")
        .annotate(
            mine=Count("pk", filter=Q(DONE, rater=user)),
            done=Count("pk", filter=COUNTED & DONE),
            total=Count("pk", filter=COUNTED),
        )
    )


def _judged_since(user: int, project: int, last: int) -> QuerySet[Judgement, Any]:
    """A project's number, and how many judgements the rater made in it after the one with the number `last`."""
    judged = Judgement.objects.filter(rater=user, slot__project=project, pk__gt=last)
    return judged.order_by().values_list("slot__project").annotate(n=Count("pk"))


_slots_of_one = Prepared(lambda user, project: _slots(user, [project]))
_since_of_one = Prepared(_judged_since)


def _counted_now(project: Project) -> Counts:
    slots = Slot.objects.filter(COUNTED, project=project)
    return Counts(**slots.aggregate(done=Count("pk", filter=DONE), total=Count("pk")))


def _recent(user: User, mine: Mapping[int, int]) -> Counter[int]:
    """Of the last judgements in projects, as many as are over a full ten, those that count.

    :param mine: how many the rater has made, by project.
    """
    latest = Judgement.objects.filter(rater=user).order_by("-pk")
    of_each = [
        latest.filter(slot__project=project).values_list("slot__project", "slot__purpose")[: count % SHOWN_AT_ONCE]
        for project, count in mine.items()
        if count % SHOWN_AT_ONCE
    ]
    return Counter(project for project, purpose in _together(of_each) if purpose in (Purpose.COLLECT, Purpose.EVALUATE))


def _together(queries: Sequence[QuerySet[Any, Any]]) -> Iterable[Any]:
    """The rows of all of them by one query."""
    return queries[0].union(*queries[1:], all=True) if queries else []


def count_again() -> None:
    """Count every large project whose last count is old for its size."""
    for project in due(Tally.objects.filter(rater__isnull=True)):
        _count(project.pk)


def due(counted: QuerySet[Any]) -> QuerySet[Project]:
    """Projects that have not been counted, or so long ago that it may be done again.

    :param counted: rows of counts, with their ``project``, the ``seconds`` that it took, and ``at`` which time.
    """
    rest = ExpressionWrapper(F("seconds") * RESTS * Value(timedelta(seconds=1)), output_field=DurationField())
    fresh = Q(at__gt=Now() - LEAST_REST) | Q(at__gt=Now() - rest)
    return Project.objects.exclude(pk__in=counted.filter(fresh).values("project"))


def is_large(project: Project) -> bool:
    """Whether a project has so many slots that nobody waits for them to be counted."""
    return Slot.objects.filter(COUNTED, project=project)[COUNTED_AT_ONCE:].exists()


def _count(number: int) -> None:
    began = time.monotonic()
    with transaction.atomic():
        with connection.cursor() as cursor:
            # One look at everything: the counts and the judgement up to which they reach belong together.
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        held = Project.objects.select_for_update(no_key=True, skip_locked=True)
        project = held.filter(pk=number).first()
        if project is None or not is_large(project):
            return
        through = Judgement.objects.aggregate(latest=Max("pk"))["latest"] or 0
        now = _counted_now(project)
        raters = Slot.objects.filter(DONE, project=project).order_by().values_list("rater").annotate(done=Count("pk"))
        shared = {"project": project, "through": through, "seconds": time.monotonic() - began}
        Tally.objects.filter(project=project).delete()
        Tally.objects.create(done=now.done, total=now.total, **shared)
        Tally.objects.bulk_create(Tally(rater_id=rater, done=done, **shared) for rater, done in raters)
