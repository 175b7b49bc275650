"""Train a reward model on rankings: ``python -m rewardmodel.train --run-dir D [--attempt N]``.

Reads ``spec.json`` and ``data/rankings.parquet`` of the run directory and publishes
``output/model`` (weights, tokenizer, ``reward.json``), ``output/test_scores.parquet`` and
``result.json``.

Stopped or killed, it goes on from its last checkpoint and ends in the same weights, bit by bit on one
machine's CPU.

Left out of the usual recipe: dropout in the adapters (one or two epochs over few rankings do not
overfit enough to pay for it), and gradient checkpointing (rows are short).
"""

from __future__ import annotations

import argparse
import math
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from rewardmodel.batching import pack, split_by_tokens
from rewardmodel.chat import load_tokenizer
from rewardmodel.contract import SCORES_FILE, JobError, RewardJob, read_spec
from rewardmodel.data import Ranking, Rankings, read_rankings, training_steps
from rewardmodel.evaluate import agreement, length_agreement, mean_loss, score_rankings
from rewardmodel.losses import Objective, pair_margins
from rewardmodel.model import RewardModel, Settings, new_reward_model, resolve_device, resolve_dtype
from rewardmodel.publish import publish, whole_file
from rewardmodel.rundir import CheckpointClock, RunDir, Stopped, run_job
from rewardmodel.state import Best, MasterWeights, State, load_state, save_state

MODEL_FOLDER = "output/model"
SCALE_RANKINGS = 32
"""Training rankings, at most, on whose answers the scores' mean and scale are set."""


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

    :param mean_weight: mean weight of all training rankings, so that weights only matter relative to each other.
    :returns: the loss without the centring penalty, and the share of pairs in the rater's order.
    """
    criterion = objective_of(job)
    loss_sum, right, pairs = 0.0, 0, 0
    for group in split_by_tokens([ranking.tokens for ranking in rankings], job.tokens_per_batch):
        chosen = [rankings[index] for index in group]
        answers = [answer for ranking in chosen for answer in ranking.answers]
        rows = pack(answers, model.settings.shares_prompts, job.tokens_per_batch)
        places = torch.tensor([place for row in rows for place in row.places])
        scores = model(rows).cpu()[places.argsort()]
        objective = torch.zeros(())
        for own, ranking in zip(scores.split([len(r.answers) for r in chosen]), chosen, strict=True):
            loss = criterion.loss(own, ranking.ranks, ranking.ratings, ranking.margin)
            share = ranking.weight / (mean_weight * len(rankings))
            objective = objective + share * (loss + criterion.penalty(own, ranking.ranks))
            loss_sum += share * loss.item()
            margins = pair_margins(own, ranking.ranks)
            right += int((margins > 0).sum())
            pairs += len(margins)
        objective.backward()
    return loss_sum, right / max(1, pairs)


def fit(run: RunDir, job: RewardJob, model: RewardModel, rankings: Rankings) -> dict[str, Any]:
    """The training loop; leaves the model with the weights of the lowest dev loss, or the last without dev rankings.

    Goes on from the run's last checkpoint if it has one.

    :returns: counts and figures of the training for the result.
    :raises Stopped: when the supervisor asks for an end; a checkpoint is written first.
    :raises JobError: when the loss or its gradient is no longer a number.
    """
    train = rankings.train
    sizes = [ranking.tokens for ranking in train]
    mean_weight = sum(ranking.weight for ranking in train) / len(train)
    steps_per_epoch = math.ceil(len(train) / job.rankings_per_step)
    steps = job.epochs * steps_per_epoch
    evaluations = evaluation_steps(steps_per_epoch, job.epochs, job.evaluations_per_epoch) if rankings.dev else set()
    state = State(MasterWeights(model, job))
    checkpoint = run.latest_checkpoint()
    if checkpoint is not None:
        load_state(checkpoint, state)
    first = state.step
    order: list[list[int]] = []
    clock = CheckpointClock(job.checkpoint_seconds)
    started = time.monotonic()

    def save() -> None:
        run.publish_checkpoint(state.step, lambda folder: save_state(folder, state))

    model.train()
    while state.step < steps and state.best.evaluations_since < job.patience:
        if run.stop_requested:
            save()
            raise Stopped
        epoch, position = divmod(state.step, steps_per_epoch)
        if position == 0 or not order:
            order = list(training_steps(sizes, job.rankings_per_step, job.seed, epoch))
        chosen = [train[index] for index in order[position]]
        step_started = time.monotonic()
        torch.manual_seed(job.seed + state.step)  # of dropout, where the base model has some
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
        metrics["seconds_left"] = (time.monotonic() - started) / (state.step - first) * (steps - state.step)
        run.progress("train", state.step, steps, **metrics)
        if clock.due:
            clock.write(save)
    if state.best.weights:
        state.weights.load(state.best.weights)
    return {
        "steps": state.step,
        "steps_planned": steps,
        "best_step": state.best.step if state.best.weights else state.step,
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


def standardise(model: RewardModel, rankings: Sequence[Ranking], job: RewardJob) -> None:
    """Set mean and scale so that scores of training answers have mean 0 and standard deviation 1.

    Of many rankings a sample drawn with the job's seed is enough.
    """
    generator = torch.Generator().manual_seed(job.seed)
    sample = torch.randperm(len(rankings), generator=generator)[:SCALE_RANKINGS].tolist()
    scores = torch.cat(score_rankings(model, [rankings[index] for index in sample], job.tokens_per_batch)).double()
    deviation = scores.std(correction=0).item()
    model.settings.mean = scores.mean().item()
    model.settings.scale = 1 / deviation if deviation > 0 else 1.0


def measure(model: RewardModel, rankings: Rankings, job: RewardJob, run: RunDir) -> dict[str, Any]:
    """Metrics on dev and test of the model as it is saved; writes the test scores.

    A split without rankings has the metrics None. Dev has chosen the weights, so its figures flatter.
    """
    metrics: dict[str, Any] = {"dev": None, "test": None}
    if rankings.dev:
        scores = score_rankings(model, rankings.dev, job.tokens_per_batch)
        metrics["dev"] = {"loss": mean_loss(objective_of(job), rankings.dev, scores), **agreement(rankings.dev, scores)}
    scores = score_rankings(model, rankings.test, job.tokens_per_batch) if rankings.test else []
    if rankings.test:
        length_only = length_agreement(rankings.test)
        metrics["test"] = {
            **agreement(rankings.test, scores),
            "length_only_accuracy": length_only["accuracy"],
            "length_only_accuracy_ci": length_only["accuracy_ci"],
        }
    write_scores(
        run.path / SCORES_FILE, rankings.test, [(own - model.settings.mean) * model.settings.scale for own in scores]
    )
    return metrics


def write_scores(path: Path, rankings: Sequence[Ranking], scores: Sequence[Tensor]) -> None:
    """Write scaled scores with the columns of :data:`rewardmodel.contract.SCORE_COLUMNS`."""
    schema = pa.schema([("row_id", pa.string()), ("index", pa.int32()), ("score", pa.float64())])
    rows = [
        {"row_id": ranking.row_id, "index": index, "score": score}
        for ranking, own in zip(rankings, scores, strict=True)
        for index, score in enumerate(own.tolist())
    ]
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary)


def train(run: RunDir) -> None:
    """Do the job of a run directory from its specification to ``result.json``."""
    started = time.monotonic()
    job = read_spec(run.path, {"train_reward": RewardJob})
    if job.threads:
        torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    device = resolve_device(job.device)
    run.progress("load", message="Reading the rankings and loading the base model.")
    tokenizer = load_tokenizer(job.base_model)
    rankings = read_rankings(run.path, tokenizer, job.max_tokens, objective_of(job))
    settings = Settings(base_model=job.base_model, loss=job.loss, max_tokens=job.max_tokens)
    model = new_reward_model(tokenizer, settings, dtype=resolve_dtype(job.dtype, device), device=device, seed=job.seed)
    if job.lora_rank:
        model.add_adapters(job.lora_rank, job.lora_alpha, job.lora_layers)
    loaded = time.monotonic()

    training = fit(run, job, model, rankings)
    trained = time.monotonic()

    run.progress("evaluate", message="Scoring the dev and test rankings.")
    model.merge()
    standardise(model, rankings.train, job)
    metrics = measure(model, rankings, job, run)
    evaluated = time.monotonic()

    run.progress("save", message="Saving the reward model.")
    manifest = publish(run.path / MODEL_FOLDER, model.save)
    finished = time.monotonic()
    run.finish(
        {
            "kind": "train_reward",
            "model": MODEL_FOLDER,
            "manifest_sha256": manifest,
            "metrics": {**metrics, "training": training, "score_mean": settings.mean, "score_scale": settings.scale},
            "seconds": {
                "load": loaded - started,
                "train": trained - loaded,
                "evaluate": evaluated - trained,
                "save": finished - evaluated,
                "total": finished - started,
            },
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "transformers", "peft")},
            },
            "counts": {
                **{f"{split}_rankings": len(getattr(rankings, split)) for split in ("train", "dev", "test")},
                **rankings.counts,
            },
        }
    )
    run.progress("done", message="The reward model is ready.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m rewardmodel.train", description="Train a reward model on rankings."
    )
    parser.add_argument("--run-dir", type=Path, required=True, help="holds spec.json and data/rankings.parquet")
    parser.add_argument("--attempt", type=int, help="number of this attempt; the next free one by default")
    options = parser.parse_args(arguments)
    return run_job(train, options.run_dir, options.attempt)


if __name__ == "__main__":
    sys.exit(main())
