"""Agreement of rankings: hand calculations, and SciPy where it computes the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from annotate.stats.agreement import agreement, agreement_with_key, disagreement, kendall_tau_b, kendall_w
from annotate.stats.estimate import Reason, Undefined

NONE = float("nan")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], 1.0),
        ([1, 2, 3], [3, 2, 1], 0.0),
        ([1, 2, 3], [2, 1, 3], 2 / 3),  # one pair of three reversed
        ([1, 2, 3], [1, 1, 2], 5 / 6),  # one pair of three tied by one of them: (½ + 1 + 1) / 3
        ([1, 1, 1], [1, 1, 1], 1.0),  # both tie everything
        ([1, 1, 2], [1, 2, 2], 2 / 3),  # AB tied by the first, BC by the second, AC alike: (½ + ½ + 1) / 3
        ([1, 2, NONE, 3], [2, 1, 3, NONE], 0.0),  # only A and B are ranked by both, and reversed
        ([1, 2, NONE], [1, NONE, 2], None),
        ([], [], None),
    ],
)
def test_agreement_counts_pairs_ordered_alike_and_half_of_those_that_one_ties(
    first: list[float], second: list[float], expected: float | None
) -> None:
    found = agreement(first, second)
    assert found == (None if expected is None else pytest.approx(expected))
    assert agreement(second, first) == found


@pytest.mark.parametrize(
    ("answer", "key", "expected"),
    [
        ([1, 2, 3], [1, 1, 2], 1.0),  # A against B is not asked: the key ties them
        ([2, 1, 1], [1, 1, 2], 0.25),  # A ≻ C reversed 0, B ≻ C tied ½
        ([1, 1, 1], [1, 2, 3], 0.5),
        ([1, 2, NONE], [2, 1, 3], 0.0),  # of three pairs the answer ranks one, and reverses it
        ([1, NONE, NONE], [1, 2, 3], None),
        ([1, 1], [1, 1], 1.0),  # a key that only ties
        ([1, 2], [1, 1], 0.5),
    ],
)
def test_agreement_with_a_key_is_over_the_pairs_that_it_orders(
    answer: list[float], key: list[float], expected: float | None
) -> None:
    assert agreement_with_key(answer, key) == (None if expected is None else pytest.approx(expected))


def test_without_ties_agreement_is_kendall_s_tau_moved_to_between_0_and_1() -> None:
    draw = np.random.default_rng(0)
    for size in (2, 5, 9):
        first, second = draw.permutation(size), draw.permutation(size)
        expected = (stats.kendalltau(first, second).statistic + 1) / 2
        assert agreement(first, second) == pytest.approx(expected)
        assert agreement_with_key(first, second) == pytest.approx(expected)


def test_with_ties_agreement_with_a_key_is_somers_d_moved_to_between_0_and_1() -> None:
    # Somers' D of the answer given the key: (alike − reversed) / pairs that the key does not tie.
    draw = np.random.default_rng(1)
    for _case in range(20):
        key, answer = draw.integers(1, 4, 7), draw.integers(1, 4, 7)
        expected = (stats.somersd(key, answer).statistic + 1) / 2
        assert agreement_with_key(answer, key) == pytest.approx(expected)


def test_disagreement_is_one_less_the_mean_over_all_pairs_of_raters() -> None:
    # The first two agree on 2 of 3 pairs, the third reverses the first (0) and agrees with the second on 1 of 3.
    assert disagreement([[1, 2, 3], [2, 1, 3], [3, 2, 1]]) == pytest.approx(1 - (2 / 3 + 0 + 1 / 3) / 3)
    assert disagreement([[1.0, 2.0], [NONE, 1.0]]) is None
    assert disagreement([[1, 2]]) is None


def test_tau_b_with_ties_is_the_count_of_pairs() -> None:
    # Of six pairs four are alike, none reversed, one is tied by the first and one by the second: 4 / sqrt(5 * 5).
    assert kendall_tau_b([1, 1, 2, 3], [1, 2, 3, 3]) == pytest.approx(4 / 5, abs=1e-9)
    assert kendall_tau_b([1, 2, NONE], [2, 1, 3]) == -1
    assert kendall_tau_b([1, 1], [1, 2]) == Undefined(Reason.NO_VARIATION, 2)
    assert kendall_tau_b([1, NONE], [NONE, 1]) == Undefined(Reason.NO_OVERLAP, 0)


def test_w_is_friedman_s_statistic_over_its_greatest() -> None:
    # Kendall and Gibbons (1990), 6.6: W = χ² / (m (n − 1)), with ties corrected for in both.
    draw = np.random.default_rng(2)
    for rankings in (draw.random((4, 6)).argsort(axis=1), draw.integers(1, 4, (5, 7))):
        m, n = rankings.shape
        expected = stats.friedmanchisquare(*rankings.T).statistic / (m * (n - 1))
        assert kendall_w(rankings) == pytest.approx(expected, abs=1e-9)
    assert kendall_w([[1, 2, 3], [1, 2, 3]]) == pytest.approx(1)
    assert kendall_w([[1, 2, 3], [3, 2, 1]]) == pytest.approx(0)
    assert kendall_w([[1, 2, 3]]) == Undefined(Reason.ONE_RATER, 1)
    assert kendall_w([[1, 1], [2, 2]]) == Undefined(Reason.NO_VARIATION, 2)
