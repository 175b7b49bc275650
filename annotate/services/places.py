"""A judgement's order of its answers, and how far two judgements of an item agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean

from annotate.models import JudgementRevision
from annotate.stats import agreement as statistics


def places(revision: JudgementRevision) -> dict[int, int]:
    """Places by completion, 1 the best: the judgement's ranks, or where it has none the order of its mean scores."""
    return {rank.completion_id: rank.group for rank in revision.ranks.all()} or _by_score(revision)


def agreement(first: JudgementRevision, second: JudgementRevision) -> float | None:
    """How far two judgements of an item order its answers alike, from 0 to 1; None where nothing can be compared."""
    return statistics.agreement(*_rows([first, second]))


def agreement_with_key(answer: JudgementRevision, key: JudgementRevision) -> float | None:
    """How far a judgement follows the order that counts as right; None where nothing can be compared."""
    return statistics.agreement_with_key(*_rows([answer, key]))


def disagreement(revisions: Iterable[JudgementRevision]) -> float | None:
    """How much the judgements of an item differ, from 0 to 1; None where no two can be compared."""
    rows = _rows(list(revisions))
    return statistics.disagreement(rows) if rows else None


def says_an_order(revision: JudgementRevision) -> bool:
    """Whether others can be compared with it: it puts at least two answers in places, or says that all are bad."""
    return revision.both_bad or len(places(revision)) > 1


def _rows(revisions: Sequence[JudgementRevision]) -> list[list[float]]:
    """Each judgement's places over the same answers; one that calls all bad and orders none ties them all."""
    completions = sorted(set().union(*(revision.order_shown for revision in revisions)))
    rows = []
    for revision in revisions:
        found = places(revision)
        if not found and revision.both_bad:
            found = dict.fromkeys(completions, 1)
        rows.append([float(found.get(completion, "nan")) for completion in completions])
    return rows


def _by_score(revision: JudgementRevision) -> dict[int, int]:
    """Places by mean score over criteria, equal means tied."""
    values: dict[int, list[int]] = {}
    for score in revision.scores.all():
        values.setdefault(score.completion_id, []).append(score.value)
    means = {completion: mean(scores) for completion, scores in values.items()}
    steps = {value: place for place, value in enumerate(sorted(set(means.values()), reverse=True), start=1)}
    return {completion: steps[value] for completion, value in means.items()}
