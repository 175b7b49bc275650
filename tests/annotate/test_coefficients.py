"""Agreement beyond chance, against published examples and the libraries krippendorff, scikit-learn and statsmodels."""

from __future__ import annotations

from functools import partial

import krippendorff
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as fleiss_of_statsmodels

from annotate.stats.coefficients import cohen_kappa, fleiss_kappa, gwet_ac1, krippendorff_alpha
from annotate.stats.estimate import Estimate, Reason, Undefined

NONE = float("nan")
FOUR_OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NONE, NONE, NONE],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NONE, 3],
        [NONE, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NONE],
    ]
)
"""Krippendorff (2011), "Computing Krippendorff's alpha-reliability", section C."""


def ratings_of(table: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Units, raters and values of a table [raters, units]."""
    raters, units = np.nonzero(~np.isnan(table))
    return units, raters, table[raters, units]


def tables() -> list[np.ndarray]:
    """Ratings of many shapes, a third of them missing."""
    draw = np.random.default_rng(0)
    found = []
    for raters, units in ((2, 9), (3, 40), (7, 60)):
        table = np.clip(draw.integers(1, 5, units) + draw.integers(-1, 2, (raters, units)), 1, 5).astype(float)
        table[draw.random(table.shape) < 1 / 3] = NONE
        found.append(table)
    return found


@pytest.mark.parametrize(("metric", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_four_observers_is_as_published(metric, published):
    found = krippendorff_alpha(*ratings_of(FOUR_OBSERVERS), metric)
    assert found.value == pytest.approx(published, abs=5e-4)
    assert found.n == 40  # of 41 ratings one stands alone


@pytest.mark.parametrize("metric", ["nominal", "ordinal", "interval"])
def test_alpha_equals_that_of_the_library_krippendorff(metric):
    for table in [FOUR_OBSERVERS, *tables()]:
        expected = krippendorff.alpha(table, level_of_measurement=metric)
        assert krippendorff_alpha(*ratings_of(table), metric).value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", ["nominal", "ordinal", "interval"])
def test_alpha_of_units_that_count_both_ways_round_equals_the_librarys(metric):
    for table in [FOUR_OBSERVERS, *tables()]:
        found = krippendorff_alpha(*ratings_of(table), metric, middle=3)
        # The library is given every unit twice, so its n is twice that of the ratings there are.
        of_twice = krippendorff.alpha(np.hstack([table, 6 - table]), level_of_measurement=metric)
        expected = 1 - (1 - of_twice) * (found.n - 1) / (found.n - 0.5)
        assert found.value == pytest.approx(expected, abs=1e-9)


def test_which_way_round_pairs_are_does_not_matter():
    table = np.array([[0, 0, 0, 2, 1, 0], [0, 0, 2, 2, 0, 0]], dtype=float)
    turned = table.copy()
    turned[:, :3] = 2 - turned[:, :3]
    as_they_are, other_way = (
        krippendorff_alpha(*ratings_of(each), "ordinal", middle=1, fixed_raters=True) for each in (table, turned)
    )
    assert as_they_are == other_way
    # All for the one side and never apart is agreement, though nothing varies.
    assert krippendorff_alpha(*ratings_of(np.zeros((2, 9))), "ordinal", middle=1).value == 1


def test_the_order_of_the_ratings_does_not_matter():
    units, raters, values = ratings_of(FOUR_OBSERVERS)
    order = np.random.default_rng(1).permutation(len(units))
    for coefficient in (fleiss_kappa, gwet_ac1):
        shuffled = coefficient(units[order], raters[order], values[order])
        assert shuffled.value == pytest.approx(coefficient(units, raters, values).value, abs=1e-12)


def test_coefficients_of_categories_are_as_in_gwet_s_handbook():
    # Gwet (2014), chapter 2, of the same four observers: Fleiss 0.76117, AC1 0.77544.
    assert fleiss_kappa(*ratings_of(FOUR_OBSERVERS)).value == pytest.approx(0.76117, abs=5e-6)
    assert gwet_ac1(*ratings_of(FOUR_OBSERVERS)).value == pytest.approx(0.77544, abs=5e-6)


def test_without_gaps_they_equal_those_of_irrcac_and_statsmodels():
    # irrCAC 0.4.4 of the first nine units with the gap filled by 1.
    complete = np.nan_to_num(FOUR_OBSERVERS[:, :9], nan=1)
    assert gwet_ac1(*ratings_of(complete)).value == pytest.approx(0.707118644068, abs=1e-9)
    assert fleiss_kappa(*ratings_of(complete)).value == pytest.approx(0.692963752665, abs=1e-9)
    table = np.random.default_rng(2).integers(1, 4, (5, 30)).astype(float)
    expected = fleiss_of_statsmodels(aggregate_raters(table.T)[0])
    assert fleiss_kappa(*ratings_of(table)).value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("quadratic", [False, True])
def test_kappa_of_two_equals_scikit_learn_s(quadratic):
    draw = np.random.default_rng(3)
    first = draw.integers(1, 6, 50).astype(float)
    second = np.clip(first + draw.integers(-1, 2, 50), 1, 5)
    expected = cohen_kappa_score(first, second, weights="quadratic" if quadratic else None)
    assert cohen_kappa(first, second, quadratic=quadratic).value == pytest.approx(expected, abs=1e-9)
    with_gap = cohen_kappa(np.append(first, NONE), np.append(second, 2), quadratic=quadratic)
    assert (with_gap.value, with_gap.n) == (pytest.approx(expected, abs=1e-9), 50)


def test_two_ratings_of_a_unit_by_one_rater_are_not_taken_for_two_raters():
    for coefficient in (lambda *ratings: krippendorff_alpha(*ratings, "ordinal"), fleiss_kappa, gwet_ac1):
        with pytest.raises(ValueError, match="rates a unit once"):
            coefficient([1, 1, 2], ["a", "a", "b"], [1.0, 2.0, 3.0])
        coefficient([1, 1, 1], ["a", "a", "b"], [1.0, NONE, 3.0])


def test_kappa_s_interval_agrees_with_the_asymptotic_one():
    # Fleiss, Cohen and Everitt (1969), as statsmodels has it.
    from statsmodels.stats.inter_rater import cohens_kappa

    draw = np.random.default_rng(4)
    first = draw.integers(1, 4, 400).astype(float)
    second = np.where(draw.random(400) < 0.7, first, draw.integers(1, 4, 400))
    confusion = np.array([[((first == a) & (second == b)).sum() for b in (1, 2, 3)] for a in (1, 2, 3)])
    expected = cohens_kappa(confusion).std_kappa
    found = cohen_kappa(first, second, rounds=4000)
    assert (found.high - found.low) / 2 / 1.966 == pytest.approx(expected, rel=0.05)


def test_units_of_one_prompt_do_not_narrow_the_interval():
    # Each unit four times over says no more than once, where the four belong to one prompt.
    table = tables()[2]
    once = krippendorff_alpha(*ratings_of(table), "ordinal", fixed_raters=True, rounds=4000)
    units, raters, values = ratings_of(np.tile(table, 4))
    again = krippendorff_alpha(
        units, raters, values, "ordinal", prompts=units % table.shape[1], fixed_raters=True, rounds=4000
    )
    assert again.high - again.low == pytest.approx(once.high - once.low, rel=0.06)
    assert again.value == pytest.approx(once.value, abs=0.01)


def test_raters_who_differ_widen_the_interval():
    # Half of twelve raters call everything one worse: with others the agreement would be another.
    draw = np.random.default_rng(5)
    table = np.tile(draw.integers(2, 6, 200), (12, 1)) - (np.arange(12) % 2)[:, None].astype(float)
    fixed = krippendorff_alpha(*ratings_of(table), "interval", fixed_raters=True)
    drawn = krippendorff_alpha(*ratings_of(table), "interval")
    assert drawn.value == fixed.value
    assert drawn.high - drawn.low > 2 * (fixed.high - fixed.low)


@pytest.mark.parametrize("coefficient", [fleiss_kappa, gwet_ac1, partial(krippendorff_alpha, metric="nominal")])
def test_what_cannot_be_said_is_said_with_its_reason(coefficient):
    assert coefficient([], [], []) == Undefined(Reason.NO_DATA)
    assert coefficient([1, 2], [7, 7], [1, 2]) == Undefined(Reason.ONE_RATER, 2)
    assert coefficient([1, 2], [7, 8], [1, 2]) == Undefined(Reason.NO_OVERLAP, 2)


def test_where_all_answers_are_the_same_only_ac1_is_defined():
    same = ([1, 1, 2, 2], [7, 8, 7, 8], [3, 3, 3, 3])
    assert krippendorff_alpha(*same, "nominal").reason == Reason.NO_VARIATION
    assert krippendorff_alpha(*same, "interval").reason == Reason.NO_VARIATION
    assert fleiss_kappa(*same).reason == Reason.NO_VARIATION
    assert cohen_kappa([3, 3], [3, 3]) == Undefined(Reason.NO_VARIATION, 2)
    assert cohen_kappa([3, NONE], [NONE, 3]) == Undefined(Reason.NO_OVERLAP)
    assert isinstance(gwet_ac1(*same), Estimate)
    assert gwet_ac1(*same).value == 1


def test_full_agreement_does_not_say_how_much_others_would_agree():
    five = np.repeat(np.arange(5), 2), [7, 8] * 5, [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    for found in (krippendorff_alpha(*five, "ordinal"), krippendorff_alpha(*five, "interval"), fleiss_kappa(*five)):
        assert (found.value, found.interval) == (1, None)
    assert cohen_kappa([1, 2, 3], [1, 2, 3]).interval is None


def test_an_interval_of_few_units_does_not_leave_the_scale():
    three = [1, 1, 2, 2, 3, 3], [7, 8, 7, 8, 7, 8], [1, 1, 1, 2, 2, 2]
    for coefficient in (fleiss_kappa, gwet_ac1, partial(krippendorff_alpha, metric="ordinal")):
        assert coefficient(*three).interval == [-1, 1]  # nothing is known
