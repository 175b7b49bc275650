"""The simulated rater at work: it claims and submits like anybody else, and is marked as simulated."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotate import simulated
from annotate.models import Completion, Membership, Project, Slot, User
from annotate.services.claiming import claim
from annotate.services.judging import submit


def judge_everything(*, project: Project, seed: int, on_judgement: Callable[[int], None] | None = None) -> int:
    """Judge every slot that is free, with as many simulated raters as the project's overlap wants.

    :param seed: decides every rank; each rater adds its own number.
    :param on_judgement: called with the number of judgements so far.
    :returns: how many judgements were made.
    """
    texts = list(Completion.objects.filter(entries__item__project=project).values_list("text", flat=True))
    if not texts:
        return 0
    edges = simulated.quintile_edges(texts)
    criteria = list(project.criteria.filter(active=True).values_list("pk", flat=True))
    count = 0
    for number in range(project.overlap):
        rater = _rater(project, number)
        while slot := claim(user=rater, project=project):
            raw = _answer(slot, project, edges, criteria, seed=seed + number)
            submit(user=rater, slot=slot, uuid=uuid.uuid4(), raw=raw)
            count += 1
            if on_judgement is not None:
                on_judgement(count)
    return count


def _rater(project: Project, number: int) -> User:
    user, _created = User.objects.get_or_create(
        username=f"simulated-{number + 1}", defaults={"kind": User.Kind.SIMULATED, "password": "!"}
    )
    Membership.objects.get_or_create(user=user, project=project, defaults={"role": Membership.Role.RATER})
    return user


def _answer(
    slot: Slot, project: Project, edges: NDArray[np.float64], criteria: list[int], *, seed: int
) -> dict[str, Any]:
    completions = list(slot.item.completions.values_list("pk", "text"))
    texts = [text for _pk, text in completions]
    raw: dict[str, Any] = {}
    if project.rank_on:
        ranks = simulated.rank(texts, seed=seed)
        raw["ranks"] = {str(pk): rank for (pk, _text), rank in zip(completions, ranks, strict=True)}
    if project.score_on:
        values = simulated.score(texts, edges)
        raw["scores"] = {
            str(pk): {str(criterion): value for criterion in criteria}
            for (pk, _text), value in zip(completions, values, strict=True)
        }
    return raw
