"""Intervals for means that come in clusters: a prompt's answers are not independent of each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from annotate.stats.estimate import ANYTHING, Bounds, Estimate, Reason, Undefined, around

Floats = NDArray[np.float64]


def mean_interval(values: ArrayLike, *, bounds: Bounds = ANYTHING, level: float = 0.95) -> Estimate | Undefined:
    """Student's t interval of the mean of independent values.

    :param values: float [n], one value a cluster.
    :param bounds: what the mean can be, which the interval does not leave.
    :param level: coverage, between 0 and 1.
    :returns: the mean; no interval with fewer than two values, or where all are the same.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) == 0:
        return Undefined(Reason.NO_DATA)
    mean = float(x.mean())
    if len(x) == 1:
        return Estimate(mean, None, None, 1)
    half = float(stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return around(mean, half, len(x), bounds=bounds)


def median_interval(values: ArrayLike, *, level: float = 0.95) -> Estimate | Undefined:
    """The median of independent values, with the interval between two of them that its ranks allow.

    Hahn and Meeker (1991), "Statistical Intervals", section 5.2: it holds whatever the distribution.

    :param values: float [n].
    :param level: coverage at least, between 0 and 1.
    :returns: the median; no interval with so few values that even the extremes do not cover.
    """
    x = np.sort(np.asarray(values, dtype=np.float64))
    n = len(x)
    if n == 0:
        return Undefined(Reason.NO_DATA)
    below = int(stats.binom.ppf((1 - level) / 2, n, 0.5))
    low, high = (float(x[below - 1]), float(x[n - below])) if below else (None, None)
    return Estimate(float(np.median(x)), low, high, n)


def share_interval(outcomes: ArrayLike, *, level: float = 0.95) -> Estimate | Undefined:
    """Wilson's score interval of the mean of independent outcomes between 0 and 1, such as wins with ties as ½.

    It stays within 0 and 1. Outcomes between 0 and 1 vary less than wins and losses of the same mean, so for
    them it is wide rather than narrow.

    Wilson (1927), "Probable inference, the law of succession, and statistical inference".

    :param outcomes: float [n], one value a cluster.
    :param level: coverage, between 0 and 1.
    :returns: the mean; no interval without outcomes.
    """
    x = np.asarray(outcomes, dtype=np.float64)
    n = len(x)
    if n == 0:
        return Undefined(Reason.NO_DATA)
    mean = float(x.mean())
    return Estimate(mean, *wilson(mean, n, float(stats.norm.ppf((1 + level) / 2))), n)


def clustered_mean(
    values: ArrayLike, clusters: ArrayLike, *, bounds: Bounds = ANYTHING, level: float = 0.95
) -> Estimate | Undefined:
    """Student's interval of a mean of values that come in clusters of unequal size.

    The variance is that of a ratio of totals over whole clusters: Cochran (1977), "Sampling Techniques", section 6.3.

    :param values: float [n].
    :param clusters: [n], the cluster of each value, such as its prompt.
    :param bounds: what the mean can be, which the interval does not leave.
    :returns: the mean over all values, with n the number of values; no interval with fewer than two clusters, or where
        the mean of each is the same.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) == 0:
        return Undefined(Reason.NO_DATA)
    mean, (variance, count) = float(x.mean()), _variance(x, clusters)
    if count < 2:
        return Estimate(mean, None, None, len(x))
    half = float(stats.t.ppf((1 + level) / 2, count - 1) * np.sqrt(variance))
    return around(mean, half, len(x), bounds=bounds)


def clustered_share(outcomes: ArrayLike, clusters: ArrayLike, *, level: float = 0.95) -> Estimate | Undefined:
    """Wilson's interval of a share of outcomes that come in clusters, from as many as they are worth.

    Outcomes of variance V of the mean p are worth p(1 − p)/V independent ones, fewer by the square of the quotient of
    the normal and Student's quantile for the degrees of freedom: Korn and Graubard (1998), "Confidence intervals for
    proportions with small expected number of positive counts estimated from survey data". Where all outcomes are
    alike, they are worth one a cluster.

    :param outcomes: float [n], from 0 to 1.
    :param clusters: [n], the cluster of each outcome, such as its prompt.
    :returns: the mean over all outcomes, with n their number; no interval with fewer than two clusters.
    """
    x = np.asarray(outcomes, dtype=np.float64)
    if len(x) == 0:
        return Undefined(Reason.NO_DATA)
    mean, (variance, count) = float(x.mean()), _variance(x, clusters)
    if count < 2:
        return Estimate(mean, None, None, len(x))
    z = float(stats.norm.ppf((1 + level) / 2))
    worth = mean * (1 - mean) / variance if variance > 0 else float(count)
    worth = min(worth, float(len(x))) * (z / float(stats.t.ppf((1 + level) / 2, count - 1))) ** 2
    return Estimate(mean, *wilson(mean, worth, z), len(x))


def _variance(x: Floats, clusters: ArrayLike) -> tuple[float, int]:
    """Of the mean of clustered values, and the number of clusters."""
    _names, index = np.unique(np.asarray(clusters), return_inverse=True)
    residuals = np.bincount(index, weights=x - x.mean())
    count = len(residuals)
    return float((residuals**2).sum() * count / max(count - 1, 1) / len(x) ** 2), count


def wilson(mean: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's lower and upper end of a share of n outcomes, within 0 and 1.

    :param z: the normal quantile of the level.
    """
    centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n)))
    # At either end the formula gives exactly 0 or 1, but for rounding.
    return 0.0 if mean <= 0 else max(0.0, centre - half), 1.0 if mean >= 1 else min(1.0, centre + half)
