"""Several raters' judgements of one item, made one by a stated rule.

*Every rater*: each judgement stands for itself (:mod:`annotate.services.judged`).

*Majority*: of each two answers that one stands above that more raters put there; as many on both sides are a tie. Where
these majorities make an order with ties, it is one ranking; where they contradict each other, each strict majority is a
pair of its own. Verdicts on a norm are counted by answer, and all are bad where more than half of the raters say so.
A judgement that calls all bad and orders nothing ties all answers.

*Reliability*: the same, each rater weighing by agreement with the others within the snapshot
(:func:`annotate.stats.consensus.reliability`); a row weighs the mean, over its ordered pairs, of the share of weight
that stood behind them.

Edits stay their raters' own. An adjudication stands for its whole item under every rule, and so is alone here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from annotate.formats.writing.ranking import Kind, Ranking
from annotate.services.judged import (
    COMPLIES,
    VIOLATES,
    Said,
    edits_of,
    model_of,
    provenance_of,
    rankings_of,
    shared,
)
from annotate.services.recipe import Recipe
from annotate.stats import consensus

NOWHERE = float("nan")


def rankings_of_item(
    all_said: list[Said], recipe: Recipe, weights: Mapping[int, float], left_out: Counter[str]
) -> Iterator[Ranking]:
    """The rankings of an item by its raters together; one rater's are as if they stood for themselves.

    :param all_said: what each rater of one kind said of the item.
    :param weights: what each rater weighs; empty for the plain majority.
    """
    if len(all_said) == 1:
        yield from rankings_of(all_said[0], recipe, left_out)
        return
    weight = [weights.get(said.rater, 1.0) for said in all_said]
    item = all_said[0].revision.judgement.item_id
    rows = f"item-{item}-{all_said[0].revision.judgement.rater.kind}"
    bad = sum(w for w, said in zip(weight, all_said, strict=True) if said.revision.both_bad)
    if "both bad" in recipe.parts and 2 * bad > sum(weight):
        answers = _answers(all_said)
        if len(answers) > 1:
            yield _ranking(all_said, rows, list(answers), [1] * len(answers), kind="both bad")
    elif "order" in recipe.parts:
        yield from _by_majority(all_said, [order_of(said) for said in all_said], weight, rows, bool(weights))
    if "edits" in recipe.parts:
        for said in all_said:
            yield from edits_of(said, recipe, left_out)
    if "norms" in recipe.parts:
        yield from _by_norm(all_said, weight, rows, recipe)


def order_of(said: Said) -> dict[int, int]:
    """A judgement's places; one that calls all bad and orders nothing ties them all."""
    return said.order or (dict.fromkeys(said.answers, 1) if said.revision.both_bad else {})


def reliabilities(items: Iterator[list[Said]]) -> dict[int, float]:
    """What each rater weighs by agreement with the others of the same kind on the items that both judged."""

    def places() -> Iterator[dict[int, list[float]]]:
        for all_said in items:
            answers = _answers(all_said)
            yield {s.rater: [float(order_of(s).get(pk, NOWHERE)) for pk in answers] for s in all_said}

    return consensus.reliability(places())


def _by_majority(
    all_said: list[Said], orders: list[dict[int, int]], weight: list[float], row_id: str, weighted: bool
) -> Iterator[Ranking]:
    answers = list(_answers(all_said))
    rows = np.array([[order.get(pk, NOWHERE) for pk in answers] for order in orders], dtype=np.float64)
    known = np.asarray((~np.isnan(rows)).any(axis=0))
    if known.sum() < 2:
        return
    sign, share = consensus.majority(rows, weight)
    places = consensus.as_places(sign, known)
    strict = np.argwhere(sign > 0)
    if places is not None:
        behind = float(np.mean([share[i, j] for i, j in strict])) if weighted and len(strict) else 1.0
        yield _ranking(all_said, row_id, answers, places, weight=behind)
        return
    for i, j in strict.tolist():
        pair = [answers[i], answers[j]]
        behind = float(share[i, j]) if weighted else 1.0
        yield _ranking(all_said, f"{row_id}-pair-{pair[0]}-{pair[1]}", pair, [1, 2], weight=behind)


def _by_norm(all_said: list[Said], weight: list[float], row_id: str, recipe: Recipe) -> Iterator[Ranking]:
    votes: dict[int, dict[int, float]] = {}
    for said, one in zip(all_said, weight, strict=True):
        for norm, places in said.verdicts().items():
            for pk, place in places.items():
                counted = votes.setdefault(norm, {})
                counted[pk] = counted.get(pk, 0.0) + (one if place == COMPLIES else -one)
    for norm, counted in sorted(votes.items()):
        order = {pk: COMPLIES if vote > 0 else VIOLATES for pk, vote in counted.items() if vote}
        if len(set(order.values())) > 1:
            answers = list(_answers(all_said))
            places_of = [order.get(pk) for pk in answers]
            yield _ranking(
                all_said, f"{row_id}-norm-{norm}", answers, places_of, kind="norm", weight=recipe.norm_weight, norm=norm
            )


def _answers(all_said: list[Said]) -> list[int]:
    """Answers that at least one rater's judgement leaves in, by number."""
    return sorted(set().union(*(said.answers for said in all_said)))


def _ranking(
    all_said: list[Said],
    row_id: str,
    answers: list[int],
    ranks: list[int | None] | list[int],
    *,
    kind: Kind = "order",
    weight: float = 1.0,
    norm: int | None = None,
) -> Ranking:
    completions = {pk: answer for said in all_said for pk, answer in said.answers.items()}
    return Ranking(
        row_id=row_id,
        responses=[completions[pk].text for pk in answers],
        ranks=list(ranks),
        weight=weight,
        kind=kind,
        models=[model_of(completions[pk]) for pk in answers],
        provenance=provenance_of(all_said, answers, norm=norm),
        **shared(all_said[0]),
    )
