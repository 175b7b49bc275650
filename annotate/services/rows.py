"""A snapshot's rankings, made again from the revisions and comparisons that it lists, in constant memory.

Judgements come first, by number (by item, where raters are taken together), then imported comparisons by number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby, islice

from django.db.models import QuerySet

from annotate.formats.writing.ranking import Ranking
from annotate.models import Comparison, JudgementRevision, Snapshot
from annotate.services.aggregation import rankings_of_item, reliabilities
from annotate.services.judged import Said, rankings_of, said_by
from annotate.services.recipe import Recipe, recipe_of

CHUNK = 2000
"""Records that are read at once."""
COLUMNS = (
    *("pk", "prompt_id", "prompt__split", "prompt__messages", "chosen_id", "chosen__text", "rejected_id"),
    *("rejected__text", "source", "strength", "batch"),
    *("chosen__generation__number", "rejected__generation__number"),
)


def rankings(snapshot: Snapshot, left_out: Counter[str] | None = None) -> Iterator[Ranking]:
    """A snapshot's rankings.

    :param left_out: counts answers by the reason why the recipe leaves them out.
    """
    recipe, _form = recipe_of(snapshot.recipe)
    revisions = JudgementRevision.objects.filter(snapshotrevision__snapshot=snapshot)
    yield from of_revisions(revisions, recipe, Counter() if left_out is None else left_out)
    yield from of_comparisons(Comparison.objects.filter(snapshotcomparison__snapshot=snapshot))


def of_revisions(revisions: QuerySet[JudgementRevision], recipe: Recipe, left_out: Counter[str]) -> Iterator[Ranking]:
    """The rankings that the recipe makes of judgements."""
    if recipe.aggregation == "every rater":
        for said in _said(revisions.order_by("pk"), recipe, left_out):
            yield from rankings_of(said, recipe, left_out)
        return
    weights = reliabilities(by_item(revisions, recipe, Counter())) if recipe.aggregation == "reliability" else {}
    for all_said in by_item(revisions, recipe, left_out):
        yield from rankings_of_item(all_said, recipe, weights, left_out)


def by_item(revisions: QuerySet[JudgementRevision], recipe: Recipe, left_out: Counter[str]) -> Iterator[list[Said]]:
    """What the raters of one kind say of one item, item by item."""
    ordered = revisions.order_by("judgement__item_id", "judgement__rater__kind", "pk")
    for _item, group in groupby(
        _said(ordered, recipe, left_out),
        key=lambda said: (said.revision.judgement.item_id, said.revision.judgement.rater.kind),
    ):
        yield list(group)


def of_comparisons(comparisons: QuerySet[Comparison]) -> Iterator[Ranking]:
    """Imported pairs as rankings of two."""
    rows = comparisons.order_by("pk").values_list(*COLUMNS).iterator(chunk_size=CHUNK)
    for pk, prompt, split, messages, chosen, better, rejected, worse, source, strength, batch, upper, lower in rows:
        yield Ranking(
            row_id=f"comparison-{pk}",
            prompt_id=str(prompt),
            split=split,
            messages=messages,
            responses=[better, worse],
            ranks=[1, 2],
            kind="comparison",
            origin="imported",
            source=source,
            strength=strength,
            models=[_model(upper), _model(lower)],
            provenance={"completions": [chosen, rejected], "comparison": pk, "batch": batch},
        )


def _model(generation: int | None) -> str:
    return "imported" if generation is None else f"generation {generation}"


def _said(revisions: QuerySet[JudgementRevision], recipe: Recipe, left_out: Counter[str]) -> Iterator[Said]:
    numbers = revisions.values_list("pk", flat=True).iterator(chunk_size=CHUNK)
    while chunk := list(islice(numbers, CHUNK)):
        found = (
            JudgementRevision.objects.select_related("judgement__item__prompt", "judgement__rater", "guideline")
            .prefetch_related(
                *("judgement__item__completions__generation", "ranks", "scores", "norm_verdicts", "flags"),
                "edits__edited__generation",
            )
            .in_bulk(chunk)
        )
        for pk in chunk:
            yield said_by(found[pk], recipe, left_out)
