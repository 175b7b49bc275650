"""How sure a statistic is whose observations come in clusters of two kinds at once: prompts and raters.

Answers to one prompt resemble each other, and so do the judgements of one rater; neither nests in the other. The
variance is that of Cameron, Gelbach and Miller (2011), "Robust inference with multiway clustering", equation 2.8:

    V = V(prompts) + V(raters) − V(prompt and rater)

since noise of single judgements is in the first two alike and would be counted twice. (Drawing prompts and raters at
once and multiplying their weights counts it three times: Owen 2007, "The pigeonhole bootstrap", theorem 3.) Each of the
three comes from a Bayesian bootstrap (Rubin 1981): whole clusters get exponential weights. No weight is zero, so that
what can be fitted to the data can be fitted in every round.

The interval is Student's. A variance over few raters is itself known badly, but counts only as far as it is part of the
whole: the degrees of freedom are those of Satterthwaite (1946), "An approximate distribution of estimates of variance
components", of prompts and raters together,

    ν = V² / (V(prompts)² / (prompts − 1) + V(raters)² / (raters − 1))

where, as Hillis (2007), "A comparison of denominator degrees of freedom methods for multiple observer ROC analysis",
has it for readers and cases, V(raters) counts in full below also where V(prompt and rater) is the larger one. With
fewer than three raters nothing is said of others: the interval is then over prompts, for these raters.

A statistic here is a function of totals: of sums, over observations, of a few numbers each. Totals by cluster are all
that a round needs, and that is what makes a thousand rounds over a million observations a matter of seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, stats

from annotate.stats.estimate import ANYTHING, Bounds, Estimate, around

ROUNDS = 1000
LEAST_RATERS = 3
"""With fewer, intervals are for these raters and not for such as them: with two, they would nearly span the scale, or
hold the truth in 90 of 100 studies."""
AT_ONCE = 1 << 24
"""Weights held in memory at once."""

Floats = NDArray[np.float64]
Members = NDArray[np.int64]
"""The number of each observation's cluster, [r], [r, 1] or, for an observation about two raters, [r, 2]."""
Statistic = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Spread:
    """How far a statistic with p components would vary from sample to sample."""

    variances: Floats
    """float64 [p]."""
    degrees: Floats
    """float64 [p], of freedom; 0 where there are too few clusters to tell."""

    def estimates(
        self, values: ArrayLike, n: int, *, scale: float = 1.0, bounds: Bounds = ANYTHING, level: float = 0.95
    ) -> tuple[Estimate, ...]:
        """Each component with Student's interval, all multiplied by a scale.

        :param bounds: what the components can be, which the intervals do not leave.
        :returns: no intervals with fewer than two clusters, nor of a component that is the same in all of them.
        """
        found = np.asarray(values, dtype=np.float64) * scale
        if (self.degrees == 0).any():
            return tuple(Estimate(value, None, None, n) for value in found.tolist())
        half = stats.t.ppf((1 + level) / 2, self.degrees) * np.sqrt(self.variances) * scale
        both = zip(found.tolist(), half.tolist(), strict=True)
        return tuple(around(value, reach, n, bounds=bounds) for value, reach in both)


@dataclass(frozen=True)
class Clusters:
    """Which prompt and which raters each observation belongs to."""

    prompts: Members | None
    """[r], from 0; None where prompts are not drawn."""
    raters: Members | None
    """[r] or, for an observation about two raters, [r, 2], from 0, −1 for none; None where the raters are fixed."""

    @classmethod
    def of(cls, prompts: ArrayLike | None, raters: ArrayLike | None) -> Clusters:
        """Clusters by any names."""
        return cls(*(None if names is None else _numbered(np.asarray(names)) for names in (prompts, raters)))

    def by_rater(self) -> Members:
        """[r, 1 or 2]."""
        assert self.raters is not None
        return self.raters if self.raters.ndim == 2 else self.raters[:, None]

    def by_cell(self) -> Members:
        """[r, 1 or 2], the prompt and rater of each judgement as one number; −1 for none."""
        assert self.prompts is not None
        raters = self.by_rater()
        cells = self.prompts[:, None] * (raters.max() + 1) + raters
        return _numbered(np.where(raters < 0, -1, cells))


def bootstrap(
    rows: ArrayLike | sparse.sparray, statistic: Statistic, clusters: Clusters, *, rounds: int = ROUNDS, seed: int = 0
) -> Spread:
    """The spread of a function of totals.

    :param rows: float64 [r, k], dense or sparse: what each observation adds to each total.
    :param statistic: of totals, float64 [b, k], to values, float64 [b, p].
    """
    matrix = sparse.csr_array(rows, dtype=np.float64)
    generator = np.random.default_rng(seed)

    def variances(of: Members) -> Floats:
        values = _replicates(matrix, of, statistic, rounds, generator)
        count = _count(of)
        return values.var(axis=0, ddof=1) * (count + 1) / max(count - 1, 1)

    return _combined(clusters, variances)


def sandwich(influence: ArrayLike, clusters: Clusters) -> Spread:
    """The spread of a statistic from the first-order effect of each observation on it.

    :param influence: float64 [r, p], by how much an observation's presence moves the statistic; the columns sum to 0.
    """
    psi = np.asarray(influence, dtype=np.float64)

    def variances(of: Members) -> Floats:
        count = _count(of)
        return ((_grouping(of[:, 0]) @ psi) ** 2).sum(axis=0) * count / max(count - 1, 1)

    return _combined(clusters, variances)


def _combined(clusters: Clusters, variances: Callable[[Members], Floats]) -> Spread:
    if clusters.prompts is None:
        return _over(variances, clusters.by_rater())
    prompts = _over(variances, clusters.prompts[:, None])
    if clusters.raters is None or _count(clusters.by_rater()) < LEAST_RATERS:
        return prompts
    raters = _over(variances, clusters.by_rater())
    # What one rater's judgements of different prompts have in common; below 0 it is chance.
    common = raters.variances - variances(clusters.by_cell())
    total = prompts.variances + np.maximum(common, 0)
    fewest = np.minimum(prompts.degrees, raters.degrees)
    with np.errstate(divide="ignore", invalid="ignore"):
        squares = sum(part.variances**2 / part.degrees for part in (prompts, raters))
        degrees = np.where(fewest * squares > 0, total**2 / squares, fewest)
    return Spread(total, np.maximum(degrees, fewest))


def _over(variances: Callable[[Members], Floats], of: Members) -> Spread:
    found = variances(of)
    return Spread(found, np.full_like(found, _count(of) - 1))


def _replicates(
    rows: sparse.csr_array, of: Members, statistic: Statistic, rounds: int, generator: np.random.Generator
) -> Floats:
    """float64 [rounds, p]: the statistic under weights drawn for each cluster; a row of two weighs their product."""
    count = _count(of)
    single = of.shape[1] == 1
    totals = (_grouping(of[:, 0]) @ rows if single else rows).T.tocsr()
    step = max(1, AT_ONCE // max(count, len(of)))
    found = []
    for start in range(0, rounds, step):
        drawn = generator.standard_exponential((count, min(step, rounds - start)))
        drawn /= drawn.mean(axis=0)
        if not single:
            drawn = np.concatenate([drawn, np.ones((1, drawn.shape[1]))])  # −1, no rater, weighs 1
            drawn = drawn[of[:, 0]] * drawn[of[:, 1]]
        found.append(statistic((totals @ drawn).T))
    return np.concatenate(found)


def _count(of: Members) -> int:
    return int(of.max(initial=-1)) + 1


def _grouping(of: Members) -> sparse.csr_array:
    """[clusters, r]: sums over the observations of each cluster."""
    return sparse.csr_array((np.ones(len(of)), (of, np.arange(len(of)))))


def _numbered(names: NDArray[Any]) -> Members:
    """Names as numbers from 0; −1 stays −1."""
    known, index = np.unique(names, return_inverse=True)
    none = names.ndim == 2 and known.size > 0 and known[0] == -1
    return index.reshape(names.shape).astype(np.int64) - none
