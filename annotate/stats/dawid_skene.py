"""How often each rater is right where nobody knows what is right: Dawid and Skene's model, by EM.

Dawid and Skene (1979), "Maximum likelihood estimation of observer error-rates using the EM algorithm", Journal of the
Royal Statistical Society C 28, equations 2.3 to 2.5, begun from each unit's shares of votes (3.1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

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


@dataclass(frozen=True)
class Fit:
    """A maximum of the likelihood for each of b sets of weights."""

    shares: Floats
    """[b, c]."""
    errors: Floats
    """[b, raters, c, c], as of :class:`Truth`."""
    converged: NDArray[np.bool_]
    """[b]."""

    @property
    def reliability(self) -> Floats:
        """[b, raters], the probability that a rater says what is right."""
        return np.asarray(np.einsum("bj,bkjj->bk", self.shares, self.errors))


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
    size = int(label.max()) + 1
    judged = np.bincount(unit) > 0
    said = votes(unit, rater, label)[judged]
    found = fit(said, np.ones((1, judged.sum())), classes=size)
    classes = np.tile(found.shares[0], (len(judged), 1))
    classes[judged] = _classes(said, found.shares.T, found.errors.transpose(1, 3, 2, 0))[..., 0]
    right = found.reliability[0]
    right[np.bincount(rater) == 0] = np.nan
    return Truth(classes, found.shares[0], found.errors[0], right, bool(found.converged[0]))


def votes(units: NDArray[np.int64], raters: NDArray[np.int64], labels: NDArray[np.int64]) -> sparse.csr_array:
    """How often each rater said each of c classes of each unit, float64 [units, raters · c], from numbers from 0."""
    classes = int(labels.max()) + 1
    shape = int(units.max()) + 1, (int(raters.max()) + 1) * classes
    return sparse.csr_array((np.ones(len(units)), (units, raters * classes + labels)), shape=shape)


def fit(said: sparse.csr_array, weights: Floats, *, classes: int, small: float = SMALL, steps: int = STEPS) -> Fit:
    """EM for many sets of weights of the units at once, each until its probabilities rest.

    :param said: by :func:`votes`, of units that somebody judged.
    :param weights: float64 [b, units], how much each unit counts.
    :param classes: their number c.
    :param small: a set rests when its shares and reliabilities move by less in a step.
    :param steps: after which those that still move are left as they are.
    """
    by_vote = said.T.tocsr()
    belief = np.repeat(_shares_of_votes(said, classes)[:, :, None], len(weights), axis=2)
    found = Fit(
        np.zeros((len(weights), classes)),
        np.zeros((len(weights), said.shape[1] // classes, classes, classes)),
        np.zeros(len(weights), bool),
    )
    moving, weight, before = np.arange(len(weights)), weights.T[:, None], np.inf
    for _step in range(steps):
        belief *= weight
        shares, errors = belief.sum(axis=0) / weight.sum(axis=0), _errors(by_vote, belief)
        now = np.concatenate([shares, _right(shares, errors)])
        found.shares[moving], found.errors[moving] = shares.T, errors.transpose(3, 0, 2, 1)
        still = np.abs(now - before).max(axis=0) >= small
        found.converged[moving[~still]] = True
        if not still.any():
            break
        if not still.all():
            moving, weight, now = moving[still], weight[..., still], now[:, still]
            shares, errors = shares[:, still], errors[..., still]
        before = now
        belief = _classes(said, shares, errors)
    return found


def _right(shares: Floats, errors: Floats) -> Floats:
    """[raters, b], the probability that a rater says what is right."""
    return np.asarray(np.einsum("jb,kjjb->kb", shares, errors))


def _shares_of_votes(said: sparse.csr_array, classes: int) -> Floats:
    """[units, c], how many of a unit's votes are for each class."""
    counts = said @ np.tile(np.eye(classes), (said.shape[1] // classes, 1))
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def _errors(by_vote: sparse.csr_array, weighed: Floats) -> Floats:
    """[raters, c said, c right, b] of beliefs [units, c, b]; 0 for a class of which a rater has seen nothing."""
    classes = weighed.shape[1]
    said = (by_vote @ weighed.reshape(len(weighed), -1)).reshape(-1, classes, *weighed.shape[1:])
    total = said.sum(axis=1, keepdims=True)
    return np.divide(said, total, out=np.zeros_like(said), where=total > 0)


def _classes(said: sparse.csr_array, shares: Floats, errors: Floats) -> Floats:
    """[units, c, b], the probability of each class by the votes, of errors [raters, c said, c right, b]."""
    belief = (said @ _log(errors).reshape(said.shape[1], -1)).reshape(-1, *shares.shape)
    belief += _log(shares)
    belief -= belief.max(axis=1, keepdims=True)
    np.exp(belief, out=belief)
    belief /= belief.sum(axis=1, keepdims=True)
    return belief


def _log(probability: Floats) -> Floats:
    return np.log(probability, out=np.full_like(probability, IMPOSSIBLE), where=probability > 0)
