"""Strengths of models from comparisons of two: Bradley and Terry's model with Davidson's ties and covariates of style.

With strengths θ in natural logarithms, x the style of the first answer less that of the second, and
d = θ_i − θ_j + xβ, Davidson (1970), "On extending the Bradley–Terry model to accommodate ties", section 2, has

    P(i ≻ j) = e^{d/2} / Z    P(j ≻ i) = e^{−d/2} / Z    P(tie) = ν / Z    Z = e^{d/2} + e^{−d/2} + ν

Strengths are shown on Elo's scale, 400·log10, as differences from one model. Style is controlled for as in Li,
Angelopoulos and Chiang (2024), "Does style matter? Disentangling style and substance in Chatbot Arena".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from annotate.stats.connection import LOSS, TIE, WIN, existence
from annotate.stats.estimate import ROUNDING, Estimate, Reason, Undefined
from annotate.stats.resampling import ROUNDS, Clusters, Floats, Spread, bootstrap, sandwich

ELO = 400 / np.log(10)
"""Points of a natural logarithm."""
STEPS = 100
LONGEST_STEP = 2.0
SMALL = 1e-10


@dataclass(frozen=True)
class Strengths:
    """How strong models are, in points of 400·log10 above the anchor."""

    models: tuple[Estimate, ...]
    """By model; n is its comparisons; the anchor's are 0."""
    tie: float
    """Davidson's ν: two equal models tie with probability ν / (2 + ν)."""
    style: tuple[Estimate | Undefined, ...] = ()
    """Points for one unit of each covariate of style; undefined for one that never differs."""


@dataclass(frozen=True)
class Fit:
    """A maximum of the likelihood, or one for each of b sets of counts."""

    parameters: Floats
    """[b, p]: coefficients of the design, and last, where there are ties, log ν."""
    hessian: Floats
    """[b, p, p], of the negative logarithm of the likelihood."""
    converged: NDArray[np.bool_]
    """[b]."""


def strengths(
    first: ArrayLike,
    second: ArrayLike,
    outcome: ArrayLike,
    *,
    models: int,
    anchor: int = 0,
    prompts: ArrayLike | None,
    raters: ArrayLike | None,
    rounds: int = ROUNDS,
    seed: int = 0,
    level: float = 0.95,
) -> Strengths | Undefined:
    """Fit strengths, with intervals by the bootstrap over prompts and raters.

    :param first: int [n], the number of the one model, from 0.
    :param second: int [n], of the other.
    :param outcome: int [n], 0 where the first one won, 1 for a tie, 2 where the second one did.
    :param models: how many there are.
    :param anchor: the model that has strength 0.
    :param prompts: [n], names; None where they are not drawn.
    :param raters: [n], names; None where the pool is fixed.
    """
    one, other, result = _oriented(first, second, outcome)
    if undefined := existence(one, other, result, models):
        return undefined
    pairs, pair = np.unique(one * models + other, return_inverse=True)
    design = _contrasts(pairs // models, pairs % models, models, anchor)
    column = pair * 3 + result
    ones = np.ones(len(column))
    rows = sparse.csr_array((ones, (np.arange(len(column)), column)), shape=(len(column), 3 * len(pairs)))
    ties = bool((result == TIE).any())
    best = fit(design, rows.sum(axis=0)[None], ties=ties)
    start = best.parameters[0]

    def refitted(totals: Floats) -> Floats:
        return fit(design, totals, ties=ties, start=start).parameters

    spread = bootstrap(rows, refitted, Clusters.of(prompts, raters), rounds=rounds, seed=seed)
    return _in_points(start, spread, (one, other), models, anchor, ties=ties, level=level)


def strengths_beside_style(
    first: ArrayLike,
    second: ArrayLike,
    outcome: ArrayLike,
    style: ArrayLike,
    *,
    models: int,
    anchor: int = 0,
    prompts: ArrayLike | None,
    raters: ArrayLike | None,
    level: float = 0.95,
) -> Strengths | Undefined:
    """Fit strengths and what style is worth together; arguments as of :func:`strengths`.

    Covariates leave no totals to resample, so the intervals come from the sandwich over prompts and raters.

    :param style: float [n, s], each covariate of the first answer less that of the second (:func:`style_difference`).
    """
    one, other, result = _oriented(first, second, outcome)
    if undefined := existence(one, other, result, models):
        return undefined
    turned = np.where(np.asarray(first) == one, 1.0, -1.0)
    covariates = np.asarray(style, dtype=np.float64) * turned[:, None]
    varying = np.flatnonzero(covariates.any(axis=0))
    design = np.concatenate([_contrasts(one, other, models, anchor), covariates[:, varying]], axis=1)
    if np.linalg.matrix_rank(design.T @ design, hermitian=True) < design.shape[1]:
        return Undefined(Reason.CONFOUNDED, len(one))
    counts = np.eye(3)[result]
    ties = bool((result == TIE).any())
    best = fit(design, counts.reshape(1, -1), ties=ties)
    if not best.converged[0]:
        return Undefined(Reason.ONE_SIDED, len(one))
    influence = np.linalg.solve(best.hessian[0], _scores(design, counts, best.parameters[0], ties).T).T
    spread = sandwich(influence, Clusters.of(prompts, raters))
    found = _in_points(best.parameters[0], spread, (one, other), models, anchor, ties=ties, level=level)
    by_covariate: list[Estimate | Undefined] = [Undefined(Reason.NO_VARIATION, len(one))] * covariates.shape[1]
    for column, estimate in zip(varying.tolist(), found.style, strict=True):
        by_covariate[column] = estimate
    return replace(found, style=tuple(by_covariate))


def style_difference(first: ArrayLike, second: ArrayLike) -> Floats:
    """Style as a covariate: (a − b) / (a + b) of lengths or counts, standardised over the comparisons.

    :param first: float [n, s], of the first answers, such as tokens, list lines and headers; not negative.
    :param second: float [n, s], of the second ones.
    :returns: float64 [n, s], in standard deviations; 0 where neither has any, and throughout where the differences are
        all the same, which says nothing that the models do not say.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    difference = np.divide(a - b, a + b, out=np.zeros_like(a), where=a + b > 0)
    deviation = difference.std(axis=0)
    return np.divide(difference, deviation, out=np.zeros_like(difference), where=deviation > ROUNDING)


def fit(design: Floats, counts: Floats, *, ties: bool, start: Floats | None = None) -> Fit:
    """Newton's method on Davidson's likelihood, for many sets of counts at once.

    :param design: float64 [r, p], what each coefficient adds to d in each kind of comparison.
    :param counts: float64 [b, 3·r], wins, ties and losses of each kind; weights may be fractions.
    :param ties: whether ν is fitted; otherwise it is 0.
    :param start: float64 [p or p + 1], where to begin.
    """
    n = counts.reshape(len(counts), -1, 3)
    all_n = n.sum(axis=2)
    size = design.shape[1]
    squares = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    at = np.tile(np.zeros(size + ties) if start is None else start, (len(n), 1))
    hessian = np.zeros((len(n), size + ties, size + ties))
    moving, converged = np.ones(len(n), dtype=bool), np.zeros(len(n), dtype=bool)
    for _step in range(STEPS):
        m, total = n[moving], all_n[moving]
        win, tie, loss = _probabilities(at[moving, :size] @ design.T, at[moving, size:])
        lean = (win - loss) / 2
        gradient = ((m[..., WIN] - m[..., LOSS]) / 2 - total * lean) @ design
        h = np.zeros((len(m), size + ties, size + ties))
        h[:, :size, :size] = ((total * ((win + loss) / 4 - lean**2)) @ squares).reshape(-1, size, size)
        if ties:
            gradient = np.append(gradient, (m[..., TIE] - total * tie).sum(axis=1)[:, None], axis=1)
            h[:, size, :size] = h[:, :size, size] = -(total * lean * tie) @ design
            h[:, size, size] = (total * tie * (1 - tie)).sum(axis=1)
        hessian[moving] = h
        step, regular = _newton(h, gradient)
        longest = np.abs(step).max(axis=1)
        at[moving] += step * np.minimum(1, LONGEST_STEP / np.maximum(longest, SMALL))[:, None]
        converged[moving] = regular & (longest <= SMALL)
        moving[moving] = regular & (longest > SMALL)
        if not moving.any():
            break
    return Fit(at, hessian, converged)


def _newton(hessian: Floats, gradient: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Newton's steps [b, p], and where there is one; elsewhere the likelihood is flat and the step 0.

    Far out it is flat by underflow, on the way to a maximum that lies without bound.
    """
    size = gradient.shape[1]
    regular: NDArray[np.bool_] = np.asarray(np.isfinite(hessian).all(axis=(1, 2)) & np.isfinite(gradient).all(axis=1))
    regular[regular] = np.linalg.matrix_rank(hessian[regular], hermitian=True) == size
    step = np.zeros_like(gradient)
    step[regular] = np.linalg.solve(hessian[regular], gradient[regular][..., None])[..., 0]
    return step, regular


def _probabilities(d: Floats, log_nu: Floats) -> tuple[Floats, Floats, Floats]:
    """Of a win, a tie and a loss; [b, r] each, from d [b, r] and log ν [b, 1], or [b, 0] where nothing ties."""
    top = np.abs(d) / 2
    win, loss = np.exp(d / 2 - top), np.exp(-d / 2 - top)
    tie = np.exp(log_nu - top) if log_nu.shape[1] else np.zeros_like(d)
    z = win + tie + loss
    return win / z, tie / z, loss / z


def _scores(design: Floats, counts: Floats, parameters: Floats, ties: bool) -> Floats:
    """[n, p]: the gradient of each comparison's log-likelihood."""
    size = design.shape[1]
    win, tie, loss = _probabilities((design @ parameters[:size])[None], parameters[None, size:])
    pull = (counts[:, WIN] - counts[:, LOSS] - (win - loss)[0]) / 2
    found = pull[:, None] * design
    return np.append(found, (counts[:, TIE] - tie[0])[:, None], axis=1) if ties else found


def _oriented(
    first: ArrayLike, second: ArrayLike, outcome: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The comparisons with the model of the smaller number first."""
    one, other, result = (np.asarray(values, dtype=np.int64) for values in (first, second, outcome))
    swapped = one > other
    return np.minimum(one, other), np.maximum(one, other), np.where(swapped, 2 - result, result)


def _contrasts(one: NDArray[np.int64], other: NDArray[np.int64], models: int, anchor: int) -> Floats:
    """[r, models − 1]: 1 for the one model, −1 for the other, the anchor left out."""
    identity = np.delete(np.eye(models), anchor, axis=1)
    return identity[one] - identity[other]


def _in_points(
    parameters: Floats,
    spread: Spread,
    compared: tuple[NDArray[np.int64], NDArray[np.int64]],
    models: int,
    anchor: int,
    *,
    ties: bool,
    level: float,
) -> Strengths:
    n = len(compared[0])
    found = spread.estimates(parameters, n, scale=ELO, level=level)
    by_model = [*found[:anchor], Estimate(0.0, 0.0, 0.0, n), *found[anchor : models - 1]]
    counts = np.bincount(np.concatenate(compared), minlength=models).tolist()
    tie = float(np.exp(parameters[-1])) if ties else 0.0
    return Strengths(
        tuple(replace(each, n=count) for each, count in zip(by_model, counts, strict=True)),
        tie,
        found[models - 1 : len(parameters) - ties],
    )
