"""Bounds that hold at every look, against confseq 0.0.11, the authors' own code, and by simulation."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest

from annotate.stats.sequences import Sequence, bernstein_sequence, betting_sequence, evidence_above
from tests.bench.stats_reference import betting_lower

OUTCOMES = np.array([1, 0, 1, 1, 0.5, 0, 1, 1, 1, 0, 0.5, 1, 1, 1, 0, 1, 0.5, 1, 1, 1, 0, 1, 1, 1, 1])
LOOKS = [4, 9, 24]


@pytest.mark.parametrize(
    ("mean", "planned", "capital"),
    [
        (0.5, None, [1.6875, 2.84765625, 23.92242053679444]),
        (0.5, 20, [1.6875, 2.84765625, 30.789414167404175]),
        (0.3, None, [6.780864197530867, 32.224504987993626, 3635.7849817464084]),
        (0.3, 20, [5.19538540355398, 23.132167353561353, 17648.297139190323]),
        (0.65, None, [1.2692307692307692] * 3),
    ],
)
def test_the_capital_is_that_of_the_authors_code(mean, planned, capital):
    # betting_mart(x, mean, alpha=0.025, theta=1), its highest value so far; 2 / 0.05 = 40 is enough.
    found = evidence_above(OUTCOMES, mean, planned=planned)
    assert (40 * found[LOOKS]).tolist() == pytest.approx(capital, rel=1e-9)


def test_the_betting_bounds_are_those_of_the_authors_code_within_a_step_of_its_grid():
    # betting_cs(x, breaks=2001, running_intersection=True), rounded outward to steps of 1/2001.
    found = betting_sequence(OUTCOMES)
    for ours, theirs in zip(found.low[LOOKS], [0.148425787, 0.284357821, 0.476261869], strict=True):
        assert 0 <= ours - theirs <= 1 / 2001
    for ours, theirs in zip(found.high[LOOKS], [1.0, 0.961519240, 0.905547226], strict=True):
        assert 0 <= theirs - ours <= 1 / 2001


@pytest.mark.parametrize("planned", [None, 25])
def test_the_betting_bounds_are_the_means_against_which_the_capital_is_just_enough(planned):
    # Equation 24, a product of one factor an outcome, solved by SciPy for 1 / (0.05 / 2).
    found = betting_sequence(OUTCOMES, planned=planned)
    lower = betting_lower(OUTCOMES.tolist(), planned=planned)
    upper = 1 - betting_lower((1 - OUTCOMES).tolist(), planned=planned)
    assert found.low == pytest.approx(lower, abs=1e-6)
    assert found.high == pytest.approx(upper, abs=1e-6)
    assert (found.low <= lower + 1e-12).all()  # rounded outward


def test_the_bernstein_bounds_are_theorem_2_written_out():
    found = bernstein_sequence(OUTCOMES)
    mean, squares, weights, weighted, costs, best = 0.5, 0.25, 0.0, 0.0, 0.0, 0.0
    for t, x in enumerate(OUTCOMES.tolist(), start=1):
        variance = squares / t
        bet = min(sqrt(2 * log(2 / 0.05) / (variance * t * log(1 + t))), 0.5)
        costs += 4 * (x - mean) ** 2 * (-log(1 - bet) - bet) / 4
        weights, weighted = weights + bet, weighted + bet * x
        best = max(best, weighted / weights - (log(2 / 0.05) + costs) / weights)
        mean = (0.5 + OUTCOMES[:t].sum()) / (t + 1)
        squares += (x - mean) ** 2
        assert found.low[t - 1] == pytest.approx(best, abs=1e-9)
    assert found.high.tolist() == [1] * 25  # too few to say
    assert bernstein_sequence(1 - OUTCOMES).high == pytest.approx(1 - found.low, abs=1e-9)


@pytest.mark.parametrize("planned", [None, 50])
def test_the_lower_bound_passes_a_half_just_where_the_evidence_is_enough(planned):
    draw = np.random.default_rng(0)
    for _study in range(20):
        outcomes = (draw.random(200) < 0.65).astype(float)
        passed = betting_sequence(outcomes, planned=planned).low >= 0.5
        assert passed.tolist() == (evidence_above(outcomes, planned=planned) >= 1).tolist()


def test_losses_for_wins_turn_the_bounds_round():
    one, other = betting_sequence(OUTCOMES), betting_sequence(1 - OUTCOMES)
    assert one.low == pytest.approx(1 - other.high)
    assert one.high == pytest.approx(1 - other.low)


def test_bounds_only_get_tighter():
    draw = np.random.default_rng(1)
    for sequence in (betting_sequence(draw.random(500)), bernstein_sequence(draw.random(500))):
        assert (np.diff(sequence.low) >= 0).all()
        assert (np.diff(sequence.high) <= 0).all()


@pytest.mark.parametrize(("planned", "low", "high"), [(None, 0.94, 0.91), (300, 0.94, 0.83)])
def test_bounds_cross_where_no_mean_fits_and_the_sequence_says_so(planned, low, high):
    # 120 wins say that the mean is near 1; the 180 losses after them that it is not.
    drifting = betting_sequence([1.0] * 120 + [0.0] * 180, planned=planned)
    assert drifting.fits[:120].all()
    assert not drifting.fits[-1]
    assert (drifting.low[-1], drifting.high[-1]) == pytest.approx((low, high), abs=0.005)
    mixed = np.tile([1.0, 0.0, 0.0, 1.0, 0.0], 60)
    assert betting_sequence(mixed, planned=planned).fits.all()
    assert bernstein_sequence(mixed).fits.all()


@pytest.mark.parametrize("bounds", [betting_sequence, bernstein_sequence])
def test_the_true_mean_is_ever_outside_in_at_most_one_of_twenty_studies(bounds):
    draw = np.random.default_rng(2)
    outside = 0
    for _study in range(300):
        sequence: Sequence = bounds(draw.beta(3, 2, 300))
        outside += bool((sequence.low > 0.6).any() or (sequence.high < 0.6).any())
    assert outside <= 15


def test_no_outcomes_give_no_bounds_and_impossible_ones_are_refused():
    assert len(betting_sequence([]).low) == len(bernstein_sequence([]).high) == 0
    with pytest.raises(ValueError, match="between 0 and 1"):
        betting_sequence([0.2, 1.1])
    with pytest.raises(ValueError, match="between 0 and 1"):
        bernstein_sequence([float("nan")])


def test_a_long_sequence_is_the_same_in_parts(monkeypatch):
    outcomes = (np.random.default_rng(3).random(300) < 0.6).astype(float)
    whole = betting_sequence(outcomes)
    monkeypatch.setattr("annotate.stats.sequences.AT_ONCE", 7 * 2001)
    assert betting_sequence(outcomes).low.tolist() == whole.low.tolist()
