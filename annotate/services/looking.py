"""What a recipe would freeze, counted and sampled without freezing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import QuerySet

from annotate.formats.writing.ranking import Ranking
from annotate.models import Comparison, JudgementRevision, Project
from annotate.services.recipe import Recipe
from annotate.services.rows import of_comparisons, of_revisions
from annotate.services.selection import LeftOut, select

SAMPLE = 3
"""Judged items, and imported pairs, whose rows are shown."""


@dataclass(frozen=True)
class Look:
    """What would go in."""

    judgements: int
    comparisons: int
    by_source: dict[str, int]
    by_split: dict[str, int]
    left_out: list[LeftOut]
    rows: list[Ranking]
    """Some of the rows."""

    @property
    def entries(self) -> int:
        """Judgements and comparisons together."""
        return self.judgements + self.comparisons


def look(project: Project, recipe: Recipe) -> Look:
    """Count what a recipe takes, and make the rows of the first few."""
    chosen = select(project, recipe)
    return Look(
        chosen.revisions.count(),
        chosen.comparisons.count(),
        chosen.by_source,
        chosen.by_split(),
        chosen.left_out,
        list(_rows(recipe, *_first(chosen.revisions, chosen.comparisons))),
    )


def _first(revisions: QuerySet[JudgementRevision], comparisons: QuerySet[Comparison]) -> tuple[list[int], list[int]]:
    """Numbers of all judgements of the first few items, and of the first few comparisons."""
    items = list(revisions.order_by("pk").values_list("judgement__item_id", flat=True)[:SAMPLE])
    of_items = revisions.filter(judgement__item__in=items).values_list("pk", flat=True)
    return list(of_items), list(comparisons.order_by("pk").values_list("pk", flat=True)[:SAMPLE])


def _rows(recipe: Recipe, revisions: list[int], comparisons: list[int]) -> Iterator[Ranking]:
    yield from of_revisions(JudgementRevision.objects.filter(pk__in=revisions), recipe, Counter())
    yield from of_comparisons(Comparison.objects.filter(pk__in=comparisons))
