"""Whether a model's probabilities come true, and by how much its scores are too sure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit

from annotate.stats.estimate import Reason, Undefined
from annotate.stats.resampling import Floats, Members

BINS = 10
LARGEST = 1e6
"""Of 1 / temperature."""


@dataclass(frozen=True)
class Calibration:
    """Bins of probabilities beside what came true."""

    error: float
    """Expected calibration error, from 0 to 1."""
    confidence: Floats
    """[bins], mean probability; NaN in an empty bin."""
    frequency: Floats
    """[bins], share that came true."""
    counts: Floats
    """[bins]."""


def calibration(
    probabilities: ArrayLike, outcomes: ArrayLike, *, bins: int = BINS, lowest: float = 0.0
) -> Calibration | Undefined:
    """Expected calibration error over bins of equal width.

    Naeini, Cooper and Hauskrecht (2015), "Obtaining well calibrated probabilities using Bayesian binning".

    :param probabilities: float [n], that the event happens.
    :param outcomes: float [n], 1 where it did, 0 where not, ½ for a tie.
    :param lowest: where the bins begin: ½ for the confidences of choices between two.
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if len(p) == 0:
        return Undefined(Reason.NO_DATA)
    bin_ = bins_of(p, bins=bins, lowest=lowest)
    counts = np.bincount(bin_, minlength=bins).astype(np.float64)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(bin_, weights=p, minlength=bins) / counts
        frequency = np.bincount(bin_, weights=y, minlength=bins) / counts
    filled = counts > 0
    error = float((counts[filled] * np.abs(confidence - frequency)[filled]).sum() / len(p))
    return Calibration(error, confidence, frequency, counts)


def bins_of(probabilities: ArrayLike, *, bins: int = BINS, lowest: float = 0.0) -> Members:
    """The number of each probability's bin, from 0, int64 [n]."""
    p = np.asarray(probabilities, dtype=np.float64)
    return np.minimum(((p - lowest) / (1 - lowest) * bins).astype(np.int64), bins - 1)


def temperature(margins: ArrayLike, outcomes: ArrayLike) -> float | Undefined:
    """T for which σ(margin / T) has the greatest likelihood; above 1 the scores are too sure.

    Guo, Pleiss, Sun and Weinberger (2017), "On calibration of modern neural networks", section 4.2.

    :param margins: float [n], differences of scores.
    :param outcomes: float [n], 1 where the first was preferred, 0 where not, ½ for a tie.
    :returns: undefined where no finite T is best: the scores order all, or no better than chance.
    """
    z, y = np.asarray(margins, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if len(z) == 0:
        return Undefined(Reason.NO_DATA)

    def slope(inverse: float) -> float:
        return float((z * (y - expit(inverse * z))).sum())

    if slope(0.0) <= 0 or slope(LARGEST) >= 0:
        return Undefined(Reason.ONE_SIDED, len(z))
    upper = 1.0
    while slope(upper) > 0:
        upper *= 2
    return float(1 / brentq(slope, 0.0, upper, xtol=1e-15))
