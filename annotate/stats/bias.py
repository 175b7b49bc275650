"""Raters against chance and against themselves: which place they favour, and whether they say the same twice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from annotate.stats.coefficients import cohen_kappa
from annotate.stats.estimate import SHARE, Estimate, Reason, Undefined
from annotate.stats.intervals import share_interval
from annotate.stats.winrates import two_way_mean


def position_bias(
    first_preferred: ArrayLike, prompts: ArrayLike | None = None, raters: ArrayLike | None = None
) -> Estimate | Undefined:
    """How often what was shown first is preferred, ties being ½: ½ where the place does not matter.

    :param first_preferred: float [n], 1 where the one shown first was preferred, ½ for a tie, 0 otherwise.
    :param prompts: [n], names.
    :param raters: [n], names; without them the interval is Wilson's, for one rater's independent judgements.
    """
    if prompts is None or raters is None:
        return share_interval(first_preferred)
    return two_way_mean(first_preferred, prompts, raters, bounds=SHARE)


@dataclass(frozen=True)
class SelfAgreement:
    """What a rater said of the same thing twice."""

    same: Estimate | Undefined
    """Share said alike."""
    beyond_chance: Estimate | Undefined
    """Cohen's κ of the first time with the second."""


def self_agreement(first: ArrayLike, again: ArrayLike) -> SelfAgreement:
    """Compare two judgements of each thing by one rater.

    :param first: float [n], a value each.
    :param again: float [n], the value of the second time; NaN where there was none.
    """
    before, after = np.asarray(first, dtype=np.float64), np.asarray(again, dtype=np.float64)
    both = ~(np.isnan(before) | np.isnan(after))
    if not both.any():
        nothing = Undefined(Reason.NO_OVERLAP)
        return SelfAgreement(nothing, nothing)
    return SelfAgreement(share_interval(before[both] == after[both]), cohen_kappa(before[both], after[both]))
