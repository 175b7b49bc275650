"""Figures of a reward model: order, calibration, good against bad, length; by hand and against statsmodels, sklearn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import f1_score, precision_score, recall_score
from statsmodels.stats.proportion import proportion_confint

from annotate.stats.estimate import Estimate, Reason, Undefined
from annotate.stats.intervals import clustered_mean, clustered_share
from annotate.stats.reward_models import (
    Classification,
    Reliability,
    best_threshold,
    classification,
    reliability,
    right,
    right_by_disagreement,
    score_by_length,
)
from rewardmodel.calibration import expected_calibration_error


def test_a_pair_with_equal_scores_is_half_right() -> None:
    assert right([1.5, 0.0, -0.25]).tolist() == [1.0, 0.5, 0.0]


def test_the_mean_of_clusters_of_one_is_student_s() -> None:
    found = clustered_mean([1.0, 2.0, 4.0], ["a", "b", "c"])
    assert isinstance(found, Estimate)
    # Mean 7/3, deviation √(7/3), quantile 4.302653 of two degrees of freedom.
    half = 4.302653 * math.sqrt(7 / 3 / 3)
    assert (found.value, found.low, found.high) == pytest.approx((7 / 3, 7 / 3 - half, 7 / 3 + half))


def test_values_that_repeat_within_their_clusters_tell_no_more_than_one_of_each() -> None:
    once = clustered_mean([1.0, 2.0, 4.0], [0, 1, 2])
    often = clustered_mean(np.repeat([1.0, 2.0, 4.0], 50), np.repeat([0, 1, 2], 50))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))
    assert often.n == 150


def test_many_single_outcomes_have_wilson_s_interval() -> None:
    outcomes = np.tile([1, 1, 1, 0], 5000)
    found = clustered_share(outcomes, np.arange(len(outcomes)))
    low, high = proportion_confint(15_000, 20_000, method="wilson")
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-5)


def test_a_share_of_few_prompts_that_are_all_right_is_not_certain() -> None:
    found = clustered_share(np.ones(30), np.repeat([0, 1, 2], 10))
    assert isinstance(found, Estimate)
    assert found.value == found.high == 1.0
    # Three outcomes, each worth (1.959964 / 4.302653)² of an independent one: Wilson's lower end is n / (n + z²).
    worth = 3 * (1.959964 / 4.302653) ** 2
    assert found.low == pytest.approx(worth / (worth + 1.959964**2), rel=1e-5)


@pytest.mark.parametrize("interval", [clustered_mean, clustered_share])
def test_one_prompt_has_no_interval_and_none_has_no_mean(interval: type) -> None:
    assert interval([1.0, 0.0], ["a", "a"]) == Estimate(0.5, None, None, 2)
    assert interval([], []) == Undefined(Reason.NO_DATA)


@pytest.mark.parametrize("share", [0.6, 0.9])
def test_the_interval_of_clustered_outcomes_covers_the_truth_as_often_as_it_says(share: float) -> None:
    generator = np.random.default_rng(1)
    prompts = np.repeat(np.arange(40), 6)
    covered = 0
    for _draw in range(600):
        # Half of the outcomes of a prompt are all the same.
        common = np.repeat(generator.random(40), 6)
        own = generator.random(240)
        found = clustered_share(np.where(generator.random(240) < 0.5, common, own) < share, prompts)
        assert isinstance(found, Estimate)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= share <= found.high
    assert 0.93 <= covered / 600 <= 0.985


def test_the_calibration_error_is_the_training_s_own() -> None:
    margins = np.random.default_rng(2).normal(1, 2, 500)
    for temperature in (1.0, 2.5):
        found = reliability(margins, np.arange(500), temperature=temperature)
        assert isinstance(found, Reliability)
        assert found.error == pytest.approx(expected_calibration_error(margins, temperature))
        assert sum(share.n for share in found.share_right) == 500


def test_a_model_whose_confidence_is_right_stays_below_what_chance_makes_in_95_of_100_cases() -> None:
    generator = np.random.default_rng(3)
    below = 0
    for draw in range(200):
        size = np.abs(generator.normal(0, 2, 300))
        margins = np.where(generator.random(300) < expit(size), size, -size)
        found = reliability(margins, np.arange(300), seed=draw)
        assert isinstance(found, Reliability)
        below += found.error <= found.by_chance
    assert 0.9 <= below / 200 <= 0.99


@pytest.mark.parametrize("concentration", [0.0, 1.0, 4.0])
def test_raters_who_agree_do_not_make_a_model_that_is_right_look_wrong(concentration: float) -> None:
    # A pair's raters are right with a chance of its own, Beta about what is stated: they agree in 100, 80 and 67 %.
    generator = np.random.default_rng(6)
    above = 0
    for draw in range(60):
        size = np.abs(generator.normal(0, 1, 100))
        stated = expit(size)
        chance = (
            generator.beta(stated * concentration, (1 - stated) * concentration)
            if concentration
            else (generator.random(100) < stated).astype(float)
        )
        outcomes = generator.random((100, 3)) < chance[:, None]
        margins, pairs = np.where(outcomes, size[:, None], -size[:, None]).ravel(), np.repeat(np.arange(100), 3)
        found = reliability(margins, pairs, pairs=pairs, seed=draw)
        assert isinstance(found, Reliability)
        above += found.error > found.by_chance
    # 3 of 60 at 5 %, and three standard deviations of 1.7; many more where raters of a pair are taken as independent.
    assert above <= 8


def test_raters_who_contradict_each_other_count_as_independent() -> None:
    size = np.linspace(0.1, 2, 50)
    margins, pairs = np.column_stack([size, -size]).ravel(), np.repeat(np.arange(50), 2)
    apart, together = (reliability(margins, pairs, pairs=of) for of in (None, pairs))
    assert isinstance(apart, Reliability)
    assert isinstance(together, Reliability)
    assert together.by_chance == pytest.approx(apart.by_chance, rel=0.1)


def test_a_model_that_is_far_too_sure_is_above_what_chance_makes() -> None:
    margins = np.tile([8.0, 8.0, -8.0], 60)
    found = reliability(margins, np.arange(180))
    assert isinstance(found, Reliability)
    assert found.error == pytest.approx(expit(8.0) - 2 / 3)
    assert found.by_chance < 0.05


def test_the_best_threshold_has_the_greatest_f1_that_sklearn_finds() -> None:
    generator = np.random.default_rng(4)
    scores = generator.normal(0, 1, 80).round(1)
    good = generator.random(80) < expit(2 * scores)
    found = best_threshold(scores, good)
    assert isinstance(found, float)
    by_hand = max(f1_score(good, scores >= threshold) for threshold in np.unique(scores))
    assert f1_score(good, scores >= found) == pytest.approx(by_hand)


def test_no_threshold_tells_apart_what_is_all_alike() -> None:
    assert best_threshold([1.0, 2.0], [True, True]) == Undefined(Reason.NO_VARIATION, 2)
    assert best_threshold([], []) == Undefined(Reason.NO_DATA)


def test_precision_recall_and_f1_are_sklearn_s_with_intervals_around_them() -> None:
    generator = np.random.default_rng(5)
    scores = generator.normal(0, 1, 200)
    good = generator.random(200) < expit(scores)
    found = classification(scores, good, np.repeat(np.arange(50), 4), threshold=0.2)
    assert isinstance(found, Classification)
    called = scores >= 0.2
    assert found.precision.value == pytest.approx(precision_score(good, called))
    assert found.recall.value == pytest.approx(recall_score(good, called))
    assert found.f1.value == pytest.approx(f1_score(good, called))
    assert (found.precision.n, found.recall.n, found.base.n) == (called.sum(), good.sum(), 200)
    assert found.f1.low is not None
    assert found.f1.high is not None
    assert 0 <= found.f1.low < found.f1.value < found.f1.high <= 1


def test_a_threshold_that_is_always_right_is_not_certain_to_be() -> None:
    found = classification([1.0, 0.0, 1.0, 0.0], [True, False, True, False], ["a", "a", "b", "b"], threshold=0.5)
    assert isinstance(found, Classification)
    assert found.f1 == Estimate(1.0, None, None, 4)
    assert found.precision.low is not None
    assert found.precision.low < 0.5


def test_scores_are_averaged_over_answers_of_like_length() -> None:
    found = score_by_length([0.0, 1.0, 2.0, 3.0, 9.0], [10, 10, 10, 500, 600], list("abcde"), groups=2)
    assert [(group.middle, group.figure.value, group.figure.n) for group in found] == [(10, 1.0, 3), (550, 6.0, 2)]
    assert score_by_length([], [], []) == []


def test_pairs_on_which_an_ensemble_disagrees_are_counted_apart() -> None:
    margins = [[1.0, 1.0], [-2.0, -2.0], [3.0, 1.0], [4.0, -6.0]]
    found = right_by_disagreement(margins, list("abcd"), groups=3)
    # Deviations 0, 0, 1 and 5 with means 1, −2, 2 and −1.
    assert [(group.middle, group.figure.value, group.figure.n) for group in found] == [
        (0, 0.5, 2),
        (1, 1, 1),
        (5, 0, 1),
    ]


@pytest.mark.parametrize("margins", [[], [[1.0], [-1.0]]])
def test_nothing_disagrees_in_a_single_model_or_without_pairs(margins: list[list[float]]) -> None:
    assert right_by_disagreement(margins, ["a"] * len(margins)) == []
