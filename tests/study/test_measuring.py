"""The best of n draws, against a hand calculation and all sets of n."""

from itertools import combinations
from statistics import fmean

import pytest

from tests.study.measuring import best_of


def test_the_expected_best_is_the_mean_over_all_sets_of_draws() -> None:
    assert best_of([[4.0, 1.0, 3.0, 2.0]], 2) == pytest.approx([(1 * 2 + 2 * 3 + 3 * 4) / 6])
    values = [[0.3, -1.2, 2.0, 0.3, 0.9, 1.1], [5.0, 4.0, -3.0, 0.0, 1.0, 2.0]]
    for n in range(1, 7):
        assert best_of(values, n) == pytest.approx([fmean(map(max, combinations(own, n))) for own in values])
