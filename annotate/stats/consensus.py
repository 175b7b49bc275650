"""One order out of several raters': the majority of each pair, all weighing the same or as far as they agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from annotate.stats.agreement import agreement

LEAST_RELIABILITY = 0.05
"""What a rater weighs who agrees with the others no more than by chance."""


def majority(rankings: ArrayLike, weights: ArrayLike) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Which of two answers more of the raters put above the other, by weight.

    :param rankings: float [m, n], a rater's places a row, 1 the best, equals alike; NaN where unranked.
    :param weights: float [m], what each rater weighs.
    :returns: int8 [n, n], 1 where the row's answer stands above the column's, −1 below, 0 where neither does; and
        float [n, n], the share of the weights behind that, of those who ranked both (NaN where nobody did).
    """
    places = np.asarray(rankings, dtype=np.float64)
    weight = np.asarray(weights, dtype=np.float64)[:, None, None]
    with np.errstate(invalid="ignore"):
        above = (places[:, :, None] < places[:, None, :]).astype(np.float64)
        level = (places[:, :, None] == places[:, None, :]).astype(np.float64)
    up = (weight * above).sum(axis=0)
    down, heard = up.T, (weight * (above + above.transpose(0, 2, 1) + level)).sum(axis=0)
    # Sums of the same weights in another order may differ in the last digit; that is a tie.
    sign = np.where(np.isclose(up, down), 0, np.sign(up - down)).astype(np.int8)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(sign > 0, up, np.where(sign < 0, down, heard - up - down)) / heard
    return sign, share


def as_places(sign: NDArray[np.int8], known: NDArray[np.bool_]) -> list[int | None] | None:
    """A majority relation as places with ties, where it is one (a weak order).

    :param sign: int8 [n, n] of :func:`majority`.
    :param known: bool [n], the answers that were ranked at all; the others have no place.
    :returns: the place of each answer, from 1; None where the majorities contradict each other (Condorcet's cycle, or
        a tie that is none with a third answer).
    """
    inside = np.flatnonzero(known)
    wins = (sign[np.ix_(inside, inside)] > 0).sum(axis=1)
    levels = {int(count): place for place, count in enumerate(sorted(set(wins.tolist()), reverse=True), start=1)}
    places = np.array([levels[int(count)] for count in wins])
    # With fewer wins further down, the relation is a weak order just where the places reproduce it.
    if not np.array_equal(np.sign(places[None, :] - places[:, None]), sign[np.ix_(inside, inside)]):
        return None
    found: list[int | None] = [None] * len(known)
    for index, place in zip(inside.tolist(), places.tolist(), strict=True):
        found[index] = place
    return found


def reliability(items: Iterable[Mapping[int, Sequence[float]]]) -> dict[int, float]:
    """What each rater weighs by agreement with the others: max(0.05, 2·ā − 1).

    ā is the mean of :func:`~annotate.stats.agreement.agreement` with each other rater over all items that both judged;
    ½ is chance, so that chance weighs next to nothing and full agreement 1. A rater whom no other can be compared with
    weighs the mean of those who can, or 1 where nobody can.

    :param items: for each item its raters' places over the same answers.
    """
    sums: dict[int, list[float]] = {}
    for places in items:
        raters = sorted(places)
        for rater in raters:
            sums.setdefault(rater, [0.0, 0.0])
        for index, first in enumerate(raters):
            for second in raters[index + 1 :]:
                if (value := agreement(places[first], places[second])) is not None:
                    for rater in (first, second):
                        sums[rater][0] += value
                        sums[rater][1] += 1
    known = {r: max(LEAST_RELIABILITY, 2 * total / n - 1) for r, (total, n) in sums.items() if n}
    mean = float(np.mean(list(known.values()))) if known else 1.0
    return {rater: known.get(rater, mean) for rater in sums}
