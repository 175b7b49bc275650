"""Intervals for means that come in clusters: a prompt's answers are not independent of each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from annotate.stats.estimate import Estimate, Reason, Undefined

BOOTSTRAP_ROUNDS = 10_000


def mean_interval(values: ArrayLike, *, level: float = 0.95) -> Estimate | Undefined:
    """Student's t interval of the mean of independent values.

    :param values: float [n], one value a cluster.
    :param level: coverage, between 0 and 1.
    :returns: the mean; no interval with fewer than two values.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) == 0:
        return Undefined(Reason.NO_DATA)
    mean = float(x.mean())
    if len(x) == 1:
        return Estimate(mean, None, None, 1)
    half = float(stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return Estimate(mean, mean - half, mean + half, len(x))


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
    ends = (float(x[below - 1]), float(x[n - below])) if below else (None, None)
    return Estimate(float(np.median(x)), *ends, n)


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
    z = float(stats.norm.ppf((1 + level) / 2))
    centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n)))
    return Estimate(mean, max(0.0, centre - half), min(1.0, centre + half), n)


def cluster_bootstrap(
    values: ArrayLike, clusters: ArrayLike, *, level: float = 0.95, rounds: int = BOOTSTRAP_ROUNDS, seed: int = 0
) -> Estimate | Undefined:
    """Percentile interval of a mean whose clusters are resampled whole.

    Field and Welsh (2007), "Bootstrapping clustered data", section 3: the cluster bootstrap.

    :param values: float [n], such as 1 for a pair that was ordered rightly and 0 for one that was not.
    :param clusters: [n], the cluster of each value, such as its prompt.
    :returns: the mean over all values, with n the number of values; no interval with fewer than two clusters.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) == 0:
        return Undefined(Reason.NO_DATA)
    _names, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums, sizes = np.bincount(index, weights=x), np.bincount(index)
    if len(sums) < 2:
        return Estimate(float(x.mean()), None, None, len(x))
    draw = np.random.default_rng(seed).integers(len(sums), size=(rounds, len(sums)))
    means = sums[draw].sum(axis=1) / sizes[draw].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(x.mean()), float(low), float(high), len(x))
