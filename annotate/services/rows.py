"""A snapshot's rankings, made again from the revisions and comparisons that it lists, in constant memory.

Judgements come first, by number (by item, where raters are taken together), then imported comparisons by number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby, islice
from typing import Any, TypeVar

import orjson
from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import QuerySet, TextField
from django.db.models.functions import Cast

from annotate.formats.writing.ranking import Ranking
from annotate.models import Comparison, JudgementRevision, Snapshot
from annotate.services.aggregation import rankings_of_item, reliabilities
from annotate.services.judged import Said, rankings_of, said_by
from annotate.services.recipe import Recipe, recipe_of

CHUNK = 2000
"""Records that are read at once."""
OnRead = Callable[[int], None]
"""Called with how many more entries of a list were read."""
Row = TypeVar("Row")
COLUMNS = {
    **{"pk": "int8", "prompt_id": "int8", "prompt__split": "text", "chat": "text"},
    **{"chosen_id": "int8", "chosen__text": "text", "rejected_id": "int8", "rejected__text": "text"},
    **{"source": "text", "strength": "float8", "weight": "float8", "batch": "text"},
    **{"chosen__generation__number": "int4", "rejected__generation__number": "int4"},
}
"""What is read of a comparison, with PostgreSQL's types."""


def rankings(
    snapshot: Snapshot, left_out: Counter[str] | None = None, on_read: OnRead | None = None
) -> Iterator[Ranking]:
    """A snapshot's rankings.

    :param left_out: counts answers by the reason why the recipe leaves them out.
    :param on_read: told of what was read of the snapshot's list.
    """
    recipe, _form = recipe_of(snapshot.recipe)
    revisions = JudgementRevision.objects.filter(snapshotrevision__snapshot=snapshot)
    yield from of_revisions(revisions, recipe, Counter() if left_out is None else left_out, on_read)
    yield from of_comparisons(Comparison.objects.filter(snapshotcomparison__snapshot=snapshot), on_read)


def of_revisions(
    revisions: QuerySet[JudgementRevision], recipe: Recipe, left_out: Counter[str], on_read: OnRead | None = None
) -> Iterator[Ranking]:
    """The rankings that the recipe makes of judgements."""
    if recipe.aggregation == "every rater":
        for said in _said(revisions.order_by("pk"), recipe, left_out, on_read):
            yield from rankings_of(said, recipe, left_out)
        return
    weights = reliabilities(by_item(revisions, recipe, Counter())) if recipe.aggregation == "reliability" else {}
    for all_said in by_item(revisions, recipe, left_out, on_read):
        yield from rankings_of_item(all_said, recipe, weights, left_out)


def by_item(
    revisions: QuerySet[JudgementRevision], recipe: Recipe, left_out: Counter[str], on_read: OnRead | None = None
) -> Iterator[list[Said]]:
    """What the raters of one kind say of one item, item by item."""
    ordered = revisions.order_by("judgement__item_id", "judgement__rater__kind", "pk")
    for _item, group in groupby(
        _said(ordered, recipe, left_out, on_read),
        key=lambda said: (said.revision.judgement.item_id, said.revision.judgement.rater.kind),
    ):
        yield list(group)


def of_comparisons(comparisons: QuerySet[Comparison], on_read: OnRead | None = None) -> Iterator[Ranking]:
    """Imported pairs as rankings of two.

    Read by COPY, which sends rows while they are worked on: no other query may be made on the connection meanwhile.
    """
    wanted = comparisons.order_by("pk").annotate(chat=Cast("prompt__messages", TextField())).values_list(*COLUMNS)
    for row in _told(_copied(wanted, list(COLUMNS.values())), on_read):
        pk, prompt, split, chat, chosen, better, rejected, worse, source, strength, weight, batch, upper, lower = row
        yield Ranking(
            row_id=f"comparison-{pk}",
            prompt_id=str(prompt),
            split=split,
            messages=orjson.loads(chat),
            responses=[better, worse],
            ranks=[1, 2],
            kind="comparison",
            origin="imported",
            source=source,
            strength=strength,
            weight=weight,
            models=[_model(upper), _model(lower)],
            provenance={"completions": [chosen, rejected], "comparison": pk, "batch": batch},
        )


def _copied(records: QuerySet[Any, Any], types: list[str]) -> Iterator[tuple[Any, ...]]:
    try:
        sql, parameters = records.query.sql_with_params()
    except EmptyResultSet:  # Django sees that nothing can be found
        return
    with connection.cursor() as cursor, cursor.copy(f"COPY ({sql}) TO STDOUT", parameters) as copy:
        copy.set_types(types)
        yield from copy.rows()


def _model(generation: int | None) -> str:
    return "imported" if generation is None else f"generation {generation}"


def _told(rows: Iterator[Row], on_read: OnRead | None) -> Iterator[Row]:
    """The same rows, while somebody is told of each thousand or two."""
    for number, row in enumerate(rows, start=1):
        yield row
        if on_read and number % CHUNK == 0:
            on_read(CHUNK)


def _said(
    revisions: QuerySet[JudgementRevision], recipe: Recipe, left_out: Counter[str], on_read: OnRead | None
) -> Iterator[Said]:
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
        if on_read:
            on_read(len(chunk))
