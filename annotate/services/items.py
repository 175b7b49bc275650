"""Items: completions put together for raters to judge, and the slots that say by how many.

The order in which slots are offered: *evaluate* before *collect*, since a decision waits for them; then
everything once before anything twice, so that no rater has to pass over the items that they have had;
within that, *evaluate* items in the order of their draw, and of others what a reward model knows least about first,
at random where none has looked.
"""

from __future__ import annotations

import random
import secrets
from collections import Counter, defaultdict
from collections.abc import Sequence

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from annotate.models import Completion, Evaluation, Generation, Item, ItemCompletion, Lease, Project, Run, Slot, User

PRIORITY_RANGE = 2**31
FIRST_BAND = {Item.Purpose.COLLECT: 0, Item.Purpose.EVALUATE: -(2**15)}
"""By purpose, the band of the first slot of an item; each further slot has the next one."""


def make_collect_items(*, project: Project, generation: Generation) -> int:
    """Make items of K different answers to a prompt out of those that are in no item yet.

    Answers with the same text as another of the same item are left out: there is nothing to compare.

    :returns: how many items were made.
    """
    with transaction.atomic():
        Generation.objects.select_for_update().get(pk=generation.pk)
        loose: dict[int, list[Completion]] = defaultdict(list)
        for completion in Completion.objects.filter(
            generation=generation, entries__isnull=True, run__kind="generate"
        ).order_by("prompt_id", "sample"):
            loose[completion.prompt_id].append(completion)
        size = project.completions_per_item
        groups = []
        for completions in loose.values():
            different = list({c.text: c for c in reversed(completions)}.values())[::-1]
            groups += [different[i : i + size] for i in range(0, len(different) - size + 1, size)]
        return _make(project, Item.Purpose.COLLECT, groups)


def make_evaluate_items(
    *,
    project: Project,
    newer: Generation,
    older: Generation,
    run: Run,
    seed: int,
    evaluation: Evaluation | None = None,
    number: int | None = None,
) -> int:
    """Make blind pairs for test prompts drawn at random: an answer of each generation, drawn at random.

    :param run: the evaluation whose answers are paired; it sampled both generations alike.
    :param seed: seed of both draws, recorded with the run that asked for it.
    :param evaluation: the plan that they are drawn for; no more raters judge a pair than it has.
    :param number: how many prompts are drawn; all when None.
    :returns: how many items were made; a prompt that already has such a pair gets none.
    """
    draw = random.Random(seed)
    with transaction.atomic():
        Generation.objects.select_for_update().get(pk=newer.pk)
        answers: dict[int, dict[int, list[Completion]]] = defaultdict(lambda: defaultdict(list))
        completions = Completion.objects.filter(generation__in=[newer, older], prompt__split="test", run=run)
        for completion in completions.order_by("prompt_id", "sample"):
            answers[completion.prompt_id][completion.generation_id].append(completion)  # type: ignore[index]
        paired = set(
            Item.objects.filter(project=project, purpose=Item.Purpose.EVALUATE, completions__generation=newer)
            .filter(pk__in=Item.objects.filter(completions__generation=older))
            .values_list("prompt_id", flat=True)
        )
        groups = [
            [draw.choice(by_generation[newer.pk]), draw.choice(by_generation[older.pk])]
            for prompt, by_generation in answers.items()
            if prompt not in paired and len(by_generation) == 2
        ]
        draw.shuffle(groups)
        return _make(project, Item.Purpose.EVALUATE, groups[:number], evaluation)


def withdraw_pairs(*, evaluation: Evaluation, keep: int) -> None:
    """Take back the pairs of a comparison that were drawn last, but for those that somebody has been given.

    To be called in a transaction, before anything of it is judged; claims pass over what is being taken back.

    :param keep: how many of the first ones stay.
    """
    beyond = list(evaluation.items.order_by("pk").values_list("pk", flat=True)[keep:])
    slots = Slot.objects.filter(item__in=beyond)
    untouched = Counter(_lock_untouched(slots).values())
    of_item = Counter(slots.values_list("item", flat=True))
    gone = [item for item in beyond if untouched[item] == of_item[item]]
    Slot.objects.filter(item__in=gone).delete()
    ItemCompletion.objects.filter(item__in=gone).delete()
    Item.objects.filter(pk__in=gone).delete()


def fit_pairs(*, evaluation: Evaluation) -> None:
    """Give each pair of a comparison as many slots as people of its pool judge it, after the pool was stated anew.

    To be called in a transaction, before anything of it is judged. What others have fetched and not opened is let go.
    """
    pool = evaluation.pool.values_list("rater", flat=True)
    slots = Slot.objects.filter(item__evaluation=evaluation, number__isnull=False)
    fetched = slots.filter(state=Slot.State.LEASED, ahead=True, rater__kind=User.Kind.HUMAN).exclude(rater__in=pool)
    fetched.update(state=Slot.State.FREE, rater=None, ahead=False, lease_expires_at=None)
    wanted = _slots_of_pair(evaluation)
    Slot.objects.filter(pk__in=_lock_untouched(slots.filter(number__gte=wanted))).delete()
    there = set(slots.values_list("item", "number"))
    Slot.objects.bulk_create(
        Slot(
            project=evaluation.project,
            item_id=first.item_id,
            purpose=first.purpose,
            number=number,
            priority=first.priority + number * PRIORITY_RANGE,
            lottery=first.lottery,
            order_seed=secrets.randbelow(2**62),
        )
        for first in slots.filter(number=0)
        for number in range(wanted)
        if (first.item_id, number) not in there
    )


def _lock_untouched(slots: QuerySet[Slot]) -> dict[int, int]:
    """Lock those slots that nobody was ever given, and that nobody is being given just now; their items by slot."""
    given = Lease.objects.filter(slot=OuterRef("pk"))
    untouched = slots.filter(~Exists(given), state=Slot.State.FREE)
    return dict(untouched.select_for_update(skip_locked=True, of=("self",)).values_list("pk", "item"))


def _slots_of_pair(evaluation: Evaluation) -> int:
    overlap = evaluation.project.overlap
    return min(overlap, evaluation.pool.count() or overlap)


def _make(
    project: Project,
    purpose: Item.Purpose,
    groups: Sequence[Sequence[Completion]],
    evaluation: Evaluation | None = None,
) -> int:
    items = Item.objects.bulk_create(
        Item(project=project, prompt_id=group[0].prompt_id, purpose=purpose, evaluation=evaluation) for group in groups
    )
    ItemCompletion.objects.bulk_create(
        ItemCompletion(item=item, completion=completion, position=position)
        for item, group in zip(items, groups, strict=True)
        for position, completion in enumerate(group)
    )
    raters = _slots_of_pair(evaluation) if evaluation else project.overlap

    def place() -> int:
        return secrets.randbelow(PRIORITY_RANGE)

    Slot.objects.bulk_create(
        Slot(
            project=project,
            item=item,
            purpose=purpose,
            number=number,
            priority=(FIRST_BAND[purpose] + number) * PRIORITY_RANGE + (drawn if evaluation else place()),
            lottery=FIRST_BAND[purpose] * PRIORITY_RANGE + (drawn if evaluation else place()),
            order_seed=secrets.randbelow(2**62),
        )
        for drawn, item in enumerate(items)
        for number in range(raters)
    )
    return len(items)
