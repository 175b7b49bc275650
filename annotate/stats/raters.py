"""How each rater of a project fares: agreement, reliability, favoured place, time at work, and change over time.

Whose judgements go in is the caller's: people, AI judges and the simulated rater are never measured together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from annotate.stats.bias import position_bias
from annotate.stats.coefficients import krippendorff_alpha
from annotate.stats.estimate import CHANGE_OF_SHARE, Estimate, Reason, Undefined, around
from annotate.stats.intervals import median_interval, share_interval
from annotate.stats.reliability import reliabilities
from annotate.stats.resampling import Floats

LEAST_FOR_DRIFT = 10
"""Units judged with others, below which nothing is said about change."""


@dataclass(frozen=True)
class Choices:
    """Judged pairs of answers, one rater's judgement of one pair a row, in the order in which they were given."""

    pairs: ArrayLike
    """int [n], numbers from 0."""
    raters: ArrayLike
    """int [n], numbers from 0."""
    outcomes: ArrayLike
    """int [n], 0 where the pair's first answer won, however it was shown, 1 for a tie, 2 where the second one did."""
    shown_first: ArrayLike
    """int [n], 0 where the pair's first answer was shown first, 2 where the second one was."""
    _: KW_ONLY
    items: ArrayLike | None = None
    """int [n], names of what a rater judges at once; by default each pair is by itself. Its pairs are not independent
    of each other, so that intervals are over items."""


@dataclass(frozen=True)
class Rater:
    """One rater's row of the table."""

    judged: int
    """Items, whether pairs came of them or not."""
    agreement: Estimate | Undefined
    """With other raters of the same pair, ½ where only one of them ties: the mean over items judged with others."""
    reliability: Estimate | Undefined
    """Probability to say what is most likely right (:func:`~annotate.stats.reliability.reliabilities`)."""
    position_bias: Estimate | Undefined
    """Share of choices for what was shown first, ties being ½."""
    active_ms: Estimate | Undefined
    """The median over all items judged."""
    drift: Estimate | Undefined
    """Agreement in the later half of the items judged with others, less that in the earlier half."""
    favours_a_place: bool = False
    """Whether the position bias leaves ½ behind by more than it would of any of so many fair raters."""
    has_changed: bool = False
    """The same of the drift and 0."""


def rater_table(choices: Choices, *, active_ms: Sequence[ArrayLike]) -> list[Rater]:
    """A row for each rater, by number.

    :param active_ms: of each rater, float [m], milliseconds at work on each item that they judged, also where it gave
        no pairs, such as one that was only edited.
    """
    pair, rater, outcome = (np.asarray(v, dtype=np.int64) for v in (choices.pairs, choices.raters, choices.outcomes))
    shown = np.asarray(choices.shown_first)
    item = pair if choices.items is None else np.asarray(choices.items)
    alike = agreement_with_others(pair, outcome)
    reliability = reliabilities(pair, rater, outcome, item, raters=len(active_ms))
    first_preferred = np.where(outcome == 1, 0.5, outcome == shown)
    rows, places, changes = [], [], []
    for number, times in enumerate(active_ms):
        own = rater == number
        shared = own & ~np.isnan(alike)
        by_item, preferred = _by_item(alike[shared], item[shared]), _by_item(first_preferred[own], item[own])
        places.append(_p_of_half(preferred))
        changes.append(_p_of_no_drift(by_item))
        rows.append(
            Rater(
                judged=np.asarray(times).size,
                agreement=_share(by_item),
                reliability=reliability[number],
                position_bias=position_bias(preferred),
                active_ms=median_interval(times),
                drift=drift(by_item),
            )
        )
    flags = zip(rows, stand_out(places), stand_out(changes), strict=True)
    return [replace(row, favours_a_place=place, has_changed=change) for row, place, change in flags]


def stand_out(p_values: ArrayLike, *, level: float = 0.95) -> list[bool]:
    """Which of several are beyond chance, where in 95 of 100 sets none is that only chance moves.

    Holm (1979), "A simple sequentially rejective multiple test procedure".

    :param p_values: float [n], each one's by itself; NaN where nothing can be said.
    """
    p = np.asarray(p_values, dtype=np.float64)
    found = np.zeros(len(p), dtype=bool)
    known = np.flatnonzero(~np.isnan(p))
    for left, number in zip(range(len(known), 0, -1), known[np.argsort(p[known])], strict=True):
        if p[number] > (1 - level) / left:
            break
        found[number] = True
    return found.tolist()


def _p_of_half(shares: Floats) -> float:
    """Of the test whose interval is Wilson's, that the mean is ½."""
    return float(2 * stats.norm.sf(abs(shares.mean() - 0.5) * 2 * np.sqrt(len(shares)))) if len(shares) else np.nan


def _p_of_no_drift(agreement: Floats) -> float:
    """Of Welch's test; NaN where :func:`drift` has no interval."""
    if drift(agreement).interval is None:
        return np.nan
    difference, error, degrees = _welch(agreement)
    return float(2 * stats.t.sf(abs(difference) / error, degrees))


def _by_item(values: Floats, items: ArrayLike) -> Floats:
    """The mean of each item's values, in the order in which the items come first."""
    _names, first, of = np.unique(items, return_index=True, return_inverse=True)
    means = np.bincount(of, weights=values) / np.bincount(of) if len(values) else np.zeros(0)
    return means[np.argsort(first)]


def agreement_with_others(pairs: ArrayLike, outcomes: ArrayLike) -> Floats:
    """For each judgement of a pair how far the others' agree with it: the mean of 1, ½ where only one ties, and 0.

    As :func:`~annotate.stats.agreement.agreement` has it for whole rankings.

    :param pairs: [n], names; no rater judges one twice.
    :param outcomes: int [n], as of :class:`Choices`.
    :returns: float64 [n]; NaN where nobody else judged the pair.
    """
    pair, outcome = np.unique(np.asarray(pairs), return_inverse=True)[1], np.asarray(outcomes, dtype=np.int64)
    said = np.zeros((pair.max(initial=-1) + 1, 3))
    np.add.at(said, (pair, outcome), 1)
    alike = 1 - np.abs(np.subtract.outer(np.arange(3), np.arange(3))) / 2
    others = said.sum(axis=1)[pair] - 1
    agreed = (said @ alike)[pair, outcome] - 1  # less the judgement itself
    return np.divide(agreed, others, out=np.full(len(pair), np.nan), where=others > 0)


def agreement_by_criterion(
    criteria: ArrayLike, answers: ArrayLike, raters: ArrayLike, scores: ArrayLike, *, prompts: ArrayLike | None = None
) -> dict[Any, Estimate | Undefined]:
    """Krippendorff's α of each criterion's scores, whose distance is ordinal.

    :param criteria: [n], names.
    :param answers: [n], names.
    :param raters: [n], names.
    :param scores: float [n].
    :param prompts: [n], the prompt of each answer; by default each answer is its own.
    """
    criterion, answer, rater = np.asarray(criteria), np.asarray(answers), np.asarray(raters)
    score, prompt = np.asarray(scores, dtype=np.float64), answer if prompts is None else np.asarray(prompts)
    found: dict[Any, Estimate | Undefined] = {}
    for name in np.unique(criterion).tolist():
        own = criterion == name
        found[name] = krippendorff_alpha(answer[own], rater[own], score[own], "ordinal", prompts=prompt[own])
    return found


def drift(agreement: ArrayLike) -> Estimate | Undefined:
    """Mean of the later half less that of the earlier half, with Welch's interval.

    :param agreement: float [n], in the order in which it was judged.
    """
    values = np.asarray(agreement, dtype=np.float64)
    if len(values) < LEAST_FOR_DRIFT:
        return Undefined(Reason.TOO_FEW, len(values))
    difference, error, degrees = _welch(values)
    if error == 0:
        return Estimate(difference, None, None, len(values))
    reach = float(stats.t.ppf(0.975, degrees)) * error
    return around(difference, reach, len(values), bounds=CHANGE_OF_SHARE)


def _welch(values: Floats) -> tuple[float, float, float]:
    """Later half less earlier half, its standard error and degrees of freedom, 0 where neither half varies."""
    halves = values[: len(values) // 2], values[len(values) // 2 :]
    parts = np.array([half.var(ddof=1) / len(half) for half in halves])
    squares = float((parts**2 / [len(half) - 1 for half in halves]).sum())
    degrees = float(parts.sum()) ** 2 / squares if squares else 0.0
    return float(halves[1].mean() - halves[0].mean()), float(np.sqrt(parts.sum())), degrees


def _share(shared: Floats) -> Estimate | Undefined:
    return share_interval(shared) if len(shared) else Undefined(Reason.NO_OVERLAP)
