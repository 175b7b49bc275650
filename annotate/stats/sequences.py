"""Bounds on a mean that hold at every look: confidence sequences for outcomes between 0 and 1 that come one by one.

Whoever looks at an ordinary interval after every prompt and stops when it likes what it sees is wrong far more often
than the interval says. With a sequence the true mean lies within the bounds *at all times at once* with the stated
probability, so that looking costs nothing. That is for outcomes of one mean: where it changes on the way, the bounds
may cross, and then say that no mean fits all outcomes.

Both are of Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by betting", Journal of the
Royal Statistical Society B 86: the hedged capital (theorem 3, equations 24 to 26) and the predictable plug-in
empirical Bernstein bounds (theorem 2, equations 13 to 15). What is left out: sampling without replacement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from annotate.stats.resampling import Floats

LARGEST_BET = 0.5
"""Share of the capital that one outcome can cost: the paper's c."""
GRID = 2000
"""Steps of the means that are bet against at every look; ½ is one."""
HALVINGS = 14
"""Of a step, until a bound is known; it is rounded outward."""
AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Sequence:
    """Bounds after each outcome, each the tightest so far."""

    low: Floats
    """[n]."""
    high: Floats
    """[n]; below ``low`` where no mean fits."""

    @property
    def fits(self) -> NDArray[np.bool_]:
        """Whether any mean fits the outcomes so far, [n]; of outcomes that drift none may."""
        return np.asarray(self.low <= self.high)


def betting_sequence(outcomes: ArrayLike, *, planned: int | None = None, level: float = 0.95) -> Sequence:
    """Bounds from two gamblers, of whom one bets that the mean is higher and one that it is lower.

    A mean is out once half of what a gambler of capital 1 has won against it reaches 1 / (1 − level).

    :param outcomes: float [n], in the order in which they were drawn, in [0, 1].
    :param planned: how many outcomes the bets are sized for; without it they are sized for all numbers alike. The
        bounds hold at every time either way.
    :raises ValueError: for an outcome outside of [0, 1].
    """
    x = _checked(outcomes)
    bets, needed = bet_sizes(x, planned=planned, level=level), np.log(2 / (1 - level))
    return Sequence(_lower_bounds(x, bets, needed), 1 - _lower_bounds(1 - x, bets, needed))


def evidence_above(
    outcomes: ArrayLike, mean: float = 0.5, *, planned: int | None = None, level: float = 0.95
) -> Floats:
    """How far along the evidence is that the mean lies above a value: 1 and more is enough, at any time.

    Where it reaches 1, the lower bound of :func:`betting_sequence` passes the value; it is that bound's gambler's
    capital as a share of what is needed.

    :param outcomes: float [..., n], in the order in which they were drawn, in [0, 1].
    :returns: float64 [..., n], the highest share so far.
    """
    x = _checked(outcomes)
    up = _log_capital(x, bet_sizes(x, planned=planned, level=level), np.array(mean))
    share = np.exp(np.minimum(np.cumsum(up, axis=-1) - np.log(2 / (1 - level)), 700))
    return np.asarray(np.maximum.accumulate(share, axis=-1))


def bernstein_sequence(outcomes: ArrayLike, *, level: float = 0.95) -> Sequence:
    """Bounds in closed form, wider than by betting; arguments as of :func:`betting_sequence`."""
    x = _checked(outcomes)
    weight = np.minimum(bet_sizes(x, planned=None, level=level), LARGEST_BET)
    mean, _variance = _running_moments(x)
    before = np.concatenate([[0.5], mean[:-1]])[: len(x)]
    cost = (x - before) ** 2 * (-np.log1p(-weight) - weight)
    total = np.cumsum(weight)
    centre = np.cumsum(weight * x) / total
    half = (np.log(2 / (1 - level)) + np.cumsum(cost)) / total
    return _running(np.maximum(centre - half, 0), np.minimum(centre + half, 1))


def bet_sizes(outcomes: ArrayLike, *, planned: int | None, level: float) -> Floats:
    """How much is bet on each outcome, decided before it: √(2 ln(2/α) / (σ̂² t ln(1 + t))).

    :param planned: what stands in place of t ln(1 + t), if anything.
    :returns: float64 [..., n], not yet held down to what can be lost.
    """
    x = np.asarray(outcomes, dtype=np.float64)
    _mean, variance = _running_moments(x)
    before = np.concatenate([np.full((*x.shape[:-1], 1), 0.25), variance[..., :-1]], axis=-1)[..., : x.shape[-1]]
    t = np.arange(1, x.shape[-1] + 1)
    return np.asarray(np.sqrt(2 * np.log(2 / (1 - level)) / (before * (planned or t * np.log1p(t)))))


def _lower_bounds(x: Floats, bets: Floats, needed: float) -> Floats:
    """[n], after each outcome the highest mean that was ever out, 0 where none was.

    The capital against a mean is the smaller the higher the mean is, so that halving the step in which it falls below
    what is needed finds where it does. Only a look whose step is not below an earlier one's can raise the bound.
    """
    means = np.arange(GRID + 1) / GRID
    low, capital = np.zeros(len(x)), np.zeros(len(means))
    step = max(1, AT_ONCE // len(means))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        won = capital + np.cumsum(_log_capital(x[part, None], bets[part, None], means), axis=0)
        capital = won[-1]
        low[part] = np.where(won >= needed, means, 0).max(axis=1)
    raising = np.flatnonzero(low >= np.maximum.accumulate(low))
    step = max(1, AT_ONCE // max(len(x), 1))
    for start in range(0, len(raising), step):
        looks = raising[start : start + step]
        came = np.arange(looks[-1] + 1) <= looks[:, None]
        for halving in range(1, HALVINGS + 1):
            higher = low[looks] + 0.5**halving / GRID
            won = _log_capital(x[: looks[-1] + 1], bets[: looks[-1] + 1], higher[:, None]).sum(axis=1, where=came)
            low[looks] = np.where(won >= needed, higher, low[looks])
    return np.asarray(np.maximum.accumulate(low))


def _running_moments(x: Floats) -> tuple[Floats, Floats]:
    """Mean and variance after each outcome, as if one of ½ with variance ¼ had come before."""
    t = np.arange(1, x.shape[-1] + 1)
    mean = (0.5 + np.cumsum(x, axis=-1)) / (t + 1)
    return mean, (0.25 + np.cumsum((x - mean) ** 2, axis=-1)) / (t + 1)


def _log_capital(x: Floats, bets: Floats, means: Floats) -> Floats:
    """Logarithm of what each outcome multiplies the capital by, betting on more than each mean."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log1p(np.minimum(bets, LARGEST_BET / means) * (x - means)))


def _running(low: Floats, high: Floats) -> Sequence:
    return Sequence(np.maximum.accumulate(low), np.minimum.accumulate(high))


def _checked(outcomes: ArrayLike) -> Floats:
    x = np.asarray(outcomes, dtype=np.float64)
    if not ((x >= 0) & (x <= 1)).all():
        raise ValueError("Outcomes must lie between 0 and 1.")
    return x
