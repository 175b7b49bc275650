"""What each rater of a project did, in figures.

A small project is measured as one looks. A large one is measured by a task from time to time, since means
over a million judgements take seconds; its figures come with their time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
from django.db import connection
from django.db.models import Aggregate, Avg, Count, F, FloatField, QuerySet
from django.db.models.functions import Now

from annotate.models import AnswerKey, Check, Flag, Judgement, JudgementRevision, Project, RaterFigures, Skip
from annotate.services import checks
from annotate.services.standing import due, is_large
from annotate.stats.intervals import share_interval

FEW = 20
"""Items below which a mean says little."""
WORK = """
SELECT rater_id, count(*), sum(ms)::bigint, percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)
FROM (
    SELECT judgement.rater_id, sum(revision.active_ms) AS ms
    FROM annotate_judgementrevision revision
    JOIN annotate_judgement judgement ON judgement.id = revision.judgement_id
    JOIN annotate_slot slot ON slot.id = judgement.slot_id
    WHERE slot.project_id = %s
    GROUP BY judgement.id
) AS judged
GROUP BY rater_id
"""
"""Of each rater: judgements, milliseconds at work on all their versions, and the median of a judgement's."""


class Median(Aggregate):
    """The middle value; of two middle ones their mean."""

    function = "PERCENTILE_CONT"
    template = "%(function)s(0.5) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = FloatField()


@dataclass(frozen=True)
class Share:
    """A mean agreement from 0 to 1 over n items; None where there are none."""

    mean: float | None
    n: int

    @property
    def interval(self) -> list[float] | None:
        """Its 95 % interval: Wilson's, which depends on mean and n alone."""
        return None if self.mean is None else share_interval(np.full(self.n, self.mean)).interval

    @property
    def few(self) -> bool:
        """Whether it is over so little that it says little."""
        return self.n < FEW


@dataclass(frozen=True)
class Figures:
    """A rater's judgements in a project, as they are now, and what they were held against."""

    judged: int = 0
    total_ms: int = 0
    median_ms: float | None = None
    gold_mean: float | None = None
    gold_n: int = 0
    self_mean: float | None = None
    self_n: int = 0
    flags: int = 0
    skips: int = 0

    @property
    def with_gold(self) -> Share:
        """Agreement with the keys of gold items."""
        return Share(self.gold_mean, self.gold_n)

    @property
    def with_self(self) -> Share:
        """Agreement with the rater's own earlier judgements under the same instructions."""
        return Share(self.self_mean, self.self_n)


@dataclass(frozen=True)
class Measured:
    """The figures of a project's raters by their numbers, and when they were taken; None for just now."""

    by_rater: Mapping[int, Figures]
    at: datetime | None


def of(project: Project) -> Measured:
    """The figures of a project's raters."""
    stored = list(RaterFigures.objects.filter(project=project))
    if not stored:
        return Measured(_measure(project), None)
    fields = Figures.__dataclass_fields__
    by_rater = {row.rater_id: Figures(**{name: getattr(row, name) for name in fields}) for row in stored}
    return Measured(by_rater, min(row.at for row in stored))


def measure_again() -> None:
    """Measure every large project whose figures are old for what measuring takes."""
    for project in due(RaterFigures.objects.all()):
        if is_large(project):
            _store(project)


def current(project: Project) -> QuerySet[JudgementRevision]:
    """The judgements of a project as they are now."""
    return JudgementRevision.objects.filter(judgement__slot__project=project, number=F("judgement__version"))


def _store(project: Project) -> None:
    """Put new figures in the place of the old ones; of two tasks at once the later one's stay."""
    began = time.monotonic()
    figures = _measure(project)
    shared = {"project": project, "seconds": time.monotonic() - began}
    RaterFigures.objects.bulk_create(
        (RaterFigures(rater_id=rater, **asdict(each), **shared, at=Now()) for rater, each in figures.items()),
        update_conflicts=True,
        unique_fields=["project", "rater"],
        update_fields=[*Figures.__dataclass_fields__, "seconds", "at"],
    )


def _measure(project: Project) -> dict[int, Figures]:
    judged = Judgement.objects.filter(slot__project=project)
    held = Check.objects.filter(judgement__in=judged)
    gold = held.filter(checks.COUNTING, key__use=AnswerKey.Use.GOLD)
    again = checks.repeats(judged)
    flagged = Flag.objects.filter(revision__judgement__in=judged, revision__number=F("revision__judgement__version"))
    skipped = Skip.objects.filter(slot__project=project)
    items = Count("judgement__item", distinct=True)
    found = _work(project)
    for records, rater, sums in (
        (gold, "judgement__rater", {"gold_mean": Avg("agreement"), "gold_n": items}),
        (again, "judgement__rater", {"self_mean": Avg("agreement"), "self_n": items}),
        (flagged, "revision__judgement__rater", {"flags": Count("pk")}),
        (skipped, "rater", {"skips": Count("pk")}),
    ):
        for row in records.order_by().values(rater).annotate(**sums):
            found.setdefault(row.pop(rater), {}).update(row)
    return {rater: Figures(**each) for rater, each in found.items()}


def _work(project: Project) -> dict[int, dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(WORK, [project.pk])
        return {
            rater: {"judged": judged, "total_ms": total, "median_ms": median}
            for rater, judged, total, median in cursor.fetchall()
        }
