"""Strengths of models from whole rankings: Plackett and Luce's model, ties and unranked answers included.

With strengths θ, a ranking is a row of choices: the best of all, then the best of what is left. A tie group g of which
all stand before what is below it contributes Σ_{i∈g} θ_i − |g|·ln Σ_{j∈g or below} e^{θ_j}: Breslow's approximation,
as the reward model's loss has it. Unranked answers are left out. Hunter (2004), "MM algorithms for generalized
Bradley–Terry models", section 5, has the model and when its maximum exists.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax

from annotate.stats.bradley_terry import ELO, LONGEST_STEP, SMALL, STEPS
from annotate.stats.connection import unconnected
from annotate.stats.estimate import Estimate, Reason, Undefined
from annotate.stats.resampling import Clusters, Floats, sandwich


def plackett_luce(
    places: ArrayLike,
    *,
    anchor: int = 0,
    prompts: ArrayLike | None,
    raters: ArrayLike | None,
    level: float = 0.95,
) -> tuple[Estimate, ...] | Undefined:
    """Strengths in points of 400·log10 above the anchor, with intervals by the sandwich over prompts and raters.

    :param places: float [n, models], each ranking's places, 1 the best, equals alike; NaN where a model has none.
    :param prompts: [n], names; None where they are not drawn.
    :param raters: [n], names; None where the pool is fixed.
    :returns: by model; n counts its rankings; the anchor's are 0.
    """
    rows = np.asarray(places, dtype=np.float64)
    rows, kept = _compared(rows)
    n, models = rows.shape
    if n == 0:
        return Undefined(Reason.NO_DATA)
    with np.errstate(invalid="ignore"):
        beats = np.stack([(rows[:, [i]] <= rows).any(axis=0) for i in range(models)])
    if undefined := unconnected(beats & ~np.eye(models, dtype=bool), n):
        return undefined
    ranking, chosen, among = _choices(rows)
    theta = _newton(chosen, among, anchor)
    free = np.delete(np.arange(models), anchor)
    score = chosen - chosen.sum(axis=1, keepdims=True) * _shares(theta, among)
    influence = np.zeros((n, len(free)))
    np.add.at(influence, ranking, np.linalg.solve(_hessian(theta, chosen, among, free), score[:, free].T).T)
    of_prompts, of_raters = (None if names is None else np.asarray(names)[kept] for names in (prompts, raters))
    spread = sandwich(influence, Clusters.of(of_prompts, of_raters))
    found = list(spread.estimates(theta[free], n, scale=ELO, level=level))
    found.insert(anchor, Estimate(0.0, 0.0, 0.0, n))
    counts = (~np.isnan(rows)).sum(axis=0).tolist()
    return tuple(Estimate(e.value, e.low, e.high, count) for e, count in zip(found, counts, strict=True))


def _compared(rows: Floats) -> tuple[Floats, np.ndarray]:
    """Rankings that rank at least two, and which those are."""
    kept = (~np.isnan(rows)).sum(axis=1) > 1
    return rows[kept], kept


def _choices(rows: Floats) -> tuple[np.ndarray, Floats, Floats]:
    """For each group of each ranking but the last lone one: its ranking, who is in it, and whom it was chosen among."""
    rankings, chosen, among = [], [], []
    for level in np.unique(rows[~np.isnan(rows)]):
        with np.errstate(invalid="ignore"):
            group, left = rows == level, rows >= level
        choice = group.any(axis=1) & (left.sum(axis=1) > 1)
        rankings.append(np.flatnonzero(choice))
        chosen.append(group[choice])
        among.append(left[choice])
    return np.concatenate(rankings), np.concatenate(chosen).astype(np.float64), np.concatenate(among).astype(np.float64)


def _newton(chosen: Floats, among: Floats, anchor: int) -> Floats:
    models = chosen.shape[1]
    free = np.delete(np.arange(models), anchor)
    theta = np.zeros(models)
    for _step in range(STEPS):
        gradient = (chosen - chosen.sum(axis=1, keepdims=True) * _shares(theta, among)).sum(axis=0)
        step = np.linalg.solve(_hessian(theta, chosen, among, free), gradient[free])
        longest = np.abs(step).max()
        theta[free] += step * min(1, LONGEST_STEP / max(longest, SMALL))
        if longest < SMALL:
            break
    return theta


def _shares(theta: Floats, among: Floats) -> Floats:
    """The probability of each model to be chosen, [choices, models]."""
    return np.asarray(softmax(np.where(among > 0, theta, -np.inf), axis=1))


def _hessian(theta: Floats, chosen: Floats, among: Floats, free: np.ndarray) -> Floats:
    """Of the negative logarithm of the likelihood, the anchor left out."""
    times = chosen.sum(axis=1, keepdims=True)
    share = _shares(theta, among)
    whole = np.diag((times * share).sum(axis=0)) - (times * share).T @ share
    return np.asarray(whole[np.ix_(free, free)])
