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

from django.db.models import Aggregate, Avg, Count, F, FloatField, QuerySet, Sum
from django.db.models.functions import Now

from annotate.models import AnswerKey, Check, Flag, Judgement, JudgementRevision, Project, RaterFigures, Skip
from annotate.services import checks
from annotate.services.standing import due, is_large

FEW = 20
"""Judgements below which a mean says little."""


class Median(Aggregate):
    """The middle value; of two middle ones their mean."""

    function = "PERCENTILE_CONT"
    template = "%(function)s(0.5) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = FloatField()


@dataclass(frozen=True)
class Share:
    """A mean agreement from 0 to 1 over n judgements; None where there are none."""

    mean: float | None
    n: int

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
        """Agreement with the rater's own earlier judgements."""
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
    again = held.filter(earlier__isnull=False)
    flagged = Flag.objects.filter(revision__judgement__in=judged, revision__number=F("revision__judgement__version"))
    skipped = Skip.objects.filter(slot__project=project)
    work = {"judged": Count("pk"), "total_ms": Sum("active_ms"), "median_ms": Median("active_ms")}
    found: dict[int, dict[str, Any]] = {}
    for records, rater, sums in (
        (current(project), "judgement__rater", work),
        (gold, "judgement__rater", {"gold_mean": Avg("agreement"), "gold_n": Count("pk")}),
        (again, "judgement__rater", {"self_mean": Avg("agreement"), "self_n": Count("pk")}),
        (flagged, "revision__judgement__rater", {"flags": Count("pk")}),
        (skipped, "rater", {"skips": Count("pk")}),
    ):
        for row in records.order_by().values(rater).annotate(**sums):
            found.setdefault(row.pop(rater), {}).update(row)
    return {rater: Figures(**each) for rater, each in found.items()}
