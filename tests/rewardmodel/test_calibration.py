"""Temperature and calibration error against hand calculations and raters whose probabilities are known."""

import numpy as np
import pytest

from rewardmodel.calibration import expected_calibration_error, fit_temperature


def preferences(temperature: float, pairs: int, seed: int) -> np.ndarray:
    """Margins of preferred pairs by a rater who follows σ(difference / temperature)."""
    draw = np.random.default_rng(seed)
    differences = draw.normal(scale=2.0, size=pairs)
    first_wins = draw.random(pairs) < 1 / (1 + np.exp(-differences / temperature))
    return np.where(first_wins, differences, -differences)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_of_a_rater_is_found(temperature):
    assert fit_temperature(preferences(temperature, 20_000, seed=1)) == pytest.approx(temperature, rel=0.05)


def test_two_margins_of_odds_three_to_one_three_times_right_have_temperature_one():
    # σ(ln 3) = 3/4, and three of four pairs are right
    margins = np.log(3) * np.array([1.0, 1.0, 1.0, -1.0])
    assert fit_temperature(margins) == pytest.approx(1.0, rel=1e-3)
    assert expected_calibration_error(margins) == pytest.approx(0.0, abs=1e-12)


def test_the_error_is_the_mean_gap_between_confidence_and_accuracy_over_bins():
    nine_tenths = np.log(9)  # confidence 0.9, in a bin above that of 0.75
    margins = np.array([nine_tenths, -nine_tenths, np.log(3), np.log(3)])
    # two of confidence 0.9, half right: gap 0.4; two of confidence 0.75, both right: gap 0.25
    assert expected_calibration_error(margins) == pytest.approx(0.5 * 0.4 + 0.5 * 0.25)


def test_equal_scores_are_half_right_at_even_odds():
    assert expected_calibration_error(np.zeros(4)) == 0.0


def test_temperature_mends_scores_that_are_too_sure():
    dev, test = (4 * preferences(1.0, 4000, seed) for seed in (2, 3))
    assert expected_calibration_error(test) > 0.1
    assert expected_calibration_error(test, fit_temperature(dev)) < 0.02
