"""How often one model is preferred to another; a tie is half a win."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from annotate.stats.estimate import ANYTHING, Bounds, Estimate, Reason, Undefined
from annotate.stats.intervals import share_interval
from annotate.stats.resampling import ROUNDS, Clusters, Floats, bootstrap


def mean_by_prompt(outcomes: ArrayLike, prompts: ArrayLike) -> Floats:
    """Each prompt's mean outcome, in the order in which the prompts first come: what a sequence of bounds takes.

    :param outcomes: float [n], 1 for a win, ½ for a tie, 0 for a loss.
    :param prompts: [n], names.
    """
    values = np.asarray(outcomes, dtype=np.float64)
    _names, first, index = np.unique(np.asarray(prompts), return_index=True, return_inverse=True)
    means = np.bincount(index, weights=values) / np.bincount(index) if len(values) else values
    return np.asarray(means[np.argsort(first)])


def win_rate(outcomes: ArrayLike, prompts: ArrayLike) -> Estimate | Undefined:
    """The mean over prompts with Wilson's interval: prompts are drawn, the raters are these.

    Arguments as of :func:`mean_by_prompt`; n counts prompts.
    """
    return share_interval(mean_by_prompt(outcomes, prompts))


def two_way_mean(
    values: ArrayLike,
    prompts: ArrayLike,
    raters: ArrayLike,
    *,
    bounds: Bounds = ANYTHING,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Estimate | Undefined:
    """The mean over judgements, with an interval for prompts and raters such as these.

    :param values: float [n], such as outcomes.
    :param bounds: what the mean can be, which the interval does not leave.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) == 0:
        return Undefined(Reason.NO_DATA)
    rows = np.column_stack([x, np.ones(len(x))])
    spread = bootstrap(
        rows, lambda totals: totals[:, :1] / totals[:, 1:], Clusters.of(prompts, raters), rounds=rounds, seed=seed
    )
    return spread.estimates([x.mean()], len(x), bounds=bounds)[0]


def win_rate_matrix(
    first: ArrayLike, second: ArrayLike, outcomes: ArrayLike, prompts: ArrayLike, *, models: int
) -> list[list[Estimate | Undefined]]:
    """Win-rates of all pairs of models; n counts prompts.

    :param first: int [n], the number of the one model, from 0.
    :param second: int [n], of the other.
    :param outcomes: float [n], 1 where the first one won, ½ for a tie, 0 where the second one did.
    :returns: the row's against the column's; undefined where they were not compared, as on the diagonal.
    """
    one, other, of = np.asarray(first), np.asarray(second), np.asarray(prompts)
    result = np.asarray(outcomes, dtype=np.float64)
    rates: list[list[Estimate | Undefined]] = []
    for row in range(models):
        rates.append([])
        for column in range(models):
            ours, theirs = (one == row) & (other == column), (one == column) & (other == row)
            met = (ours | theirs) & (row != column)
            rates[row].append(win_rate(np.where(ours, result, 1 - result)[met], of[met]))
    return rates
