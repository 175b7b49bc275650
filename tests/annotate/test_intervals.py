"""Intervals against hand calculation and a second implementation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from annotate.stats.estimate import Estimate
from annotate.stats.intervals import clustered_mean, mean_interval, median_interval, share_interval


def test_the_mean_interval_is_students() -> None:
    # Values 1, 2, 3: mean 2, s = 1, t(0.975, 2) = 4.302653, half-width 4.302653 / √3 = 2.484138.
    estimate = mean_interval([1, 2, 3])
    assert (estimate.value, estimate.n) == (2, 3)
    assert estimate.interval == pytest.approx([2 - 2.484138, 2 + 2.484138], abs=1e-6)


def test_the_mean_interval_equals_scipys() -> None:
    values = np.random.default_rng(0).normal(size=30)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values).interval == pytest.approx([expected.low, expected.high])


def test_the_interval_of_a_median_lies_between_the_values_that_ranks_allow() -> None:
    # Of ten values the second and the ninth: 1 − 2·(1 + 10)/2¹⁰ = 97.9 %.
    found = median_interval([10, 20, 30, 40, 50, 60, 70, 80, 90, 1000])
    assert (found.value, found.interval, found.n) == (55, [20, 90], 10)
    # Five values cannot cover: 1 − 2/2⁵ = 93.75 %.
    assert (median_interval([3, 1, 2, 5, 4]).value, median_interval([3, 1, 2, 5, 4]).interval) == (3, None)
    assert median_interval([]).value is None


@pytest.mark.parametrize("n", [6, 17, 60, 201])
def test_the_interval_of_a_median_equals_scipys(n: int) -> None:
    values = np.random.default_rng(n).exponential(size=n)
    expected = stats.quantile_test(values, p=0.5).confidence_interval(0.95)
    assert median_interval(values).interval == [expected.low, expected.high]


@pytest.mark.parametrize(("wins", "n"), [(0, 5), (3, 5), (23, 32), (32, 32)])
def test_the_interval_of_a_share_equals_scipys_wilson_interval(wins: int, n: int) -> None:
    expected = stats.binomtest(wins, n).proportion_ci(method="wilson")
    assert share_interval([1] * wins + [0] * (n - wins)).interval == pytest.approx([expected.low, expected.high])


def test_the_interval_of_a_share_with_ties_stays_between_0_and_1() -> None:
    # Mean 0.9 of 5, z = 1.959964: centre (0.9 + 0.384146) / 1.768292, half 1.108394 · √(0.018 + 0.038415).
    assert (share_interval([0] * 12).low, share_interval([1] * 12).high) == (0, 1)
    estimate = share_interval([1, 1, 1, 1, 0.5])
    assert estimate.value == pytest.approx(0.9)
    assert estimate.interval == pytest.approx([0.462944, 0.989470], abs=1e-6)
    assert share_interval([]).value is None


def test_no_data_gives_no_numbers_and_one_value_no_interval() -> None:
    assert (mean_interval([]).value, mean_interval([]).interval) == (None, None)
    assert (mean_interval([4]).value, mean_interval([4]).interval) == (4, None)


def test_values_that_are_all_alike_do_not_say_how_much_others_would_differ() -> None:
    assert mean_interval([5, 5, 5, 5]) == Estimate(5, None, None, 4)
    assert mean_interval([0.1] * 7).interval is None  # whose mean is off by a rounding
    assert clustered_mean([5, 4, 5, 4], ["a", "a", "b", "b"]) == Estimate(4.5, None, None, 4)


def test_an_interval_does_not_leave_what_its_figure_can_be() -> None:
    # Student's of 5 and 4 is 4.5 ± 6.35.
    assert mean_interval([5, 4], bounds=(1, 5)).interval == [1, 5]
    assert clustered_mean([5, 4], ["a", "b"], bounds=(1, 5)).interval == [1, 5]
    assert mean_interval([-0.5, 0.25], bounds=(0, 9)).low == -0.125  # nor does it leave out the figure itself
