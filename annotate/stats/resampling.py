"""How sure a statistic is whose observations come in clusters of two kinds at once: prompts and raters.

Answers to one prompt resemble each other, and so do the judgements of one rater; neither nests in the other. The
variance is that of Cameron, Gelbach and Miller (2011), "Robust inference with multiway clustering", equation 2.8:

    V = V(prompts) + V(raters) − V(prompt and rater)

since noise of single judgements is in the first two alike and would be counted twice. (Drawing prompts and raters at
once and multiplying their weights counts it three times: Owen 2007, "The pigeonhole bootstrap", theorem 3.) Each of the
three comes from a Bayesian bootstrap (Rubin 1981): whole clusters get exponential weights. No weight is zero, so that
what can be fitted to the data can be fitted in every round. The interval is Student's with one degree of freedom fewer
than the rarer kind has clusters (Cameron and Miller 2015, "A practitioner's guide to cluster-robust inference").

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
    degrees: int
    """Of freedom; 0 where there are too few clusters to tell."""

    def estimates(
        self, values: ArrayLike, n: int, *, scale: float = 1.0, bounds: Bounds = ANYTHING, level: float = 0.95
    ) -> tuple[Estimate, ...]:
        """Each component with Student's interval, all multiplied by a scale.

        :param bounds: what the components can be, which the intervals do not leave.
        :returns: no intervals with fewer than two clusters, nor of a component that is the same in all of them.
        """
        found = np.asarray(values, dtype=np.float64) * scale
        if self.degrees < 1:
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
        return Spread(variances(clusters.by_rater()), _count(clusters.by_rater()) - 1)
    by_prompt, degrees = variances(clusters.prompts[:, None]), _count(clusters.prompts) - 1
    if clusters.raters is None:
        return Spread(by_prompt, degrees)
    # What one rater's judgements of different prompts have in common; below 0 it is chance.
    common = variances(clusters.by_rater()) - variances(clusters.by_cell())
    return Spread(by_prompt + np.maximum(common, 0), min(degrees, _count(clusters.by_rater()) - 1))


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
