"""A snapshot's rankings, made again from the records that it lists, in constant memory.

Judgements come first, by number (by item, where raters are taken together); then what was imported, each by number:
comparisons, rankings, demonstrations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, groupby, islice
from typing import Any

import orjson
from django.contrib.postgres.aggregates import JSONBAgg
from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import OuterRef, QuerySet, Subquery, TextField
from django.db.models.functions import Cast, JSONObject

from annotate.formats.writing.ranking import Ranking
from annotate.models import (
    Comparison,
    Completion,
    Demonstration,
    JudgementRevision,
    Project,
    RankedAnswer,
    RankedList,
    Snapshot,
)
from annotate.services.aggregation import rankings_of_item, reliabilities
from annotate.services.judged import Said, fits, rankings_of, said_by
from annotate.services.numbering import numbering_of
from annotate.services.recipe import Recipe, recipe_of

RANKED_COLUMNS = {
    **{"pk": "int8", "prompt_id": "int8", "prompt__split": "text", "chat": "text", "source": "text"},
    **{"strength": "float8", "weight": "float8", "batch": "text", "answered": "text"},
}
SHOWN_COLUMNS = {
    **{"pk": "int8", "completion__prompt_id": "int8", "completion__prompt__split": "text", "chat": "text"},
    **{"completion_id": "int8", "completion__text": "text", "source": "text", "weight": "float8", "batch": "text"},
}
CHUNK = 2000
"""Records that are read at once."""
OnRead = Callable[[int], None]
"""Called with how many more entries of a list were read."""
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
    """A snapshot's rankings, with the numbers that its rows had where the project was made.

    :param left_out: counts answers by the reason why the recipe leaves them out.
    :param on_read: told of what was read of the snapshot's list.
    """
    numbering = numbering_of(snapshot.project)  # before the rows: some of them are read while they are copied
    left_out = Counter() if left_out is None else left_out
    made = chain(judged_here(snapshot, left_out, on_read), imported_here(snapshot, left_out, on_read))
    yield from map(numbering.ranking, made) if numbering else made


def judged_here(snapshot: Snapshot, left_out: Counter[str], on_read: OnRead | None = None) -> Iterator[Ranking]:
    """The rankings that judgements make, with the numbers that rows have here."""
    recipe, _form = recipe_of(snapshot.recipe)
    revisions = JudgementRevision.objects.filter(snapshotrevision__snapshot=snapshot)
    yield from of_revisions(revisions, recipe, left_out, on_read)


def imported_here(snapshot: Snapshot, left_out: Counter[str], on_read: OnRead | None = None) -> Iterator[Ranking]:
    """The rankings that were imported, with the numbers that rows have here.

    Read by COPY: no other query may be made on the connection meanwhile.
    """
    recipe, _form = recipe_of(snapshot.recipe)
    yield from of_comparisons(Comparison.objects.filter(snapshotcomparison__snapshot=snapshot), on_read)
    ranked = RankedList.objects.filter(snapshotrankedlist__snapshot=snapshot)
    yield from of_ranked_lists(ranked, recipe, left_out, on_read)
    yield from of_demonstrations(Demonstration.objects.filter(snapshotdemonstration__snapshot=snapshot), on_read)


def cut_off_answers(project: Project) -> frozenset[int]:
    """Numbers, as rows have them here, of a project's answers that reached the longest length before their end."""
    cut_off = Completion.objects.filter(prompt__project=project, finish_reason="length")
    return frozenset(cut_off.values_list("pk", flat=True))


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
    for row in _copied(wanted, list(COLUMNS.values()), on_read):
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


def of_ranked_lists(
    ranked_lists: QuerySet[RankedList], recipe: Recipe, left_out: Counter[str], on_read: OnRead | None = None
) -> Iterator[Ranking]:
    """Imported orders as rankings; where the recipe asks for strong preferences, the strong pairs of scored ones."""
    answers = (
        RankedAnswer.objects.filter(ranked_list=OuterRef("pk"))
        .order_by()
        .values("ranked_list")
        .annotate(
            all=JSONBAgg(
                JSONObject(id="completion_id", text="completion__text", rank="rank", score="score"), order_by="position"
            )
        )
        .values("all")
    )
    wanted = ranked_lists.order_by("pk").annotate(
        chat=Cast("prompt__messages", TextField()), answered=Cast(Subquery(answers), TextField())
    )
    for row in _copied(wanted.values_list(*RANKED_COLUMNS), list(RANKED_COLUMNS.values()), on_read):
        pk, prompt, split, chat, source, strength, weight, batch, answered = row
        kept = [answer for answer in orjson.loads(answered) if fits(answer["text"], recipe, left_out)]
        ranking = Ranking(
            row_id=f"ranking-{pk}",
            prompt_id=str(prompt),
            split=split,
            messages=orjson.loads(chat),
            responses=[answer["text"] for answer in kept],
            ranks=[answer["rank"] for answer in kept],
            kind="ranked",
            origin="imported",
            source=source,
            strength=strength,
            weight=weight,
            models=[_model(None)] * len(kept),
            provenance={"completions": [answer["id"] for answer in kept], "ranking": pk, "batch": batch},
            scores=[answer["score"] for answer in kept if answer["score"] is not None],
        )
        if ranking.scores and recipe.min_strength is not None:
            yield from _strong_pairs(ranking, recipe.min_strength)
        elif sum(rank is not None for rank in ranking.ranks) > 1:
            yield ranking


def _strong_pairs(ranking: Ranking, least: float) -> Iterator[Ranking]:
    """The pairs of a scored ranking that differ by so much."""
    completions = ranking.provenance["completions"]
    for better, worse in ranking.places():
        strength = ranking.strength_of(better, worse)
        if strength is not None and strength >= least:
            yield replace(
                ranking,
                row_id=f"{ranking.row_id}-pair-{better}-{worse}",
                responses=[ranking.responses[better], ranking.responses[worse]],
                ranks=[1, 2],
                strength=strength,
                models=ranking.models[:2],
                provenance={**ranking.provenance, "completions": [completions[better], completions[worse]]},
                scores=[],
            )


def of_demonstrations(demonstrations: QuerySet[Demonstration], on_read: OnRead | None = None) -> Iterator[Ranking]:
    """Imported answers to imitate, each as a ranking of one."""
    wanted = demonstrations.order_by("pk").annotate(chat=Cast("completion__prompt__messages", TextField()))
    copied = _copied(wanted.values_list(*SHOWN_COLUMNS), list(SHOWN_COLUMNS.values()), on_read)
    for pk, prompt, split, chat, completion, text, source, weight, batch in copied:
        yield Ranking(
            row_id=f"demonstration-{pk}",
            prompt_id=str(prompt),
            split=split,
            messages=orjson.loads(chat),
            responses=[text],
            ranks=[1],
            kind="demonstration",
            origin="imported",
            source=source,
            weight=weight,
            models=[_model(None)],
            provenance={"completions": [completion], "demonstration": pk, "batch": batch},
        )


def _copied(records: QuerySet[Any, Any], types: list[str], on_read: OnRead | None) -> Iterator[tuple[Any, ...]]:
    try:
        sql, parameters = records.query.sql_with_params()
    except EmptyResultSet:  # Django sees that nothing can be found
        return
    with connection.cursor() as cursor, cursor.copy(f"COPY ({sql}) TO STDOUT", parameters) as copy:
        copy.set_types(types)
        for number, row in enumerate(copy.rows(), start=1):
            yield row
            # Told of in here, so that whoever gives up ends the COPY, without which nothing can be taken back.
            if on_read and number % CHUNK == 0:
                on_read(CHUNK)


def _model(generation: int | None) -> str:
    return "imported" if generation is None else f"generation {generation}"


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
