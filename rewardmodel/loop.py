"""The training of one reward model: what a step learns and how dev is measured; :mod:`rewardmodel.fit` is the loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from rewardmodel.contract import RewardJob
from rewardmodel.data import Ranking, Rankings
from rewardmodel.evaluate import agreement, mean_loss, score_rankings
from rewardmodel.fit import Lesson, Metrics
from rewardmodel.fit import fit as fit_lesson
from rewardmodel.losses import Objective, pair_margins
from rewardmodel.model import RewardModel
from rewardmodel.rundir import RunDir
from rewardmodel.state import MasterWeights


def objective_of(job: RewardJob) -> Objective:
    """What a job asks to be minimised."""
    return Objective(job.loss, job.relative_weight, job.regression_weight, job.centring, job.tie_odds)


def train_step(
    model: RewardModel, rankings: Sequence[Ranking], mean_weight: float, job: RewardJob
) -> tuple[float, float]:
    """Add the gradients of one step's loss: the weighted mean over its rankings.

    What each ranking's loss is divided by is known before the first pass, so passes (and processes) add up.

    :param mean_weight: mean weight of all training rankings, so that weights only matter relative to each other.
    :returns: the loss without the centring penalty, and the share of pairs in the rater's order.
    """
    objective = objective_of(job)
    normaliser = mean_weight * len(rankings)
    loss_sum, right, pairs = 0.0, 0, 0
    for group in model.split([model.tokens_of(ranking.answers) for ranking in rankings], job.tokens_per_batch):
        chosen = [rankings[index] for index in group]
        answers = [answer for ranking in chosen for answer in ranking.answers]
        rows = model.pack(answers, job.tokens_per_batch)
        places = torch.tensor([place for row in rows for place in row.places])
        scores = model(rows).cpu()[places.argsort()]
        total = torch.zeros(())
        for own, ranking in zip(scores.split([len(r.answers) for r in chosen]), chosen, strict=True):
            loss = objective.loss(own, ranking.ranks, ranking.ratings, ranking.margin)
            share = ranking.weight / normaliser
            total = total + share * (loss + objective.penalty(own, ranking.ranks))
            loss_sum += share * loss.item()
            margins = pair_margins(own, ranking.ranks)
            right += int((margins > 0).sum())
            pairs += len(margins)
        total.backward()
    return loss_sum, right / max(1, pairs)


def fit(run: RunDir, job: RewardJob, model: RewardModel, rankings: Rankings, member: int) -> dict[str, Any]:
    """Train one model of an ensemble, or the only one; see :func:`rewardmodel.fit.fit`.

    :param member: number of the model in its ensemble.
    :returns: counts and figures of the training for the result.
    """
    train = rankings.train
    mean_weight = sum(ranking.weight for ranking in train) / len(train)

    def learn(chosen: list[int]) -> tuple[float, Metrics]:
        loss, accuracy = train_step(model, [train[index] for index in chosen], mean_weight, job)
        return loss, {"accuracy": accuracy}

    lesson = Lesson(
        what="rankings",
        names=[ranking.row_id for ranking in train],
        sizes=[ranking.tokens for ranking in train],
        per_step=job.rankings_per_step,
        learn=learn,
        evaluate=(lambda: evaluate_on_dev(model, rankings, job)) if rankings.dev else None,
    )
    model.train()
    weights = MasterWeights(model, job)
    return fit_lesson(run, job, weights, lesson, seed=job.seed + member, member=member, members=job.members)


def evaluate_on_dev(model: RewardModel, rankings: Rankings, job: RewardJob) -> tuple[float, Metrics]:
    """The mean loss over the dev rankings, and what is reported of them."""
    scores = score_rankings(model, rankings.dev, job.tokens_per_batch)
    loss = mean_loss(objective_of(job), rankings.dev, scores)
    return loss, {"dev_loss": loss, "dev_accuracy": agreement(rankings.dev, scores)["accuracy"]}
