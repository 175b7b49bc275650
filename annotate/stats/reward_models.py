"""How good a reward model is, for those who decide what to do with it: order, certainty, good against bad, length.

What goes in are differences of scores of pairs of which somebody preferred one, and scores of single answers. A prompt
is a cluster everywhere: its answers are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from annotate.stats.calibration import BINS, bins_of, calibration
from annotate.stats.estimate import SHARE, Estimate, Reason, Undefined
from annotate.stats.intervals import clustered_mean, clustered_share
from annotate.stats.resampling import Clusters, Floats, Members, bootstrap

CHANCE_ROUNDS = 1000
JUDGEMENTS_DRAWN = 20_000
"""Of chance's draws; of more, so many: the error that chance makes falls with their root."""


def right(margins: ArrayLike) -> Floats:
    """Whether each pair is ordered as it was preferred: 1, 0, or ½ where the scores are equal.

    :param margins: float [n], the score of the preferred answer less that of the other.
    """
    values = np.asarray(margins, dtype=np.float64)
    return np.asarray((values > 0) + 0.5 * (values == 0), dtype=np.float64)


@dataclass(frozen=True)
class Reliability:
    """Confidence in pairs beside how many of them are right."""

    error: float
    """Expected calibration error, from 0 to 1."""
    by_chance: float
    """What a model whose confidence were exactly right would stay below in 95 of 100 test sets of this size."""
    n: int
    """Pairs."""
    confidence: list[float]
    """[bins with pairs], the mean."""
    share_right: list[Estimate | Undefined]
    """[bins with pairs]."""


def reliability(
    margins: ArrayLike,
    prompts: ArrayLike,
    *,
    pairs: ArrayLike | None = None,
    temperature: float = 1.0,
    seed: int = 0,
) -> Reliability | Undefined:
    """Confidence σ(|margin| / T), from ½ to 1, in ten bins of equal width.

    Guo, Pleiss, Sun and Weinberger (2017), "On calibration of modern neural networks", section 2.

    :param margins: as of :func:`right`.
    :param prompts: [n], names.
    :param pairs: [n], the name of the pair of answers of each, which several raters may have judged; by default each is
        of its own.
    :param seed: of the draws that tell what chance does.
    """
    values, of = np.asarray(margins, dtype=np.float64), np.asarray(prompts)
    confidence = expit(np.abs(values) / temperature)
    outcomes = right(values)
    found = calibration(confidence, outcomes, lowest=0.5)
    if isinstance(found, Undefined):
        return found
    bin_ = bins_of(confidence, lowest=0.5)
    filled = np.flatnonzero(found.counts)
    return Reliability(
        error=found.error,
        by_chance=_by_chance(confidence, outcomes, np.arange(len(values)) if pairs is None else pairs, seed),
        n=len(values),
        confidence=found.confidence[filled].tolist(),
        share_right=[clustered_share(outcomes[bin_ == number], of[bin_ == number]) for number in filled],
    )


def _by_chance(confidence: Floats, outcomes: Floats, pairs: ArrayLike, seed: int) -> float:
    """The 95 % quantile of the error where each judgement is right with exactly the probability that is stated.

    Raters of a pair are right or wrong together as often as makes them disagree as much as they do: with that chance a
    pair has one outcome for all of them, otherwise each has one of its own. Lunn and Davies (1998), "A note on
    generating correlated binary variables", have such draws.
    """
    generator = np.random.default_rng(seed)
    pair = np.unique(np.asarray(pairs), return_inverse=True)[1]
    together = _together(confidence, outcomes, pair)
    size, count = len(pair), int(pair.max()) + 1
    if size > JUDGEMENTS_DRAWN:
        kept = generator.permutation(count)[pair] < count * JUDGEMENTS_DRAWN // size
        confidence, pair = confidence[kept], pair[kept]
    bin_ = bins_of(confidence, lowest=0.5)
    errors = []
    for _round in range(CHANCE_ROUNDS):
        own, common = generator.random(len(pair)), generator.random(count)[pair]
        drawn = np.where((generator.random(count) < together)[pair], common, own) < confidence
        gaps = np.bincount(bin_, weights=drawn - confidence, minlength=BINS)
        errors.append(float(np.abs(gaps).sum() / len(pair)))
    return float(np.quantile(errors, 0.95) * np.sqrt(len(pair) / size))


def _together(confidence: Floats, outcomes: Floats, pair: Members) -> float:
    """The correlation of the outcomes of one pair: by how much of it their raters disagree less than by chance."""
    judged, right_of = np.bincount(pair), np.bincount(pair, weights=outcomes)
    several = judged > 1
    if not several.any():
        return 0.0
    stated = np.bincount(pair, weights=confidence)[several] / judged[several]
    n, of = judged[several], right_of[several]
    expected = (n * stated * (1 - stated)).sum()
    return float(np.clip(1 - (of * (n - of) / (n - 1)).sum() / expected, 0, 1)) if expected > 0 else 0.0


def best_threshold(scores: ArrayLike, good: ArrayLike) -> float | Undefined:
    """The score from which on answers are best called good: that of the greatest F1.

    :param scores: float [n].
    :param good: bool [n].
    """
    values, labels = np.asarray(scores, dtype=np.float64), np.asarray(good, dtype=bool)
    if len(values) == 0:
        return Undefined(Reason.NO_DATA)
    if labels.all() or not labels.any():
        return Undefined(Reason.NO_VARIATION, len(values))
    order = np.argsort(-values, kind="stable")
    hits = np.cumsum(labels[order])
    f1 = 2 * hits / (np.arange(1, len(values) + 1) + labels.sum())
    whole = np.append(values[order][1:] < values[order][:-1], True)  # equal scores are called alike
    best = int(np.argmax(np.where(whole, f1, -1)))
    return float(values[order][best])


@dataclass(frozen=True)
class Classification:
    """Calling answers good from a score on."""

    precision: Estimate | Undefined
    """Share of good ones among those called good; n counts these."""
    recall: Estimate | Undefined
    """Share called good among the good ones; n counts these."""
    f1: Estimate
    """Harmonic mean of the two; n counts all answers."""
    base: Estimate | Undefined
    """Share of good ones among all: the precision of calling everything good."""


def classification(
    scores: ArrayLike, good: ArrayLike, prompts: ArrayLike, *, threshold: float
) -> Classification | Undefined:
    """How well a threshold tells good answers from bad ones.

    :param scores: float [n].
    :param good: bool [n].
    :param prompts: [n], names.
    :param threshold: chosen on other data.
    """
    labels, of = np.asarray(good, dtype=bool), np.asarray(prompts)
    called = np.asarray(scores, dtype=np.float64) >= threshold
    if len(labels) == 0:
        return Undefined(Reason.NO_DATA)
    if not labels.any():
        return Undefined(Reason.NO_VARIATION, len(labels))
    hits = called & labels
    rows = np.column_stack([2.0 * hits, called * 1.0 + labels])

    def ratio(totals: Floats) -> Floats:
        return np.asarray(totals[:, :1] / totals[:, 1:])

    spread = bootstrap(rows, ratio, Clusters.of(of, None))
    return Classification(
        precision=clustered_share(labels[called], of[called]),
        recall=clustered_share(called[labels], of[labels]),
        f1=spread.estimates(ratio(rows.sum(axis=0)[None])[0], len(labels), bounds=SHARE)[0],
        base=clustered_share(labels, of),
    )


@dataclass(frozen=True)
class Group:
    """Answers or pairs that are alike in something."""

    middle: float
    """The median of that."""
    figure: Estimate | Undefined
    """What is measured of them."""


def score_by_length(scores: ArrayLike, lengths: ArrayLike, prompts: ArrayLike, *, groups: int = 10) -> list[Group]:
    """Mean scores of answers in groups of equal number by length; answers of equal length stay together.

    :param scores: float [n].
    :param lengths: float [n].
    :param prompts: [n], names.
    """
    values, sizes = np.asarray(scores, dtype=np.float64), np.asarray(lengths, dtype=np.float64)
    of = np.asarray(prompts)
    return [Group(middle, clustered_mean(values[own], of[own])) for middle, own in _groups(sizes, groups)]


def right_by_disagreement(margins: ArrayLike, prompts: ArrayLike, *, groups: int = 4) -> list[Group]:
    """How many pairs an ensemble orders rightly, in groups of equal number by how far its members differ in them.

    Lakshminarayanan, Pritzel and Blundell (2017), "Simple and scalable predictive uncertainty estimation using deep
    ensembles", section 3.5: an ensemble that knows what it does not know is right less often where they differ more.

    :param margins: float [n, members], as of :func:`right`, by each member.
    :param prompts: [n], names.
    :returns: by the standard deviation of a pair's margins, the least first; none of a single model.
    """
    values, of = np.asarray(margins, dtype=np.float64), np.asarray(prompts)
    if values.ndim != 2 or values.shape[1] < 2:
        return []
    outcomes = right(values.mean(axis=1))
    return [
        Group(middle, clustered_share(outcomes[own], of[own])) for middle, own in _groups(values.std(axis=1), groups)
    ]


def _groups(values: Floats, count: int) -> Iterator[tuple[float, Members]]:
    """The median and the indices of groups of equal number, the least values first; equal values stay together."""
    if len(values) == 0:
        return
    edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)[1:-1]))
    place = np.searchsorted(edges, values, side="left")
    for number in np.unique(place):
        own = np.flatnonzero(place == number)
        yield float(np.median(values[own])), own
