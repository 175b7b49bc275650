"""How often each rater says what is right where nobody knows it, with an interval that covers.

A judgement says which of two answers is better; what is right is told by Dawid and Skene's model. Two raters of a pair
say as much under a good and a bad one as under two middling ones, and raters who agree by chance say nothing of what is
right: so it takes pairs that three or more judged, and agreement beyond chance. What a rater said is part of what the
model takes for right, so that how sure a figure is cannot be read off one fit: items are drawn anew, and the model is
fitted to each draw.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, stats

from annotate.stats.coefficients import krippendorff_alpha
from annotate.stats.dawid_skene import fit, votes
from annotate.stats.estimate import Estimate, Reason, Undefined
from annotate.stats.intervals import wilson
from annotate.stats.resampling import Floats

Ints = NDArray[np.int64]

ROUNDS = 200
SMALL, STEPS = 3e-4, 100
"""When a fit to drawn items rests: figures are shown to a tenth of a per cent."""
AT_ONCE = 1 << 22
"""Probabilities held in memory at once."""
LEAST_RATERS = 3
LEAST_ITEMS = 10
"""Judged by that many raters, below which nothing is said."""


def reliabilities(
    pairs: ArrayLike,
    raters_of: ArrayLike,
    outcomes: ArrayLike,
    items: ArrayLike,
    *,
    raters: int,
    rounds: int = ROUNDS,
    seed: int = 0,
    level: float = 0.95,
) -> list[Estimate | Undefined]:
    """Each rater's probability to say what is most likely right; n counts items that three or more judged.

    The interval goes from percentile to percentile of the Bayesian bootstrap over items (Rubin 1981), and at least as
    far as Wilson's, which would be that of a share of as many items if what is right were known: where a rater is never
    seen to err, no draw of items says how often that might happen.

    :param pairs: int [n], numbers from 0; no rater judges one twice.
    :param raters_of: int [n], numbers from 0.
    :param outcomes: int [n], what was said, numbers from 0.
    :param items: [n], names of what is judged at once: its pairs are not independent of each other.
    :param raters: how many there are.
    """
    pair, rater, outcome = (np.asarray(values, dtype=np.int64) for values in (pairs, raters_of, outcomes))
    judged_by = np.bincount(pair)[pair] if len(pair) else pair
    enough = judged_by >= LEAST_RATERS
    item = np.unique(np.asarray(items)[enough], return_inverse=True)[1]
    if undefined := _undefined(judged_by, rater) or _unidentified(pair[enough], rater[enough], outcome[enough], item):
        return [undefined if (rater == number).any() else Undefined(Reason.NO_DATA) for number in range(raters)]
    classes, label = np.unique(outcome[enough], return_inverse=True)
    _pairs, first, unit = np.unique(pair[enough], return_index=True, return_inverse=True)
    said = votes(unit, rater[enough], label)
    values, drawn = _fitted(said, item[first], classes=len(classes), rounds=rounds, seed=seed)
    ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    z = float(stats.norm.ppf((1 + level) / 2))
    found: list[Estimate | Undefined] = []
    for number in range(raters):
        own = rater == number
        n = len(np.unique(item[own[enough]]))
        if n < LEAST_ITEMS:
            found.append(Undefined(_too_few(judged_by[own]), n))
            continue
        value, (low, high) = float(values[number]), ends[:, number].tolist()
        lowest, highest = wilson(value, n, z)
        found.append(Estimate(value, min(low, lowest), max(high, highest), n))
    return found


def _undefined(judged_by: Ints, rater: Ints) -> Undefined | None:
    """Why nothing can be said of anybody, of judgements of pairs that so many judged."""
    n = len(rater)
    if n == 0:
        return Undefined(Reason.NO_DATA)
    if len(np.unique(rater)) < 2:
        return Undefined(Reason.ONE_RATER, n)
    if judged_by.max() >= LEAST_RATERS:
        return None
    return Undefined(Reason.NO_THREE if judged_by.max() > 1 else Reason.NO_OVERLAP, n)


def _unidentified(pair: Ints, rater: Ints, outcome: Ints, item: Ints) -> Undefined | None:
    """Why the model cannot tell what is right from pairs that three raters or more judged."""
    alike = krippendorff_alpha(pair, rater, outcome, "nominal", prompts=item, fixed_raters=True, rounds=ROUNDS)
    if isinstance(alike, Undefined):
        return alike
    if alike.value <= 0 or (alike.low is not None and alike.low <= 0):
        return Undefined(Reason.BY_CHANCE, alike.n)
    return None


def _too_few(judged_by: Ints) -> Reason:
    """Why nothing can be said of a rater, whose pairs so many judged."""
    most = judged_by.max(initial=0)
    return (Reason.NO_DATA, Reason.NO_OVERLAP, Reason.NO_THREE, Reason.TOO_FEW)[min(most, LEAST_RATERS)]


def _fitted(said: sparse.csr_array, item: Ints, *, classes: int, rounds: int, seed: int) -> tuple[Floats, Floats]:
    """Reliability by all pairs, [raters], and by each draw of items, [rounds, raters].

    :param said: by pair, of :func:`~annotate.stats.dawid_skene.votes`.
    :param item: the number of each pair's.
    """
    generator = np.random.default_rng(seed)
    # Pairs of which the same raters said the same are alike to the model: one of them stands for all.
    key = said.astype(np.int64) @ generator.integers(1 << 62, size=said.shape[1])
    _keys, first, of = np.unique(key, return_index=True, return_inverse=True)
    kinds = said[first]
    by_item = sparse.csr_array((np.ones(len(of)), (of, item)))
    best = fit(kinds, by_item.sum(axis=1)[None], classes=classes, small=SMALL, steps=STEPS)
    step = max(1, AT_ONCE // (len(first) * classes))
    drawn = []
    for start in range(0, rounds, step):
        weights = generator.standard_exponential((by_item.shape[1], min(step, rounds - start)))
        drawn.append(fit(kinds, (by_item @ weights).T, classes=classes, small=SMALL, steps=STEPS).reliability)
    return best.reliability[0], np.concatenate(drawn)
