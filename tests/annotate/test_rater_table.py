"""The tables of raters and of generations, by hand-made judgements."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from annotate.stats.agreement import agreement
from annotate.stats.bradley_terry import ELO, Strengths
from annotate.stats.estimate import Estimate, Reason, Undefined
from annotate.stats.generations import generation_table
from annotate.stats.raters import (
    Choices,
    _p_of_no_drift,
    agreement_by_criterion,
    agreement_with_others,
    drift,
    rater_table,
    stand_out,
)


def test_agreement_with_others_is_the_share_that_says_the_same():
    # Of three on pair 7 two say 0: each of them agrees with one of two others; pair 8 has one judgement only.
    found = agreement_with_others([7, 7, 8, 7], [0, 2, 0, 0])
    assert found[[0, 1, 3]].tolist() == [0.5, 0, 0.5]
    assert np.isnan(found[2])
    assert len(agreement_with_others([], [])) == 0


def test_a_tie_agrees_half_with_a_preference_as_it_does_in_whole_rankings():
    # A win, a tie and a loss: the tie is half of either's, the other two are opposites.
    assert agreement_with_others([1, 1, 1], [0, 1, 2]).tolist() == [0.25, 0.5, 0.25]
    places = {0: [1, 2], 1: [1, 1], 2: [2, 1]}
    for (one, first), (other, second) in product(places.items(), repeat=2):
        assert agreement_with_others([1, 1], [one, other])[0] == agreement(first, second)


def test_a_rater_s_row_has_agreement_place_and_time():
    choices = Choices(
        pairs=[0, 0, 1, 1, 2, 2],
        raters=[0, 1, 0, 1, 0, 1],
        outcomes=[0, 0, 2, 0, 1, 1],
        shown_first=[0, 2, 2, 0, 0, 0],
    )
    one, other, nobody = rater_table(choices, active_ms=[[1000, 3000, 2000], [9000] * 3, []])
    assert (one.judged, one.active_ms) == (3, Estimate(2000, None, None, 3))
    assert (one.agreement.value, one.agreement.n) == (pytest.approx(2 / 3), 3)
    assert one.position_bias.value == pytest.approx((1 + 1 + 0.5) / 3)
    assert other.position_bias.value == pytest.approx((0 + 1 + 0.5) / 3)
    assert one.reliability == Undefined(Reason.NO_THREE, 6)
    assert one.drift == Undefined(Reason.TOO_FEW, 3)
    assert nobody.judged == 0
    assert nobody.reliability == nobody.position_bias == nobody.active_ms == Undefined(Reason.NO_DATA)
    assert nobody.agreement == Undefined(Reason.NO_OVERLAP)


def test_items_that_gave_no_pairs_are_judged_and_took_their_time():
    nothing = Choices(pairs=[], raters=[], outcomes=[], shown_first=[], items=[])
    (row,) = rater_table(nothing, active_ms=[[1000, 5000, 3000]])
    assert (row.judged, row.active_ms) == (3, Estimate(3000, None, None, 3))
    assert row.position_bias == Undefined(Reason.NO_DATA)


def test_a_rater_alone_has_no_agreement_and_no_reliability():
    choices = Choices(pairs=[0, 1], raters=[0, 0], outcomes=[0, 2], shown_first=[0, 0])
    (row,) = rater_table(choices, active_ms=[[1, 1]])
    assert row.agreement == Undefined(Reason.NO_OVERLAP)
    assert row.reliability == Undefined(Reason.ONE_RATER, 2)
    assert row.position_bias.value == 0.5


def test_agreement_is_told_apart_by_criterion():
    # Coherence: the two say the same of all three answers; relevance: of none of two.
    criteria = ["coherence"] * 6 + ["relevance"] * 4
    answers, raters = [1, 1, 2, 2, 3, 3, 1, 1, 2, 2], [0, 1] * 5
    scores = [1, 1, 5, 5, 3, 3, 1, 5, 5, 1]
    found = agreement_by_criterion(criteria, answers, raters, scores)
    assert found["coherence"].value == 1
    assert found["relevance"].value < 0


def test_who_begins_to_guess_drifts_down():
    draw = np.random.default_rng(0)
    pairs, raters = np.repeat(np.arange(200), 3), np.tile(np.arange(3), 200)
    right = draw.integers(2, size=200)[pairs] * 2
    guessing = (raters == 2) & (pairs >= 100)
    outcomes = np.where(guessing, draw.integers(2, size=600) * 2, right)
    rows = rater_table(Choices(pairs, raters, outcomes, np.zeros(600)), active_ms=[np.ones(200)] * 3)
    assert rows[2].drift.high < 0
    assert rows[2].has_changed
    assert rows[2].drift.value == pytest.approx(-0.5, abs=0.15)
    assert rows[2].reliability.value == pytest.approx(0.75, abs=0.06)
    assert rows[0].reliability.value > 0.97
    assert rows[2].reliability.high < rows[0].reliability.low


def test_pairs_of_one_item_count_as_one():
    # Two items of three pairs: with the first one's all three alike, with the second one's one of three.
    pairs, items = np.repeat(np.arange(6), 2), np.repeat([7, 9], 6)
    outcomes = [0, 0, 2, 2, 1, 1, 0, 0, 0, 2, 2, 0]
    shown = [0, 0, 2, 2, 0, 0, 0, 0, 2, 2, 0, 0]
    choices = Choices(pairs, np.tile([0, 1], 6), outcomes, shown, items=items)
    one, other = rater_table(choices, active_ms=[[1000, 4000]] * 2)
    assert (one.judged, one.agreement.n, one.position_bias.n) == (2, 2, 2)
    assert one.agreement.value == other.agreement.value == pytest.approx((1 + 1 / 3) / 2)
    assert one.position_bias.value == pytest.approx(((1 + 1 + 0.5) / 3 + (1 + 0 + 0) / 3) / 2)
    assert one.active_ms.value == 2500


def test_who_always_takes_the_first_is_seen_to():
    draw = np.random.default_rng(1)
    shown = draw.integers(2, size=80) * 2
    outcomes = np.where(np.arange(80) % 2 == 0, shown, draw.integers(2, size=80) * 2)
    choices = Choices(np.repeat(np.arange(40), 2), np.tile([0, 1], 40), outcomes, shown)
    always, fair = rater_table(choices, active_ms=[np.ones(40)] * 2)
    assert (always.position_bias.value, always.position_bias.high) == (1, 1)
    assert always.position_bias.low > 0.5
    assert fair.position_bias.low < 0.5 < fair.position_bias.high
    assert (always.favours_a_place, fair.favours_a_place) == (True, False)


def test_who_stands_out_is_who_does_among_so_many():
    p_values = np.random.default_rng(0).random((200, 12)) ** 3
    for row in p_values:
        assert stand_out(row) == multipletests(row, method="holm")[0].tolist()
    # The least of three must be at most 0.05 / 3; what cannot be told is not counted.
    assert stand_out([0.017, 0.5, np.nan, 0.9]) == [False] * 4
    assert stand_out([0.016, 0.5, np.nan, 0.9]) == [True, False, False, False]
    assert stand_out([]) == []


def test_of_many_fair_raters_nobody_is_marked_though_some_interval_leaves_a_half_behind():
    # 20 of 28 first: Wilson's interval begins above ½ (p = 0.02); with nineteen others it is no more than chance.
    shown = np.tile([0, 2], 14 * 20)
    outcomes = shown.copy()
    for rater in range(20):
        own = slice(28 * rater, 28 * (rater + 1))
        first = 20 if rater == 0 else 14
        outcomes[own] = np.where(np.arange(28) < first, shown[own], 2 - shown[own])
    choices = Choices(np.arange(560), np.repeat(np.arange(20), 28), outcomes, shown)
    rows = rater_table(choices, active_ms=[np.ones(28)] * 20)
    assert rows[0].position_bias.low > 0.5
    assert not any(row.favours_a_place for row in rows)
    alone = Choices(np.arange(28), np.zeros(28), outcomes[:28], shown[:28])
    assert rater_table(alone, active_ms=[np.ones(28)])[0].favours_a_place


def test_where_all_say_the_same_reliability_is_explained_and_the_rest_stands():
    choices = Choices(np.repeat(np.arange(5), 3), np.tile([0, 1, 2], 5), np.ones(15), np.zeros(15))
    one, _other, _third = rater_table(choices, active_ms=[np.ones(5)] * 3)
    assert one.reliability == Undefined(Reason.NO_VARIATION, 15)
    assert (one.agreement.value, one.position_bias.value) == (1, 0.5)


def test_drift_is_the_difference_of_halves_with_welch_s_interval():
    earlier, later = [1, 0, 1, 1, 0] * 2, [0, 0, 1, 0, 0] * 2
    expected = stats.ttest_ind(later, earlier, equal_var=False).confidence_interval()
    found = drift(earlier + later)
    assert _p_of_no_drift(np.array([*earlier, *later], dtype=float)) == pytest.approx(
        stats.ttest_ind(later, earlier, equal_var=False).pvalue, abs=1e-12
    )
    assert found.value == pytest.approx(1 / 5 - 3 / 5)
    assert found.interval == pytest.approx([expected.low, expected.high])
    assert drift([1] * 12) == Estimate(0.0, None, None, 12)
    assert drift([1, 0, 1, 1, 0, 0, 0, 1, 0, 0]).low == -1  # Welch's would be −1.13; no share changes by more


def test_generations_stand_on_one_scale_from_generation_0():
    # 1 beats 0 on three of four prompts: ln 3; 2 and 1 on two each: 0.
    first, second = [1, 1, 1, 0, 2, 2, 1, 1], [0, 0, 0, 1, 1, 1, 2, 2]
    table = generation_table(first, second, [0] * 8, generations=3, prompts=range(8), raters=None, rounds=20)
    assert isinstance(table.strengths, Strengths)
    assert [e.value for e in table.strengths.models] == pytest.approx([0, ELO * np.log(3), ELO * np.log(3)], abs=1e-6)
    assert (table.win_rates[1][0].value, table.win_rates[1][0].n) == (0.75, 4)
    assert table.win_rates[2][0] == Undefined(Reason.NO_DATA)


def test_generations_without_a_comparison_between_them_are_said_to_be_apart():
    table = generation_table([0, 1], [1, 0], [0, 0], generations=3, prompts=[1, 2], raters=None)
    assert table.strengths == Undefined(Reason.NOT_CONNECTED, 2, ((0, 1), (2,)))
    assert table.win_rates[0][1].value == 0.5
