"""One order out of several raters', by hand-made examples."""

from __future__ import annotations

import numpy as np
import pytest

from annotate.stats.consensus import LEAST_RELIABILITY, as_places, majority, reliability

EVERYTHING = np.array([True, True, True])
NAN = float("nan")


def test_the_majority_of_three_raters_orders_the_answers() -> None:
    sign, share = majority([[1, 2, 3], [1, 3, 2], [2, 1, 3]], [1, 1, 1])
    # a ≻ b by 2 of 3, a ≻ c by 3 of 3, b ≻ c by 2 of 3
    assert as_places(sign, EVERYTHING) == [1, 2, 3]
    assert share[0].tolist()[1:] == pytest.approx([2 / 3, 1])
    assert share[1, 2] == pytest.approx(2 / 3)


def test_as_many_on_both_sides_are_a_tie_and_so_are_ties() -> None:
    sign, _share = majority([[1, 2], [2, 1]], [1, 1])
    assert as_places(sign, EVERYTHING[:2]) == [1, 1]
    sign, _share = majority([[1, 1, 2], [1, 1, 2]], [1, 1])
    assert as_places(sign, EVERYTHING) == [1, 1, 2]


def test_condorcet_s_cycle_is_no_order() -> None:
    sign, _share = majority([[1, 2, 3], [3, 1, 2], [2, 3, 1]], [1, 1, 1])
    assert as_places(sign, EVERYTHING) is None
    assert (sign > 0).sum() == 3


def test_a_tie_that_a_third_answer_contradicts_is_no_order() -> None:
    # a ~ b, b ~ c, but a ≻ c
    sign = np.array([[0, 0, 1], [0, 0, 0], [-1, 0, 0]], dtype=np.int8)
    assert as_places(sign, EVERYTHING) is None


def test_an_answer_that_nobody_ranked_has_no_place() -> None:
    sign, _share = majority([[1, 2, NAN], [1, 2, NAN]], [1, 1])
    assert as_places(sign, np.array([True, True, False])) == [1, 2, None]


def test_a_weightier_rater_outvotes_two() -> None:
    sign, share = majority([[1, 2], [2, 1], [2, 1]], [0.9, 0.3, 0.3])
    assert as_places(sign, EVERYTHING[:2]) == [1, 2]
    assert share[0, 1] == pytest.approx(0.6)


def test_equal_sums_of_weights_in_another_order_are_a_tie() -> None:
    # 0.1 + 0.2 is not 0.3 in floating point
    sign, _share = majority([[1, 2], [1, 2], [2, 1]], [0.1, 0.2, 0.3])
    assert sign[0, 1] == 0


def test_reliability_is_twice_the_mean_agreement_less_one() -> None:
    items = [{1: [1, 2, 3], 2: [1, 2, 3], 3: [3, 2, 1]}]
    # agreement: 1 and 2 agree fully, 3 with neither: means 0.5, 0.5 and 0
    assert reliability(items) == {1: LEAST_RELIABILITY, 2: LEAST_RELIABILITY, 3: LEAST_RELIABILITY}
    items.append({1: [1, 2], 2: [1, 2]})
    # 1: (1 + 0 + 1) / 3, so 1/3; 2 the same; 3 stays at 0
    assert reliability(items) == pytest.approx({1: 1 / 3, 2: 1 / 3, 3: LEAST_RELIABILITY})


def test_a_rater_who_shares_no_item_weighs_the_mean_of_the_others() -> None:
    items = [{1: [1, 2], 2: [1, 2]}, {3: [1, 2]}]
    assert reliability(items) == {1: 1.0, 2: 1.0, 3: 1.0}
    assert reliability([{4: [1, 2]}]) == {4: 1.0}
