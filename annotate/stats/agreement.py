"""How far rankings of the same answers agree, with ties and with answers left unranked."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from annotate.stats.estimate import Reason, Undefined


def agreement(first: ArrayLike, second: ArrayLike) -> float | None:
    """Share of pairs ordered alike by two rankings, a pair that only one of them ties counting ½.

    One less the Kendall distance with penalty p = ½, over the number of pairs: Fagin, Kumar, Mahdian, Sivakumar and
    Vee (2004), "Comparing and aggregating rankings with ties", section 3. Taken over the pairs that both rank.

    :param first: float [n], the place of each answer, 1 the best, equals alike; NaN where it is unranked.
    :param second: float [n], the other ranking of the same answers.
    :returns: from 0, every pair reversed, to 1, the same order; None where no pair is ranked by both.
    """
    x, y = _orders(first), _orders(second)
    return _alike(x, y, ~(np.isnan(x) | np.isnan(y)))


def agreement_with_key(answer: ArrayLike, key: ArrayLike) -> float | None:
    """The same, over the pairs that the key orders strictly: ordered alike 1, tied ½, reversed 0.

    A key that ties all its answers orders nothing strictly; to it an answer is compared by :func:`agreement`.

    :param answer: float [n], the place of each answer; NaN where it is unranked.
    :param key: float [n], the places that count as right.
    :returns: from 0 to 1; None where no such pair is ranked in the answer.
    """
    x, y = _orders(answer), _orders(key)
    strict = np.abs(y) == 1
    return _alike(x, y, strict & ~np.isnan(x)) if strict.any() else agreement(answer, key)


def disagreement(rankings: ArrayLike) -> float | None:
    """One less the mean agreement of all pairs of rankings of the same answers.

    :param rankings: float [m, n], a ranking a row, as in :func:`agreement`.
    :returns: from 0 to 1; None where no two of them can be compared.
    """
    rows = np.asarray(rankings, dtype=np.float64)
    upper = np.triu_indices(len(rows), k=1)
    found = [agreement(rows[i], rows[j]) for i, j in zip(*upper, strict=True)]
    known = [value for value in found if value is not None]
    return 1 - float(np.mean(known)) if known else None


def kendall_tau_b(first: ArrayLike, second: ArrayLike) -> float | Undefined:
    """Rank correlation of two rankings with ties, by SciPy; undefined where one of them ties everything.

    :param first: float [n], NaN where unranked.
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    known = ~(np.isnan(x) | np.isnan(y))
    if known.sum() < 2:
        return Undefined(Reason.NO_OVERLAP, int(known.sum()))
    tau = float(stats.kendalltau(x[known], y[known]).statistic)
    return Undefined(Reason.NO_VARIATION, int(known.sum())) if np.isnan(tau) else tau


def kendall_w(rankings: ArrayLike) -> float | Undefined:
    """Concordance of m rankings of the same n answers, corrected for ties.

    Kendall and Gibbons (1990), "Rank Correlation Methods", 5th edition, chapter 6: W = 12 S / (m² (n³ − n) − m ΣT).

    :param rankings: float [m, n], complete.
    """
    places = np.asarray(rankings, dtype=np.float64)
    m, n = places.shape
    if m < 2:
        return Undefined(Reason.ONE_RATER, m)
    ranks = stats.rankdata(places, axis=1)
    spread = ((ranks.sum(axis=0) - m * (n + 1) / 2) ** 2).sum()
    tied = sum(float((count**3 - count).sum()) for count in (np.unique(row, return_counts=True)[1] for row in ranks))
    most = m**2 * (n**3 - n) - m * tied
    return Undefined(Reason.NO_VARIATION, m) if most == 0 else float(12 * spread / most)


def _orders(places: ArrayLike) -> NDArray[np.float64]:
    """float [n (n − 1) / 2]: for each pair of answers −1 or 1, 0 for a tie, NaN where one of them is unranked."""
    values = np.asarray(places, dtype=np.float64)
    left, right = np.triu_indices(len(values), k=1)
    return np.sign(values[left] - values[right])


def _alike(x: NDArray[np.float64], y: NDArray[np.float64], pairs: NDArray[np.bool_]) -> float | None:
    # Orders are −1, 0 and 1: a tie against an order is 1 apart, an order against its reverse 2.
    return float(np.mean(1 - np.abs(x - y)[pairs] / 2)) if pairs.any() else None
