"""Accuracy, its interval and the length rule on rankings whose answers are known."""

import math

import numpy as np
import pytest
import torch
from statsmodels.stats.proportion import proportion_confint

from rewardmodel.chat import Answer
from rewardmodel.data import Ranking
from rewardmodel.evaluate import agreement, length_agreement, mean_loss
from rewardmodel.losses import Objective


def ranking(ranks, prompt_id="p", weight=1.0, characters=None):
    answers = tuple(Answer((1,), (2,)) for _ in ranks)
    ratings = torch.full((len(ranks),), math.nan)
    return Ranking("r", prompt_id, answers, torch.tensor(ranks), weight, tuple(characters or [1] * len(ranks)), ratings)


def test_ties_of_the_rater_are_skipped_and_ties_of_the_score_count_half():
    result = agreement([ranking([1, 1, 2])], [torch.tensor([0.5, 0.0, 0.0])])
    assert result == {"accuracy": 0.75, "accuracy_ci": None, "pairs": 2, "prompts": 1}


def test_without_a_preferred_pair_there_is_no_accuracy():
    result = agreement([ranking([1, 1])], [torch.tensor([0.5, 0.0])])
    assert result == {"accuracy": None, "accuracy_ci": None, "pairs": 0, "prompts": 0}


def test_the_longer_answer_wins_under_the_length_rule():
    rankings = [ranking([1, 2], "p", characters=[10, 5]), ranking([1, 2], "q", characters=[3, 9])]
    assert length_agreement(rankings)["accuracy"] == 0.5


def test_the_interval_counts_prompts_and_not_pairs():
    # 40 prompts, each either all right or all wrong: ten rankings of one prompt tell no more than one
    generator = np.random.default_rng(3)
    right = generator.random(40) < 0.7
    once, often, scores_once, scores_often = [], [], [], []
    for number, is_right in enumerate(right):
        score = torch.tensor([1.0, 0.0] if is_right else [0.0, 1.0])
        once.append(ranking([1, 2], f"p{number}"))
        scores_once.append(score)
        often += [ranking([1, 2], f"p{number}")] * 10
        scores_often += [score] * 10
    single, repeated = agreement(once, scores_once), agreement(often, scores_often)
    assert repeated["pairs"] == 400
    assert repeated["accuracy_ci"] == pytest.approx(single["accuracy_ci"])
    half_width = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 40)  # normal approximation over prompts
    low, high = single["accuracy_ci"]
    assert (high - low) / 2 == pytest.approx(half_width, rel=0.2)


def test_where_no_prompt_differs_the_interval_is_that_of_so_many_outcomes():
    rankings = [ranking([1, 2], str(number)) for number in range(40)]
    found = agreement(rankings, [torch.tensor([1.0, 0.0])] * 40)
    assert found["accuracy"] == 1
    assert found["accuracy_ci"] == pytest.approx(proportion_confint(40, 40, method="wilson"), abs=1e-12)


def test_the_95_percent_interval_covers_the_truth_about_95_percent_of_the_time():
    generator, covered = np.random.default_rng(0), 0
    for _ in range(200):
        chance = generator.beta(7, 3, size=60)  # prompts differ in difficulty; the mean is 0.7
        rankings = [ranking([1, 2, 3], f"p{n}") for n in range(60)]
        scores = [torch.tensor([3.0, 2.0, 1.0] if generator.random() < c else [1.0, 2.0, 3.0]) for c in chance]
        low, high = agreement(rankings, scores)["accuracy_ci"]
        covered += low <= 0.7 <= high
    assert 180 <= covered <= 198


def test_the_mean_loss_weighs_rows():
    rankings = [ranking([1, 2], weight=3.0), ranking([1, 2], weight=1.0)]
    scores = [torch.tensor([2.0, 0.0]), torch.tensor([0.0, 1.0])]  # hinge 0 and 2
    assert mean_loss(Objective("hinge"), rankings, scores) == pytest.approx(0.5)
