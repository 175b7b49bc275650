"""Win-rates, favoured places, repeated judgements and calibration, by hand and against scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from annotate.stats.bias import position_bias, self_agreement
from annotate.stats.calibration import calibration, temperature
from annotate.stats.estimate import Reason, Undefined
from annotate.stats.winrates import mean_by_prompt, two_way_mean, win_rate, win_rate_matrix

NONE = float("nan")


def test_a_prompt_counts_once_whatever_its_raters_and_ties_count_half():
    # Prompt b: (1 + ½) / 2; prompt a: 0. In the order in which they came.
    outcomes, prompts = [1, 0, 0.5], ["b", "a", "b"]
    assert mean_by_prompt(outcomes, prompts).tolist() == [0.75, 0]
    found = win_rate(outcomes, prompts)
    assert (found.value, found.n) == (0.375, 2)
    assert win_rate([], []) == Undefined(Reason.NO_DATA)


def test_the_win_rate_s_interval_is_wilson_s():
    expected = stats.binomtest(23, 32).proportion_ci(method="wilson")
    found = win_rate([1] * 23 + [0] * 9, range(32))
    assert found.interval == pytest.approx([expected.low, expected.high], abs=1e-9)


def test_the_matrix_shows_each_pair_from_both_sides():
    found = win_rate_matrix([0, 1, 0], [1, 0, 2], [1, 0, 0.5], [7, 8, 9], models=3)
    assert (found[0][1].value, found[0][1].n) == (1, 2)  # won as the first and as the second
    assert (found[1][0].value, found[2][0].value) == (0, 0.5)
    assert found[0][0] == found[1][2] == Undefined(Reason.NO_DATA)


def test_a_mean_over_few_raters_is_less_sure_than_over_many():
    # Each of r raters always says the same, half of them 1: only raters count.
    def width(raters):
        rater = np.arange(1200) % raters
        found = two_way_mean((rater % 2).astype(float), np.arange(1200) // raters, rater)
        assert found.value == 0.5
        return found.high - found.low

    assert width(6) == pytest.approx(2 * stats.t.ppf(0.975, 5) * 0.5 / np.sqrt(5), rel=0.1)
    assert width(60) < width(6) / 3
    assert two_way_mean([], [], []) == Undefined(Reason.NO_DATA)


def test_a_mean_score_stays_on_its_scale_and_is_not_sure_where_all_are_alike():
    prompts, raters = [1, 1, 2, 2], [1, 2, 1, 2]
    assert two_way_mean([5, 5, 5, 5], prompts, raters, bounds=(1, 5)).interval is None
    assert two_way_mean([5, 4, 5, 4], prompts, raters, bounds=(1, 5)).interval is None  # 4.5 on either prompt
    found = two_way_mean([5, 4, 4, 3], prompts, raters, bounds=(1, 5))
    assert (found.value, found.interval) == (4, [1, 5])  # of two prompts a point apart nothing is known
    bias = position_bias([1, 1, 0, 0.5], prompts, raters)
    assert bias.interval == [0, 1]


def test_a_rater_who_always_takes_the_first_has_a_bias_of_one():
    found = position_bias(np.ones(40))
    expected = stats.binomtest(40, 40).proportion_ci(method="wilson")
    assert found.value == 1
    assert found.interval == pytest.approx([expected.low, 1], abs=1e-9)
    assert position_bias([]) == Undefined(Reason.NO_DATA)


def test_position_bias_of_a_pool_takes_prompts_and_raters_into_account():
    draw = np.random.default_rng(0)
    raters, prompts = np.tile(np.arange(10), 100), np.repeat(np.arange(100), 10)
    preferred = (draw.random(1000) < np.where(raters < 5, 0.9, 0.5)).astype(float)
    pool, alone = position_bias(preferred, prompts, raters), position_bias(preferred)
    assert pool.value == alone.value
    assert pool.high - pool.low > 2 * (alone.high - alone.low)


def test_self_agreement_is_the_share_said_alike_beside_kappa():
    # Six alike of eight; by chance (5·5 + 3·3) / 64 = 34/64: κ = (48 − 34) / (64 − 34).
    found = self_agreement([1, 1, 1, 1, 1, 2, 2, 2, 5], [1, 1, 1, 1, 2, 2, 2, 1, NONE])
    assert (found.same.value, found.same.n) == (0.75, 8)
    assert found.beyond_chance.value == pytest.approx((48 - 34) / (64 - 34))
    always = self_agreement([1, 1], [1, 1])
    assert (always.same.value, always.beyond_chance.reason) == (1, Reason.NO_VARIATION)
    assert self_agreement([1], [NONE]).same == Undefined(Reason.NO_OVERLAP)


def test_calibration_equals_scikit_learn_s_bins():
    draw = np.random.default_rng(1)
    p = draw.random(500)
    y = (draw.random(500) < p**2).astype(float)
    found = calibration(p, y)
    frequency, confidence = calibration_curve(y, p, n_bins=10)
    assert found.frequency == pytest.approx(frequency, abs=1e-9)
    assert found.confidence == pytest.approx(confidence, abs=1e-9)
    expected = (np.histogram(p, bins=10, range=(0, 1))[0] * np.abs(frequency - confidence)).sum() / 500
    assert found.error == pytest.approx(expected, abs=1e-9)


def test_calibration_by_hand():
    # Bin 0.9–1: mean 0.95, half come true: 0.45 off, of two thirds of the cases; 0.2 against 0: of one third.
    found = calibration([0.9, 1.0, 0.2], [1, 0, 0])
    assert found.error == pytest.approx(2 / 3 * 0.45 + 1 / 3 * 0.2)
    assert np.isnan(found.confidence[0])
    assert calibration([], []) == Undefined(Reason.NO_DATA)


def test_the_temperature_equals_a_logistic_regression_without_intercept():
    draw = np.random.default_rng(2)
    margins = 3 * draw.normal(size=2000)
    outcomes = (draw.random(2000) < expit(margins / 2.5)).astype(float)
    fitted = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-12, max_iter=1000).fit(margins[:, None], outcomes)
    assert temperature(margins, outcomes) == pytest.approx(1 / fitted.coef_[0, 0], abs=1e-6)
    assert temperature(margins, outcomes) == pytest.approx(2.5, rel=0.1)


def test_a_temperature_that_would_be_endless_or_nothing_is_explained():
    assert temperature([], []) == Undefined(Reason.NO_DATA)
    assert temperature([1, -2], [1, 0]) == Undefined(Reason.ONE_SIDED, 2)  # all ordered rightly: the surer the better
    assert temperature([1, -2], [0, 1]) == Undefined(Reason.ONE_SIDED, 2)  # all ordered wrongly
