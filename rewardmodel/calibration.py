"""Whether σ(difference of two scores) is the share of raters who prefer the first: temperature and calibration error.

Pure numpy. The temperature is fitted on dev, errors are reported on test.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

BINS = 10
LOG_TEMPERATURES = (-5.0, 5.0)
"""Where the logarithm of the temperature is looked for."""

Floats = NDArray[np.float64]


def fit_temperature(margins: Floats) -> float:
    """T that makes the observed preferences likeliest under P(w ≻ l) = σ((r_w − r_l) / T).

    Source: Guo et al. 2017, "On calibration of modern neural networks", section 4.2.

    :param margins: [pairs] r_w − r_l of preferred pairs of the dev split, at least one.
    :returns: T, above 0.
    """

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -margins / np.exp(log_temperature)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded").x))


def expected_calibration_error(margins: Floats, temperature: float = 1.0) -> float:
    """How far confidence is from accuracy, mean over pairs in bins of equal width.

    A pair's confidence is σ(|r_w − r_l| / T), between ½ and 1; it is right where r_w > r_l, and half right where both
    are equal.

    Source: Guo et al. 2017, equation 3.

    :param margins: [pairs] r_w − r_l of preferred pairs, at least one.
    """
    confidence = 1 / (1 + np.exp(-np.abs(margins) / temperature))
    right = (margins > 0) + 0.5 * (margins == 0)
    place = np.minimum(((confidence - 0.5) * 2 * BINS).astype(int), BINS - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(margins))
