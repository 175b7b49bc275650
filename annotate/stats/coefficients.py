"""How far raters agree beyond chance, with intervals over prompts and raters.

A rating is a value that a rater gave to a unit, such as an answer; no rater gives two to one. Every coefficient here is
a function of sums over pairs of ratings of one unit, which is what is resampled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from annotate.stats.estimate import Estimate, Reason, Undefined
from annotate.stats.resampling import ROUNDS, Clusters, Floats, Members, bootstrap

Metric = Literal["nominal", "ordinal", "interval"]
Coefficient = Callable[[Floats], Floats]
"""Totals [b, k] to values [b]."""


@dataclass(frozen=True)
class _Ratings:
    """Ratings ordered by unit, or with [r, 2] raters and values, pairs of them."""

    prompts: NDArray[Any]
    raters: NDArray[Any]
    values: Floats
    of_unit: Members
    """[r], how many ratings the unit has."""

    @classmethod
    def of(cls, units: ArrayLike, raters: ArrayLike, values: ArrayLike, prompts: ArrayLike | None) -> _Ratings:
        """Ratings that are there.

        :raises ValueError: when a rater rated a unit twice: that is self-agreement and would count as that of two.
        """
        given = np.asarray(values, dtype=np.float64)
        unit = np.unique(np.asarray(units), return_inverse=True)[1]
        order = np.argsort(unit, kind="stable")
        order = order[~np.isnan(given[order])]
        unit = unit[order]
        rater = np.unique(np.asarray(raters), return_inverse=True)[1][order]
        if len(np.unique(unit * (1 + rater.max(initial=0)) + rater)) < len(unit):
            raise ValueError("A rater rates a unit once; keep one of the ratings.")
        of_unit = np.bincount(unit)[unit] if len(unit) else unit
        return cls(unit if prompts is None else np.asarray(prompts)[order], rater, given[order], of_unit)

    def pairs(self) -> _Ratings:
        """All pairs of ratings of one unit."""
        found = [np.empty((0, 2), dtype=np.int64)]
        for size in np.unique(self.of_unit[self.of_unit > 1]).tolist():
            groups = np.flatnonzero(self.of_unit == size).reshape(-1, size)
            found.append(np.stack([groups[:, side] for side in np.triu_indices(size, k=1)], axis=-1).reshape(-1, 2))
        both = np.concatenate(found)
        return _Ratings(self.prompts[both[:, 0]], self.raters[both], self.values[both], self.of_unit[both[:, 0]])

    def both_ways(self, middle: float) -> _Ratings:
        """Each once as it is and once mirrored."""
        prompts, raters, of_unit = (np.concatenate([own, own]) for own in (self.prompts, self.raters, self.of_unit))
        return _Ratings(prompts, raters, np.concatenate([self.values, 2 * middle - self.values]), of_unit)

    def nothing_to_pair(self, n: int) -> Undefined | None:
        """Why there are no pairs; None where there are n of what counts."""
        if n:
            return None
        if not len(self.values):
            return Undefined(Reason.NO_DATA)
        return Undefined(Reason.ONE_RATER if len(np.unique(self.raters)) == 1 else Reason.NO_OVERLAP, len(self.values))


def krippendorff_alpha(
    units: ArrayLike,
    raters: ArrayLike,
    values: ArrayLike,
    metric: Metric,
    *,
    prompts: ArrayLike | None = None,
    middle: float | None = None,
    fixed_raters: bool = False,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Estimate | Undefined:
    """α = 1 − D_o / D_e: Krippendorff (2019), "Content Analysis", 4th edition, chapter 12.

    :param units: [n], the name of what each rating is of.
    :param raters: [n], names; a rater rates a unit once.
    :param values: float [n].
    :param metric: what distance two values have.
    :param prompts: [n], the prompt of each rating's unit; by default each unit is its own.
    :param middle: for units that could as well be the other way round, such as pairs of answers: the value about which
        ratings are then mirrored. Each unit counts half as it is and half mirrored, so that chance does not depend on
        which way round it happens to be.
    :param fixed_raters: whether the interval is about these raters and not about such as them.
    :returns: n counts ratings that can be paired.
    """
    ratings = _Ratings.of(units, raters, values, prompts)
    pairs = ratings.pairs()
    n = int((ratings.of_unit > 1).sum())
    if undefined := ratings.nothing_to_pair(n):
        return undefined
    weight = 2 / (pairs.of_unit - 1)
    if middle is not None:
        pairs, weight = pairs.both_ways(middle), np.concatenate([weight, weight]) / 2
    clusters = Clusters.of(pairs.prompts, None if fixed_raters else pairs.raters)
    if metric == "interval":
        x, y = pairs.values.T
        moments = np.column_stack([np.ones(len(x)), (x + y) / 2, (x**2 + y**2) / 2, (x - y) ** 2])
        return _estimate(moments * weight[:, None], _alpha_of_moments, clusters, n, rounds, seed)
    levels, code = np.unique(pairs.values, return_inverse=True)
    size = len(levels)
    code = code.reshape(-1, 2)
    rows = _indicator(code[:, 0] * size + code[:, 1], size * size, weight)
    alpha = partial(_alpha_of_coincidences, size=size, ordinal=metric == "ordinal")
    return _estimate(rows, alpha, clusters, n, rounds, seed)


def fleiss_kappa(
    units: ArrayLike,
    raters: ArrayLike,
    values: ArrayLike,
    *,
    prompts: ArrayLike | None = None,
    fixed_raters: bool = False,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Estimate | Undefined:
    """Fleiss (1971), "Measuring nominal scale agreement among many raters".

    With different numbers of ratings every unit weighs the same, and units with one rating tell how frequent the
    categories are: Gwet (2014), "Handbook of Inter-Rater Reliability", 4th edition, chapter 2. Arguments as of
    :func:`krippendorff_alpha`; n counts units with two ratings or more.
    """
    return _of_categories(_Ratings.of(units, raters, values, prompts), _kappa_of_shares, fixed_raters, rounds, seed)


def gwet_ac1(
    units: ArrayLike,
    raters: ArrayLike,
    values: ArrayLike,
    *,
    prompts: ArrayLike | None = None,
    fixed_raters: bool = False,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Estimate | Undefined:
    """Gwet (2008), "Computing inter-rater reliability and its variance in the presence of high agreement".

    Steady where nearly all answers are the same, which sends κ to 0. Arguments as of :func:`fleiss_kappa`.
    """
    return _of_categories(_Ratings.of(units, raters, values, prompts), _ac1_of_shares, fixed_raters, rounds, seed)


def cohen_kappa(
    first: ArrayLike,
    second: ArrayLike,
    *,
    quadratic: bool = False,
    prompts: ArrayLike | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Estimate | Undefined:
    """Two raters beyond chance: Cohen (1960), or with quadratic weights Cohen (1968).

    :param first: float [units], one rater's values; NaN where missing.
    :param second: float [units], the other's.
    :param quadratic: whether a disagreement weighs the square of its distance in categories.
    """
    table = np.array([first, second], dtype=np.float64)
    both = np.flatnonzero(~np.isnan(table).any(axis=0))
    n = len(both)
    if n == 0:
        return Undefined(Reason.NO_OVERLAP)
    levels, code = np.unique(table[:, both], return_inverse=True)
    size = len(levels)
    code = code.reshape(2, -1)
    of = both if prompts is None else np.asarray(prompts)[both]
    rows = _indicator(code[0] * size + code[1], size * size, np.ones(n))
    kappa = partial(_kappa_of_confusion, size=size, quadratic=quadratic)
    return _estimate(rows, kappa, Clusters.of(of, None), n, rounds, seed)


def _indicator(column: NDArray[np.int64], columns: int, weight: Floats) -> sparse.csr_array:
    rows = np.arange(len(column))
    return sparse.csr_array((weight, (rows, column)), shape=(len(column), columns))


def _alpha_of_coincidences(totals: Floats, *, size: int, ordinal: bool) -> Floats:
    """[b] from the sums of 2 / (m − 1) over pairs of values, [b, size²]."""
    one_way = totals.reshape(-1, size, size)
    observed = (one_way + one_way.transpose(0, 2, 1)) / 2
    margin = observed.sum(axis=2)
    if ordinal:
        # The squared count of ratings from the one value to the other, half of the two themselves left out.
        middle = np.cumsum(margin, axis=1) - margin / 2
        distance = (middle[:, :, None] - middle[:, None, :]) ** 2
    else:
        distance = np.broadcast_to(1 - np.eye(size), observed.shape)
    expected = margin[:, :, None] * margin[:, None, :]
    return _one_less(observed * distance, expected * distance, margin.sum(axis=1))


def _one_less(observed: Floats, expected: Floats, n: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - (n - 1) * observed.sum(axis=(1, 2)) / expected.sum(axis=(1, 2))


def _alpha_of_moments(totals: Floats) -> Floats:
    """[b] from weights, and weighted means, squares and squared distances of pairs."""
    n, linear, squared, apart = totals.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - (n - 1) * apart / (2 * (n * squared - linear**2))


def _of_categories(
    ratings: _Ratings, coefficient: Coefficient, fixed_raters: bool, rounds: int, seed: int
) -> Estimate | Undefined:
    pairs = ratings.pairs()
    per_pair = 2 / (pairs.of_unit * (pairs.of_unit - 1))
    n = round(per_pair.sum())
    if undefined := ratings.nothing_to_pair(n):
        return undefined
    levels, code = np.unique(ratings.values, return_inverse=True)
    identity = np.eye(len(levels))
    one, other = np.searchsorted(levels, pairs.values).T
    rows = np.column_stack([np.ones(len(one)), one == other, (identity[one] + identity[other]) / 2])
    lone = ratings.of_unit == 1
    alone = np.column_stack([np.zeros((lone.sum(), 2)), identity[code[lone]]])
    nobody = np.full(lone.sum(), -1)
    raters = np.concatenate([pairs.raters, np.column_stack([ratings.raters[lone], nobody])])
    clusters = Clusters.of(np.append(pairs.prompts, ratings.prompts[lone]), None if fixed_raters else raters)
    return _estimate(np.concatenate([rows * per_pair[:, None], alone]), coefficient, clusters, n, rounds, seed)


def _kappa_of_shares(totals: Floats) -> Floats:
    agreed, held = _shares(totals)
    return _beyond(agreed, (held**2).sum(axis=1))


def _ac1_of_shares(totals: Floats) -> Floats:
    agreed, held = _shares(totals)
    return _beyond(agreed, (held * (1 - held)).sum(axis=1) / max(held.shape[1] - 1, 1))


def _shares(totals: Floats) -> tuple[Floats, Floats]:
    """Of pairs that agree, [b], over units judged twice, and of each category, [b, c], over all units."""
    held = totals[:, 2:]
    return totals[:, 1] / totals[:, 0], held / held.sum(axis=1, keepdims=True)


def _kappa_of_confusion(totals: Floats, *, size: int, quadratic: bool) -> Floats:
    confusion = totals.reshape(-1, size, size)
    share = confusion / confusion.sum(axis=(1, 2), keepdims=True)
    grid = np.arange(size)
    apart = (grid[:, None] - grid[None, :]) ** 2 if quadratic else 1 - np.eye(size)
    by_chance = share.sum(axis=2)[:, :, None] * share.sum(axis=1)[:, None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - (share * apart).sum(axis=(1, 2)) / (by_chance * apart).sum(axis=(1, 2))


def _beyond(agreed: Floats, by_chance: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return (agreed - by_chance) / (1 - by_chance)


def _estimate(
    rows: Floats | sparse.csr_array, coefficient: Coefficient, clusters: Clusters, n: int, rounds: int, seed: int
) -> Estimate | Undefined:
    value = float(coefficient(np.asarray(rows.sum(axis=0)).reshape(1, -1))[0])
    if not np.isfinite(value):
        return Undefined(Reason.NO_VARIATION, n)
    spread = bootstrap(rows, lambda totals: coefficient(totals)[:, None], clusters, rounds=rounds, seed=seed)
    return spread.estimates([value], n, bounds=(-1.0, 1.0))[0]
