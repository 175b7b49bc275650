"""How often each rater is right where nobody knows what is right: Dawid and Skene's model, by EM.

Dawid and Skene (1979), "Maximum likelihood estimation of observer error-rates using the EM algorithm", Journal of the
Royal Statistical Society C 28, equations 2.3 to 2.5, begun from each unit's shares of votes (3.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax

from annotate.stats.estimate import Reason, Undefined
from annotate.stats.resampling import Floats

STEPS = 10_000
SMALL = 1e-10
IMPOSSIBLE = -1e3
"""In place of the logarithm of 0."""


@dataclass(frozen=True)
class Truth:
    """What was most likely right, and what each rater makes of it."""

    classes: Floats
    """[units, c], the probability of each class; where nobody judged, that of any unit."""
    shares: Floats
    """[c], how frequent each class is."""
    errors: Floats
    """[raters, c, c], the probability that a rater says the column of a unit of the row."""
    reliability: Floats
    """[raters], the probability that a rater says what is right; NaN for one who said nothing."""
    converged: bool


def dawid_skene(units: ArrayLike, raters: ArrayLike, labels: ArrayLike) -> Truth | Undefined:
    """Fit to votes; a rater may have voted several times on one unit.

    Classes are told apart only by the votes: where most raters are wrong more often than not, so is the result.

    :param units: int [n], numbers from 0.
    :param raters: int [n], numbers from 0.
    :param labels: int [n], classes, numbers from 0.
    """
    unit, rater, label = (np.asarray(values, dtype=np.int64) for values in (units, raters, labels))
    n = len(label)
    if n == 0:
        return Undefined(Reason.NO_DATA)
    if len(np.unique(rater)) < 2:
        return Undefined(Reason.ONE_RATER, n)
    if len(np.unique(np.column_stack([unit, rater]), axis=0)) == len(np.unique(unit)):
        return Undefined(Reason.NO_OVERLAP, n)
    if len(np.unique(label)) < 2:
        return Undefined(Reason.NO_VARIATION, n)
    counts = np.zeros((unit.max() + 1, rater.max() + 1, label.max() + 1))
    np.add.at(counts, (unit, rater, label), 1)
    votes = counts.sum(axis=1)
    judged = votes.sum(axis=1) > 0
    classes = votes[judged] / votes[judged].sum(axis=1, keepdims=True)
    known = counts[judged]
    before = np.full(1, np.inf)
    for _step in range(STEPS):
        shares, errors = classes.mean(axis=0), _errors(known, classes)
        now = np.concatenate([shares, errors.ravel()])
        if len(before) == len(now) and np.abs(now - before).max() < SMALL:
            break
        before = now
        classes = softmax(_log(shares) + np.einsum("ukl,kjl->uj", known, _log(errors), optimize=True), axis=1)
    everywhere = np.tile(shares, (len(judged), 1))
    everywhere[judged] = classes
    right = np.einsum("j,kjj->k", shares, errors)
    right[known.sum(axis=(0, 2)) == 0] = np.nan
    return Truth(everywhere, shares, errors, right, _step < STEPS - 1)


def _errors(counts: Floats, classes: Floats) -> Floats:
    """[raters, c, c]; 0 for a class of which a rater has seen nothing."""
    said = np.einsum("uj,ukl->kjl", classes, counts, optimize=True)
    total = said.sum(axis=2, keepdims=True)
    return np.divide(said, total, out=np.zeros_like(said), where=total > 0)


def _log(probability: Floats) -> Floats:
    return np.log(probability, out=np.full_like(probability, IMPOSSIBLE), where=probability > 0)
