"""Train a reward model on rankings: ``python -m rewardmodel.train --run-dir D [--attempt N]``.

Reads ``spec.json`` and ``data/rankings.parquet`` of the run directory and publishes
``output/model`` (weights, tokenizer, ``reward.json``), ``output/predictions.parquet`` and
``result.json``.

Stopped or killed, it goes on from its last checkpoint and ends in the same weights, bit by bit on one
machine's CPU. The models of an ensemble are trained one after the other; those that are done wait in
``members/``.

Left out of the usual recipe: dropout in the adapters (one or two epochs over few rankings do not
overfit enough to pay for it).
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from rewardmodel import ensemble
from rewardmodel.chat import load_tokenizer
from rewardmodel.contract import RewardJob, read_spec
from rewardmodel.data import Ranking, Rankings, read_rankings
from rewardmodel.evaluate import score_rankings
from rewardmodel.hardware import resolve_device, resolve_dtype
from rewardmodel.loop import fit, objective_of
from rewardmodel.model import RewardModel, Settings, load_reward_model, new_reward_model
from rewardmodel.publish import BrokenFolder, publish, verify
from rewardmodel.results import measure
from rewardmodel.rundir import RunDir, run_job

MODEL_FOLDER = "output/model"
MEMBERS_FOLDER = "members"
TRAINING_FILE = "training.json"
SCALE_RANKINGS = 32
"""Training rankings, at most, on whose answers the scores' mean and scale are set."""


def sample_scores(model: RewardModel, rankings: Sequence[Ranking], job: RewardJob) -> torch.Tensor:
    """Raw scores of training answers, on which mean and scale are set: of many rankings a sample is enough."""
    generator = torch.Generator().manual_seed(job.seed)
    sample = torch.randperm(len(rankings), generator=generator)[:SCALE_RANKINGS].tolist()
    return torch.cat(score_rankings(model, [rankings[index] for index in sample], job.tokens_per_batch))


def train_member(
    run: RunDir, job: RewardJob, tokenizer: Any, rankings: Rankings, member: int
) -> tuple[RewardModel, dict[str, Any]]:
    """Train one model of an ensemble, or the only one.

    :returns: the model as it is published, and figures of its training.
    """
    device = resolve_device(job.device)
    seed = job.seed + member
    torch.manual_seed(seed)
    settings = Settings(
        base_model=job.base_model, loss=job.loss, max_tokens=job.max_tokens, variance_penalty=job.variance_penalty
    )
    model = new_reward_model(tokenizer, settings, dtype=resolve_dtype(job.dtype, device), device=device, seed=seed)
    if job.lora_rank:
        model.add_adapters(job.lora_rank, job.lora_alpha, job.lora_layers)
    if job.gradient_checkpointing:
        model.backbone.gradient_checkpointing_enable({"use_reentrant": False})
    training = fit(run, job, model, rankings, member)
    run.progress("evaluate", message="Scoring the dev and test rankings.")
    model.merge()
    training["score_scale"] = model.standardise(sample_scores(model, rankings.train, job))
    return model, training


def publish_member(folder: Path, model: RewardModel, figures: dict[str, Any]) -> None:
    """Keep a finished model of an ensemble, with the figures of its training, for when all are."""

    def fill(temporary: Path) -> None:
        model.save(temporary)
        (temporary / TRAINING_FILE).write_text(json.dumps(figures))

    publish(folder, fill)


def train_ensemble(
    run: RunDir, job: RewardJob, tokenizer: Any, rankings: Rankings
) -> tuple[RewardModel, list[dict[str, Any]]]:
    """Train the models of an ensemble one after the other; those that an earlier attempt finished are taken up.

    :returns: the ensemble, and figures of each member's training.
    """
    folders = [run.path / MEMBERS_FOLDER / f"member-{member}" for member in range(job.members)]
    for member, folder in enumerate(folders):
        try:
            verify(folder)
        except BrokenFolder:
            publish_member(folder, *train_member(run, job, tokenizer, rankings, member))
    device = resolve_device(job.device)
    dtype = resolve_dtype(job.dtype, device)
    joined = ensemble.join([load_reward_model(folder, dtype=dtype, device=device) for folder in folders])
    return joined, [json.loads((folder / TRAINING_FILE).read_text()) for folder in folders]


def train(run: RunDir) -> None:
    """Do the job of a run directory from its specification to ``result.json``."""
    started = time.monotonic()
    job = read_spec(run.path, {"train_reward": RewardJob})
    if job.threads:
        torch.set_num_threads(job.threads)
    resolve_device(job.device)
    run.progress("load", message="Reading the rankings and loading the base model.")
    tokenizer = load_tokenizer(job.base_model)
    rankings = read_rankings(run.path, tokenizer, job.max_tokens, objective_of(job))
    loaded = time.monotonic()
    if job.members == 1:
        model, training = train_member(run, job, tokenizer, rankings, 0)
        trainings = [training]
    else:
        model, trainings = train_ensemble(run, job, tokenizer, rankings)
    trained = time.monotonic()

    run.progress("evaluate", message="Scoring the dev and test rankings.")
    metrics = measure(model, rankings, job.tokens_per_batch, run.path)
    if metrics["dev"]:
        metrics["dev"]["loss"] = fmean(member["dev_loss"] for member in trainings)
    evaluated = time.monotonic()

    run.progress("save", message="Saving the reward model.")
    manifest = publish(run.path / MODEL_FOLDER, model.save)
    finished = time.monotonic()
    run.finish(
        {
            "kind": "train_reward",
            "model": MODEL_FOLDER,
            "manifest_sha256": manifest,
            "metrics": {
                **metrics,
                "training": trainings[0],
                "members": trainings,
                "score_mean": model.settings.mean,
                "score_scale": fmean(member["score_scale"] for member in trainings),
            },
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
    shutil.rmtree(run.path / MEMBERS_FOLDER, ignore_errors=True)
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
