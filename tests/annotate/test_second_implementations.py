"""Every estimator beside another implementation of it: a library's, or the formula written out in plain loops."""

from __future__ import annotations

from tests.bench import stats_second


def test_what_is_computed_equals_its_second_implementation() -> None:
    assert {name: apart for name, apart in stats_second.computed().items() if not apart <= 1e-9} == {}


def test_what_is_fitted_or_solved_for_equals_its_second_implementation() -> None:
    assert {name: apart for name, apart in stats_second.fits().items() if not apart <= 1e-6} == {}
