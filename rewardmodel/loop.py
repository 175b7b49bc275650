"""The training loop of one reward model: steps, evaluations on dev, checkpoints, and the end.

It reads from top to bottom: :func:`fit` calls :func:`train_step`, which adds up the gradients of one step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch

from rewardmodel.contract import JobError, RewardJob
from rewardmodel.data import Ranking, Rankings, training_steps
from rewardmodel.evaluate import agreement, mean_loss, score_rankings
from rewardmodel.losses import Objective, pair_margins
from rewardmodel.model import RewardModel
from rewardmodel.rundir import CheckpointClock, RunDir, Stopped
from rewardmodel.state import Best, MasterWeights, State, load_state, member_of, save_state


def learning_rate_at(step: int, steps: int, job: RewardJob) -> float:
    """Linear warm-up over the first steps, then half a cosine down to 0.

    :param step: number of the step, from 0.
    """
    warmup_steps = math.ceil(job.warmup * steps)
    if step < warmup_steps:
        return job.learning_rate * (step + 1) / warmup_steps
    return job.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def evaluation_steps(steps_per_epoch: int, epochs: int, per_epoch: int) -> set[int]:
    """Counts of finished steps after which the dev loss is taken, evenly spread and always at an epoch's end."""
    ends = {math.ceil(steps_per_epoch * part / per_epoch) for part in range(1, per_epoch + 1)}
    return {epoch * steps_per_epoch + end for epoch in range(epochs) for end in ends}


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
    """The training loop; leaves the model with the weights of the lowest dev loss, or the last without dev rankings.

    Goes on from the run's last checkpoint if it has one of this member.

    :param member: number of the model in its ensemble.
    :returns: counts and figures of the training for the result.
    :raises Stopped: when the supervisor asks for an end; a checkpoint is written first.
    :raises JobError: when the loss or its gradient is no longer a number.
    """
    train, seed = rankings.train, job.seed + member
    sizes = [ranking.tokens for ranking in train]
    mean_weight = sum(ranking.weight for ranking in train) / len(train)
    steps_per_epoch = math.ceil(len(train) / job.rankings_per_step)
    steps = job.epochs * steps_per_epoch
    evaluations = evaluation_steps(steps_per_epoch, job.epochs, job.evaluations_per_epoch) if rankings.dev else set()
    state = State(MasterWeights(model, job), member=member)
    checkpoint = run.latest_checkpoint()
    if checkpoint is not None and member_of(checkpoint) == member:
        load_state(checkpoint, state)
    first = state.step
    order: list[list[int]] = []
    clock = CheckpointClock(job.checkpoint_seconds)
    started = time.monotonic()

    def save() -> None:
        run.publish_checkpoint(member * steps + state.step, lambda folder: save_state(folder, state))

    model.train()
    while state.step < steps and state.best.evaluations_since < job.patience:
        if run.stop_requested:
            save()
            raise Stopped
        epoch, position = divmod(state.step, steps_per_epoch)
        if position == 0 or not order:
            order = list(training_steps(sizes, job.rankings_per_step, seed, epoch))
        chosen = [train[index] for index in order[position]]
        step_started = time.monotonic()
        torch.manual_seed(seed + state.step)  # of dropout, where the base model has some
        loss, accuracy = train_step(model, chosen, mean_weight, job)
        norm = state.weights.step(learning_rate_at(state.step, steps, job))
        state.step += 1
        if not (math.isfinite(loss) and math.isfinite(norm)):
            names = ", ".join(ranking.row_id for ranking in chosen)
            raise JobError(f"The loss stopped being a number at step {state.step}, on the rankings {names}.")
        state.seconds += time.monotonic() - step_started
        state.tokens += sum(ranking.tokens for ranking in chosen)
        metrics: dict[str, Any] = {
            "loss": loss,
            "accuracy": accuracy,
            "tokens_per_second": state.tokens / state.seconds,
        }
        if state.step in evaluations:
            metrics |= evaluate_on_dev(model, rankings, job, state)
        done, planned = member * steps + state.step, job.members * steps
        metrics["seconds_left"] = (time.monotonic() - started) / (state.step - first) * (planned - done)
        run.progress("train", done, planned, **metrics)
        if clock.due:
            clock.write(save)
    if state.best.weights:
        state.weights.load(state.best.weights)
    return {
        "seed": seed,
        "steps": state.step,
        "steps_planned": steps,
        "best_step": state.best.step if state.best.weights else state.step,
        "dev_loss": state.best.loss if state.best.weights else None,
        "tokens": state.tokens,
        "tokens_per_second": state.tokens / state.seconds,
    }


def evaluate_on_dev(model: RewardModel, rankings: Rankings, job: RewardJob, state: State) -> dict[str, Any]:
    """Take the dev loss, and remember the weights if it is the lowest so far.

    :returns: metrics of the step.
    """
    scores = score_rankings(model, rankings.dev, job.tokens_per_batch)
    loss = mean_loss(objective_of(job), rankings.dev, scores)
    state.best.evaluations_since += 1
    if loss < state.best.loss:
        state.best = Best(state.step, loss, state.weights.copy())
    return {"dev_loss": loss, "dev_accuracy": agreement(rankings.dev, scores)["accuracy"]}
