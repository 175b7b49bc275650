"""How often a reward model agrees with raters, with an interval that respects prompts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import NormalDist
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor

from rewardmodel.data import Ranking
from rewardmodel.losses import Objective, pair_margins
from rewardmodel.model import RewardModel

BOOTSTRAP_SAMPLES = 2000


class Agreement(TypedDict):
    """Share of preferred pairs that some score puts in the rater's order."""

    accuracy: float | None
    """None where no answer is preferred to another."""
    accuracy_ci: list[float] | None
    """95 % interval; None with a single prompt."""
    pairs: int
    prompts: int


def score_rankings(model: RewardModel, rankings: Sequence[Ranking], tokens_per_batch: int) -> list[Tensor]:
    """Raw scores of the answers of each ranking, [K] float32 on the CPU each."""
    answers = [answer for ranking in rankings for answer in ranking.answers]
    return list(model.raw_scores(answers, tokens_per_batch).split([len(ranking.answers) for ranking in rankings]))


def mean_loss(objective: Objective, rankings: Sequence[Ranking], scores: Sequence[Tensor]) -> float:
    """Weighted mean of the training loss over rankings, without the centring penalty."""
    losses = [
        objective.loss(own, ranking.ranks, ranking.ratings, ranking.margin).item()
        for own, ranking in zip(scores, rankings, strict=True)
    ]
    return float(np.average(losses, weights=[ranking.weight for ranking in rankings]))


def agreement(rankings: Sequence[Ranking], scores: Sequence[Tensor], seed: int = 0) -> Agreement:
    """Accuracy over preferred pairs, ties of the rater skipped and ties of the score counted half.

    The interval is a percentile bootstrap over prompts: pairs of one prompt are not independent
    (Cameron, Gelbach and Miller 2008, "Bootstrap-based improvements for inference with clustered errors"). Where all
    prompts are alike, drawing them anew says nothing, and it is Wilson's of as many outcomes as there are prompts.

    :param scores: [K] float for each ranking.
    :param seed: of the bootstrap.
    """
    correct: dict[str, float] = defaultdict(float)
    pairs: dict[str, int] = defaultdict(int)
    for ranking, own in zip(rankings, scores, strict=True):
        margins = pair_margins(own, ranking.ranks)
        if not len(margins):
            continue
        correct[ranking.prompt_id] += ((margins > 0).double() + 0.5 * (margins == 0)).sum().item()
        pairs[ranking.prompt_id] += len(margins)
    right, all_pairs = np.array(list(correct.values())), np.array(list(pairs.values()))
    interval = None
    if len(right) > 1 and np.ptp(right / all_pairs) == 0:
        interval = _wilson(float(right[0] / all_pairs[0]), len(right))
    elif len(right) > 1:
        generator = np.random.default_rng(seed)
        draws = generator.multinomial(len(right), np.full(len(right), 1 / len(right)), size=BOOTSTRAP_SAMPLES)
        interval = np.quantile((draws @ right) / (draws @ all_pairs), [0.025, 0.975]).tolist()
    return Agreement(
        accuracy=float(right.sum() / all_pairs.sum()) if len(right) else None,
        accuracy_ci=interval,
        pairs=int(all_pairs.sum()),
        prompts=len(right),
    )


def _wilson(share: float, n: int) -> list[float]:
    """The 95 % interval of a share of n outcomes: Wilson (1927), "Probable inference, the law of succession"."""
    z = NormalDist().inv_cdf(0.975)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At either end the formula gives exactly 0 or 1, but for rounding.
    return [0.0 if share <= 0 else centre - half, 1.0 if share >= 1 else centre + half]


def length_agreement(rankings: Sequence[Ranking], seed: int = 0) -> Agreement:
    """The same for the rule that the longer text wins: what a model that only counts would reach."""
    return agreement(rankings, [torch.tensor(ranking.characters, dtype=torch.float64) for ranking in rankings], seed)
