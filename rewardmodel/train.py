"""Train a reward model on rankings: ``python -m rewardmodel.train --run-dir D [--attempt N]``.

Reads ``spec.json`` and ``data/rankings.parquet`` of the run directory and publishes
``output/model`` (weights, tokenizer, ``reward.json``), ``output/test_scores.parquet`` and
``result.json``.

Left out of the usual recipe: dropout in the adapters (one or two epochs over few rankings do not
overfit enough to pay for it), and gradient checkpointing (rows are short).
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from rewardmodel.batching import pack, split_by_tokens
from rewardmodel.chat import load_tokenizer
from rewardmodel.contract import SCORES_FILE, JobError, RewardJob, read_spec
from rewardmodel.data import Ranking, Rankings, read_rankings, training_steps
from rewardmodel.evaluate import agreement, length_agreement, mean_loss, score_rankings
from rewardmodel.losses import centring_penalty, pair_margins, ranking_loss
from rewardmodel.model import RewardModel, Settings, new_reward_model, resolve_device, resolve_dtype
from rewardmodel.rundir import RunDir, Stopped, publish, run_job

MODEL_FOLDER = "output/model"
SCALE_RANKINGS = 32
"""Training rankings, at most, on whose answers the scores' mean and scale are set."""


class MasterWeights:
    """Float32 copies of the trained parameters, so that small steps are not rounded away in bfloat16.

    Source: Micikevicius et al. 2018, "Mixed precision training", section 3.1.
    """

    def __init__(self, model: nn.Module, job: RewardJob) -> None:
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.masters = [parameter.detach().float().clone() for parameter in self.parameters]
        self.optimizer = torch.optim.AdamW(self.masters, lr=job.learning_rate, weight_decay=job.weight_decay)
        self.max_grad_norm = job.max_grad_norm

    def step(self, learning_rate: float) -> float:
        """Apply and clear the gradients.

        :returns: their 2-norm before clipping.
        """
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None
        norm = nn.utils.clip_grad_norm_(self.masters, self.max_grad_norm).item()
        if math.isfinite(norm):
            self.optimizer.param_groups[0]["lr"] = learning_rate
            self.optimizer.step()
            self.load(self.masters)
        return norm

    @torch.no_grad()
    def load(self, values: Sequence[Tensor]) -> None:
        """Set the model's parameters."""
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def copy(self) -> list[Tensor]:
        """The parameters as they are, to be given to :meth:`load` later."""
        return [master.detach().clone() for master in self.masters]


@dataclass
class Best:
    """The evaluation with the lowest dev loss so far."""

    step: int = 0
    loss: float = math.inf
    weights: list[Tensor] = field(default_factory=list)
    evaluations_since: int = 0


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


def train_step(
    model: RewardModel, rankings: Sequence[Ranking], mean_weight: float, job: RewardJob
) -> tuple[float, float]:
    """Add the gradients of one step's loss: the weighted mean over its rankings.

    :param mean_weight: mean weight of all training rankings, so that weights only matter relative to each other.
    :returns: the loss without the centring penalty, and the share of pairs in the rater's order.
    """
    loss_sum, right, pairs = 0.0, 0, 0
    for group in split_by_tokens([ranking.tokens for ranking in rankings], job.tokens_per_batch):
        chosen = [rankings[index] for index in group]
        answers = [answer for ranking in chosen for answer in ranking.answers]
        rows = pack(answers, model.settings.shares_prompts, job.tokens_per_batch)
        places = torch.tensor([place for row in rows for place in row.places])
        scores = model(rows).cpu()[places.argsort()]
        objective = torch.zeros(())
        for own, ranking in zip(scores.split([len(r.answers) for r in chosen]), chosen, strict=True):
            loss = ranking_loss(job.loss, own, ranking.ranks)
            share = ranking.weight / (mean_weight * len(rankings))
            objective = objective + share * (loss + job.centring * centring_penalty(own, ranking.ranks))
            loss_sum += share * loss.item()
            margins = pair_margins(own, ranking.ranks)
            right += int((margins > 0).sum())
            pairs += len(margins)
        objective.backward()
    return loss_sum, right / pairs


def fit(run: RunDir, job: RewardJob, model: RewardModel, rankings: Rankings) -> dict[str, Any]:
    """The training loop; leaves the model with the weights of the lowest dev loss, or the last without dev rankings.

    :returns: counts and figures of the training for the result.
    :raises Stopped: when the supervisor asks for an end.
    :raises JobError: when the loss or its gradient is no longer a number.
    """
    train = rankings.train
    sizes = [ranking.tokens for ranking in train]
    mean_weight = sum(ranking.weight for ranking in train) / len(train)
    steps_per_epoch = math.ceil(len(train) / job.rankings_per_step)
    steps = job.epochs * steps_per_epoch
    evaluations = evaluation_steps(steps_per_epoch, job.epochs, job.evaluations_per_epoch) if rankings.dev else set()
    weights = MasterWeights(model, job)
    best = Best()
    started, step_seconds, tokens = time.monotonic(), 0.0, 0

    model.train()
    for step in range(steps):
        if run.stop_requested:
            raise Stopped
        epoch, position = divmod(step, steps_per_epoch)
        if position == 0:
            order = list(training_steps(sizes, job.rankings_per_step, job.seed, epoch))
        chosen = [train[index] for index in order[position]]
        step_started = time.monotonic()
        loss, accuracy = train_step(model, chosen, mean_weight, job)
        norm = weights.step(learning_rate_at(step, steps, job))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            names = ", ".join(ranking.row_id for ranking in chosen)
            raise JobError(f"The loss stopped being a number at step {step + 1}, on the rankings {names}.")
        step_seconds += time.monotonic() - step_started
        tokens += sum(sizes[index] for index in order[position])
        metrics: dict[str, Any] = {"loss": loss, "accuracy": accuracy, "tokens_per_second": tokens / step_seconds}
        if step + 1 in evaluations:
            scores = score_rankings(model, rankings.dev, job.tokens_per_batch)
            metrics["dev_loss"] = mean_loss(job.loss, rankings.dev, scores)
            metrics["dev_accuracy"] = agreement(rankings.dev, scores)["accuracy"]
            best.evaluations_since += 1
            if metrics["dev_loss"] < best.loss:
                best = Best(step + 1, metrics["dev_loss"], weights.copy())
        metrics["seconds_left"] = (time.monotonic() - started) / (step + 1) * (steps - step - 1)
        run.progress("train", step + 1, steps, **metrics)
        if best.evaluations_since >= job.patience:
            break
    if best.weights:
        weights.load(best.weights)
    return {
        "steps": step + 1,
        "steps_planned": steps,
        "best_step": best.step if best.weights else step + 1,
        "tokens": tokens,
        "tokens_per_second": tokens / step_seconds,
    }


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
        metrics["dev"] = {"loss": mean_loss(job.loss, rankings.dev, scores), **agreement(rankings.dev, scores)}
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
    temporary = path.with_suffix(".tmp")
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary)
    os.replace(temporary, path)


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
    rankings = read_rankings(run.path, tokenizer, job.max_tokens)
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
