"""PPO on a GPU with the engine transformers, in a process of its own.

python -m tests.bench.policy_gpu DEVICE UPDATES: prints, as JSON, samples and tokens of answers a second in the fastest
update after the first, what the device's largest matrix products in bfloat16 reach in the same process, and the share
of that which the models' own work is. The job is that of :mod:`tests.bench.policy_trainers` with all weights trained.
Left out: attention's products, which are small beside the weights' at this length.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from policy.contract import EngineConfig, ImproveJob
from rewardmodel.chat import load_tokenizer, prompt_ids
from rewardmodel.hardware import resolve_dtype
from rewardmodel.model import load_reward_model
from rewardmodel.rundir import open_run
from tests.bench.policy_trainers import MODEL, SAMPLES, job_of, prompts, write_reward_model

SIDE, PRODUCTS = 8192, 20
"""Rows and columns of the matrices whose products show what the device can do, and how many are timed."""


def model_flops(parameters: int, prompt_tokens: int, answer_tokens: int, samples: int, epochs: int) -> dict[str, float]:
    """Floating-point operations that an update's models need: 2 a parameter and token forward, 4 backward.

    Each token that is drawn, and each prompt's once, goes forward through the policy, and with its prompt through the
    reward model; policy and reference read what was drawn, prompts once for all their answers; each pass of training
    goes forward and backward.

    :param prompt_tokens: of all prompts of an update, each counted once.
    :param answer_tokens: of all answers of an update.
    :param samples: answers to each prompt.
    :returns: those of the passes of training, ``train``, and of the whole update, ``update``.
    """
    read = prompt_tokens + answer_tokens
    train = 6.0 * epochs * parameters * read
    scored = samples * prompt_tokens + answer_tokens
    return {"train": train, "update": train + 2.0 * parameters * (read + scored + 2 * read)}


def peak(device: torch.device, side: int) -> float:
    """Floating-point operations a second of large matrix products in bfloat16, the fastest of some."""
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _matrix in range(2))
    fastest = float("inf")
    for _product in range(PRODUCTS):
        _wait(device)
        began = time.perf_counter()
        torch.mm(left, right)
        _wait(device)
        fastest = min(fastest, time.perf_counter() - began)
    return 2 * side**3 / fastest


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ppo(device: torch.device, updates: int, folder: Path, reward_folder: str) -> dict[str, Any]:
    """A few updates, and what of them counts."""
    from policy.actor import actor_of
    from policy.engines.base import start_engine
    from policy.ppo import improve
    from policy.rollout import TokenPrompt

    engine_config = EngineConfig(name="transformers")
    job: ImproveJob = replace(job_of("full", reward_folder, updates), device=str(device), engine=engine_config)
    engine = start_engine(job.engine, MODEL, folder / "engine.log")
    reward_model = load_reward_model(Path(reward_folder), dtype=job.dtype, device=device)
    actor = actor_of(job, resolve_dtype(job.dtype, device), device)
    tokenizer = load_tokenizer(MODEL)
    questions = [TokenPrompt(prompt, prompt_ids(tokenizer, prompt.messages)) for prompt in prompts()]
    with open_run(folder, 1) as run:
        history = improve(run, job, actor, engine, reward_model.score, questions).history
    fastest = max(history[1:], key=lambda update: update["samples_per_second"])
    wall = fastest["samples"] / fastest["samples_per_second"]
    answer_tokens = round(fastest["length"] * fastest["samples"])
    prompt_tokens = sum(len(question.ids) for question in questions)
    parameters = sum(parameter.numel() for parameter in reward_model.backbone.parameters())
    flops = model_flops(parameters, prompt_tokens, answer_tokens, SAMPLES, job.epochs)
    best = peak(device, SIDE)
    return {
        "samples_per_second": fastest["samples_per_second"],
        "tokens_per_second": answer_tokens / wall,
        "peak_tflops": best / 1e12,
        "share_of_peak": flops["update"] / wall / best,
        "share_of_peak_in_training": flops["train"] / fastest["seconds_train"] / best,
        "stages": {name: value for name, value in fastest.items() if name.startswith("seconds_")},
    }


def main() -> None:
    """Measure on the device that the arguments name."""
    device, updates = torch.device(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="hone-bench-") as folder, tempfile.TemporaryDirectory() as reward_folder:
        write_reward_model(reward_folder)
        print(json.dumps(ppo(device, updates, Path(folder), reward_folder)))


if __name__ == "__main__":
    main()
