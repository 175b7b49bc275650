"""What a recipe would freeze, counted and sampled without freezing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from annotate.formats.writing.ranking import Ranking
from annotate.models import Comparison, Demonstration, JudgementRevision, Project, RankedList
from annotate.services.recipe import Recipe
from annotate.services.rows import of_comparisons, of_demonstrations, of_ranked_lists, of_revisions
from annotate.services.selection import LeftOut, Selection, select

SAMPLE = 3
"""Judged items, and imported records of each kind, whose rows are shown."""


@dataclass(frozen=True)
class Look:
    """What would go in."""

    judgements: int
    comparisons: int
    ranked_lists: int
    demonstrations: int
    by_source: dict[str, int]
    by_split: dict[str, int]
    left_out: list[LeftOut]
    rows: list[Ranking]
    """Some of the rows."""

    @property
    def entries(self) -> int:
        """All of them together."""
        return self.judgements + self.comparisons + self.ranked_lists + self.demonstrations


def look(project: Project, recipe: Recipe) -> Look:
    """Count what a recipe takes, and make the rows of the first few of each kind."""
    chosen = select(project, recipe)
    return Look(
        chosen.revisions.count(),
        chosen.comparisons.count(),
        chosen.ranked_lists.count(),
        chosen.demonstrations.count(),
        chosen.by_source,
        chosen.by_split(),
        chosen.left_out,
        list(_rows(recipe, chosen)),
    )


def _rows(recipe: Recipe, chosen: Selection) -> Iterator[Ranking]:
    """The rows of all judgements of the first few items, and of the first few of what was imported."""
    items = list(chosen.revisions.order_by("pk").values_list("judgement__item_id", flat=True)[:SAMPLE])
    of_items = chosen.revisions.filter(judgement__item__in=items)
    yield from of_revisions(JudgementRevision.objects.filter(pk__in=_numbers(of_items)), recipe, Counter())
    yield from of_comparisons(Comparison.objects.filter(pk__in=_numbers(chosen.comparisons, SAMPLE)))
    ranked = RankedList.objects.filter(pk__in=_numbers(chosen.ranked_lists, SAMPLE))
    yield from of_ranked_lists(ranked, recipe, Counter())
    yield from of_demonstrations(Demonstration.objects.filter(pk__in=_numbers(chosen.demonstrations, SAMPLE)))


def _numbers(records: QuerySet[Any], most: int | None = None) -> list[int]:
    return list(records.order_by("pk").values_list("pk", flat=True)[:most])
