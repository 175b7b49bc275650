"""Which open items a reward model knows least about: raters get those first.

A run scores the answers of the items that come next in the queue; here they are chosen, and what was
found becomes signals, the items' uncertainty and their slots' places in the queue.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.db.models import BigIntegerField, Exists, F, OuterRef, QuerySet, Subquery
from django.db.models.functions import Cast

from annotate.models import Item, ItemCompletion, Project, RewardModel, Run, Signal, Slot
from annotate.models.judgements import OPEN
from annotate.services.items import PRIORITY_RANGE
from annotate.stats.uncertainty import mean_pair_entropy

ITEMS_AT_ONCE = 2_000
"""Items of one run, the next in the queue first: scoring all of a large pool would hold the worker for hours."""


def unscored(project: Project, reward_model: RewardModel) -> QuerySet[Slot]:
    """Open slots of items that this reward model has not scored, in the order in which they are offered."""
    signals = Signal.objects.filter(completion=OuterRef("completion"), reward_model=reward_model)
    without = ItemCompletion.objects.filter(~Exists(signals), item=OuterRef("item"))
    slots = Slot.objects.filter(OPEN, project=project, purpose=Item.Purpose.COLLECT)
    return slots.filter(Exists(without)).order_by("priority", "id")


def answers(run: Run) -> Iterator[dict[str, Any]]:
    """The rows of ``data/answers.parquet`` of a run."""
    assert run.reward_model is not None
    slots = unscored(run.project, run.reward_model).values_list("item", flat=True)
    chosen = list(dict.fromkeys(slots[: ITEMS_AT_ONCE * run.project.overlap]))[:ITEMS_AT_ONCE]
    items = Item.objects.select_related("prompt").in_bulk(chosen)
    texts = defaultdict(list)
    entries = ItemCompletion.objects.filter(item__in=chosen).order_by("item", "position")
    for pk, text in entries.values_list("item_id", "completion__text"):
        texts[pk].append(text)
    for pk in chosen:
        yield {"row_id": str(pk), "messages": items[pk].prompt.messages, "responses": texts[pk]}


def register(run: Run, rows: Iterable[Mapping[str, Any]]) -> None:
    """Store what a run found: a signal for each answer, and the items' uncertainty and place in the queue.

    Storing it again changes nothing.

    :param rows: ``row_id``, ``index``, ``score`` and, of an ensemble, ``variance`` of each answer.
    """
    assert run.reward_model is not None
    scores: dict[int, dict[int, float]] = defaultdict(dict)
    variances: dict[int, dict[int, float]] = defaultdict(dict)
    for row in rows:
        scores[int(row["row_id"])][row["index"]] = row["score"]
        variances[int(row["row_id"])][row["index"]] = row.get("variance") or 0.0  # a single model has none
    completions: dict[int, list[int]] = defaultdict(list)
    entries = ItemCompletion.objects.filter(item__in=scores, item__project=run.project).order_by("item", "position")
    for item, completion in entries.values_list("item_id", "completion_id"):
        completions[item].append(completion)
    Signal.objects.bulk_create(
        (
            Signal(
                project=run.project,
                completion_id=completion,
                source="reward_model",
                version=str(run.reward_model.number),
                reward_model=run.reward_model,
                run=run,
                value=scores[item][index],
            )
            for item, ids in completions.items()
            for index, completion in enumerate(ids)
        ),
        ignore_conflicts=True,
    )
    # Scores are scaled to a standard deviation of 1; the loss that made them was in units of the Bradley–Terry model.
    scale = run.reward_model.metrics["score_scale"]
    found = {
        item: mean_pair_entropy(
            [score / scale for score in own.values()],
            [variance / scale**2 for variance in variances[item].values()],
        )
        for item, own in scores.items()
    }
    items = [Item(pk=item, uncertainty=found[item]) for item in completions]
    Item.objects.bulk_update(items, ["uncertainty"], batch_size=500)
    _take_places(completions)


def _take_places(items: Iterable[int]) -> None:
    uncertainty = Subquery(Item.objects.filter(pk=OuterRef("item")).values("uncertainty"))
    place = Cast((1 - uncertainty) * (PRIORITY_RANGE - 1), BigIntegerField())
    slots = Slot.objects.filter(OPEN, item__in=items, purpose=Item.Purpose.COLLECT)
    slots.update(priority=F("number") * PRIORITY_RANGE + place)
