"""One trainer on some of the comparisons, in a process of its own, so that its peak of memory is its own.

python -m tests.bench.reward_trainers NAME RUN: prints pairs a second and the peak in MB as JSON. The comparisons of run
R are every eighth of the 256 in order of length, from the R-th on, so that each run has all lengths.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from rewardmodel.chat import load_tokenizer, prompt_ids, response_ids
from rewardmodel.contract import RewardJob
from rewardmodel.data import Ranking, read_rankings
from rewardmodel.fit import training_steps
from rewardmodel.hardware import resolve_dtype
from rewardmodel.loop import train_step
from rewardmodel.memory import keep_freed_memory
from rewardmodel.model import RewardModel, Settings, new_reward_model
from rewardmodel.state import MasterWeights
from tests.bench.reward_data import LONGEST, row_of, short_comparisons
from tests.rewardmodel.rankings import write_rankings
from tools.model import MODEL

COMPARISONS = 256
EVERY = 8
PER_STEP = 8
TRAINERS = ("ours", "lora", "trl", "trl-tuned")
LEARNING_RATE = 1e-5
EQUAL_STEPS, EQUAL_PER_STEP = 20, 2


def of_run(tokenizer: Any, run: int) -> list[dict[str, Any]]:
    """The comparisons of a run, shortest first; the longest eight come first once more, to warm up."""
    rows = sorted(short_comparisons(tokenizer, COMPARISONS), key=lambda row: _tokens(tokenizer, row))[run::EVERY]
    return rows[-PER_STEP:] + rows


def _tokens(tokenizer: Any, row: dict[str, Any]) -> int:
    answers = sum(len(response_ids(tokenizer, row[side])) for side in ("chosen", "rejected"))
    return len(prompt_ids(tokenizer, row["messages"])) + answers


def rankings_of(rows: list[dict[str, Any]], tokenizer: Any) -> list[Ranking]:
    """Comparisons as the training reads them."""
    with tempfile.TemporaryDirectory() as folder:
        write_rankings(Path(folder), [row_of(number, row) for number, row in enumerate(rows)])
        return read_rankings(Path(folder), tokenizer, LONGEST).train


def fresh(dtype: torch.dtype) -> RewardModel:
    """A reward model that has learned nothing."""
    settings = Settings(base_model=str(MODEL), loss="logistic", max_tokens=LONGEST)
    return new_reward_model(load_tokenizer(MODEL), settings, dtype=dtype, device=torch.device("cpu"), seed=0)


def ours(run: int, lora: bool) -> float:
    """Pairs a second of this project's training."""
    keep_freed_memory()
    tokenizer = load_tokenizer(MODEL)
    rankings = rankings_of(of_run(tokenizer, run), tokenizer)
    job = RewardJob(base_model=str(MODEL), loss="logistic", rankings_per_step=PER_STEP, centring=0.0)
    model = fresh(resolve_dtype("auto", torch.device("cpu")))
    if lora:
        model.add_adapters(job.lora_rank, job.lora_alpha, job.lora_layers)
    weights = MasterWeights(model, job)
    model.train()
    warm, timed = rankings[:PER_STEP], rankings[PER_STEP:]
    steps = [[timed[index] for index in step] for step in training_steps([r.tokens for r in timed], PER_STEP, run, 0)]
    for number, step in enumerate([warm, *steps]):
        if number == 1:
            began = time.monotonic()
        train_step(model, step, 1.0, job)
        weights.step(LEARNING_RATE)
    return len(timed) / (time.monotonic() - began)


def trl(run: int, tuned: bool) -> float:
    """Pairs a second of TRL's RewardTrainer; tuned: without gradient checkpointing, sorted by length."""
    tokenizer = load_tokenizer(MODEL)
    rows = of_run(tokenizer, run)
    if not tuned:
        order = torch.randperm(len(rows) - PER_STEP, generator=torch.Generator().manual_seed(run)).tolist()
        rows = rows[:PER_STEP] + [rows[PER_STEP + index] for index in order]
    clock = _Clock()
    settings = {"gradient_checkpointing": False} if tuned else {}
    trainer = _trl_trainer(str(MODEL), rows, PER_STEP, **settings)
    trainer.add_callback(clock)
    trainer.train()
    return (len(rows) - PER_STEP) / (clock.ended - clock.began)


class _Clock:
    """When the second step began and the last ended, and the losses: a callback for TRL, whose import it waits for."""

    def __new__(cls) -> Any:
        from transformers import TrainerCallback

        class Clock(TrainerCallback):
            began = ended = 0.0

            def __init__(self) -> None:
                self.losses: list[float] = []

            def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
                if state.global_step == 1:
                    self.began = time.monotonic()

            def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
                self.ended = time.monotonic()

            def on_log(self, args: Any, state: Any, control: Any, **others: Any) -> None:
                if "loss" in others["logs"]:
                    self.losses.append(float(others["logs"]["loss"]))

        return Clock()


def _trl_trainer(model: str, rows: list[dict[str, Any]], per_step: int, **settings: Any) -> Any:
    """TRL's trainer on tokens that are those of ours, in the order given."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = [
        {
            f"{side}_ids": prompt_ids(tokenizer, row["messages"]) + response_ids(tokenizer, row[side])
            for side in ("chosen", "rejected")
        }
        for row in rows
    ]
    config = RewardConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=per_step, num_train_epochs=1,
        learning_rate=LEARNING_RATE, train_sampling_strategy="sequential", save_strategy="no", report_to=[],
        use_cpu=True, disable_tqdm=True, **settings,
    )  # fmt: skip
    return RewardTrainer(model=model, args=config, train_dataset=Dataset.from_list(ids), processing_class=tokenizer)


def largest_difference() -> float:
    """Largest difference between the losses of ours and TRL's in float32 on the same batches of short comparisons."""
    tokenizer = load_tokenizer(MODEL)
    rows = short_comparisons(tokenizer, COMPARISONS)
    rows = sorted(rows, key=lambda row: _tokens(tokenizer, row))[: EQUAL_STEPS * EQUAL_PER_STEP]
    model = fresh(torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder))
        clock = _Clock()
        trainer = _trl_trainer(
            folder, rows, EQUAL_PER_STEP, bf16=False, gradient_checkpointing=False, logging_steps=1,
            lr_scheduler_type="constant",
        )  # fmt: skip
        trainer.add_callback(clock)
        trainer.train()
    job = RewardJob(base_model=str(MODEL), loss="logistic", centring=0.0)
    rankings = rankings_of(rows, tokenizer)
    weights = MasterWeights(model, job)
    model.train()
    losses = []
    for start in range(0, len(rankings), EQUAL_PER_STEP):
        losses.append(train_step(model, rankings[start : start + EQUAL_PER_STEP], 1.0, job)[0])
        weights.step(LEARNING_RATE)
    if len(losses) != len(clock.losses):
        return math.inf
    return max(abs(one - other) for one, other in zip(losses, clock.losses, strict=True))


def main() -> None:
    """Measure what the arguments name."""
    name, run = sys.argv[1], int(sys.argv[2])
    if name == "equal":
        figures = {"difference": largest_difference()}
    else:
        speed = trl(run, name == "trl-tuned") if name.startswith("trl") else ours(run, name == "lora")
        figures = {"pairs_per_second": speed, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
