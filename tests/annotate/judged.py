"""Judgements and imported data of every kind, for tests of what is made of them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from annotate.formats.writing.ranking import Ranking
from annotate.models import (
    Comparison,
    Completion,
    Demonstration,
    Membership,
    Norm,
    NormVersion,
    Prompt,
    RankedAnswer,
    RankedList,
    Slot,
    User,
)
from annotate.services.claiming import claim
from annotate.services.judging import submit
from annotate.services.recipe import Recipe
from annotate.services.rows import rankings
from annotate.services.snapshots import create_snapshot
from tests.annotate.factory import World, collect_items, user, world


def judged_world() -> World:
    """Three prompts with items for three raters each, and a norm."""
    made = world(prompts=3, overlap=3, norms_on=True)
    norm = Norm.objects.create(project=made.project, name="Honesty")
    NormVersion.objects.create(norm=norm, number=1, text="Say what is true.")
    collect_items(made)
    return made


def member(stage: World, name: str) -> User:
    made = user(name)
    Membership.objects.create(user=made, project=stage.project, role=Membership.Role.RATER)
    return made


def ids_of(stage: World, split: str = "train") -> list[int]:
    return sorted(Completion.objects.filter(prompt__split=split, edit_of=None).values_list("pk", flat=True))


def judge(stage: World, raw: dict[str, Any], *, rater: User | None = None, split: str = "train") -> Slot:
    rater = rater or stage.bob
    Slot.objects.filter(item__prompt__split=split).update(priority=-1)
    slot = claim(user=rater, project=stage.project)
    assert slot is not None
    Slot.objects.update(priority=0)
    submit(user=rater, slot=slot, uuid=uuid.uuid4(), raw=raw)
    return slot


def ranks(ids: list[int], *places: int) -> dict[str, Any]:
    return {"ranks": {str(pk): place for pk, place in zip(ids, places, strict=False)}}


def frozen(stage: World, **fields: Any) -> list[Ranking]:
    return list(rankings(create_snapshot(project=stage.project, actor=None, recipe=Recipe(**fields))))


def ranked(
    stage: World, source: str, texts: str, *ranks: int | None, scores: Sequence[float] = (), **fields: Any
) -> RankedList:
    """An imported order of answers, each of one letter; to the training prompt."""
    prompt = Prompt.objects.get(split="train")
    made = RankedList.objects.create(project=stage.project, prompt=prompt, source=source, digest=uuid.uuid4(), **fields)
    for position, (text, rank, score) in enumerate(zip_longest(texts, ranks, scores)):
        answer = Completion.objects.create(prompt=prompt, text=text)
        RankedAnswer.objects.create(ranked_list=made, position=position, completion=answer, rank=rank, score=score)
    return made


def shown(stage: World, source: str, text: str, **fields: Any) -> Demonstration:
    """An imported answer to imitate, to the training prompt."""
    answer = Completion.objects.create(prompt=Prompt.objects.get(split="train"), text=text)
    return Demonstration.objects.create(project=stage.project, completion=answer, source=source, **fields)


def pair(stage: World, source: str, number: int = 0, *, split: str = "train", **fields: Any) -> Comparison:
    prompt = Prompt.objects.get(split=split)
    chosen, rejected = (Completion.objects.create(prompt=prompt, text=f"{word} {number}") for word in ("good", "bad"))
    return Comparison.objects.create(
        project=stage.project, prompt=prompt, chosen=chosen, rejected=rejected, source=source, **fields
    )


def by_three(stage: World) -> World:
    """Three raters: Bob and Dora put a above b above c, Eve the other way round; d is Eve's alone."""
    a, b, c, d = ids_of(stage)
    judge(stage, ranks([a, b, c], 1, 2, 3))
    judge(stage, ranks([a, b, c], 1, 2, 3), rater=member(stage, "dora"))
    judge(stage, ranks([a, b, c, d], 3, 2, 1, 4), rater=member(stage, "eve"))
    return stage
