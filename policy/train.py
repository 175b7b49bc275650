"""Improve a policy with PPO against a reward model: the job ``improve``.

    python -m policy.train --run-dir D [--attempt N]

Checks the job before anything heavy is loaded, starts the engine, and while that loads reads the
policy and the reward model; :mod:`policy.ppo` does the rest. Ends by publishing ``output/model``, a
plain model folder in the parent's precision.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from policy.checks import check_same_text, tokenized
from policy.commandline import run_from_command_line
from policy.contract import ImproveJob
from policy.data import read_prompts
from policy.engines.base import check_for_ppo, start_engine
from rewardmodel.chat import load_tokenizer
from rewardmodel.contract import JobError, read_spec
from rewardmodel.rundir import RunDir, step_of


def main(run: RunDir) -> None:
    """Run the job that a run directory describes."""
    job: ImproveJob = read_spec(run.path, {"improve": ImproveJob})
    if run.settle_requested:
        settle(run, job)
        return
    try:
        train(run, job)
    except JobError as problem:
        kept = run.latest_checkpoint()
        if kept is None:
            raise
        raise JobError(
            f"{problem}\nThe policy after update {step_of(kept)} is kept: the run can be resumed from there."
        ) from None


def train(run: RunDir, job: ImproveJob) -> None:
    """Improve the policy, from the last checkpoint on if there is one."""
    prompts, shown = check(run, job)

    import torch
    from transformers.utils import logging

    from policy.actor import actor_of
    from policy.outcome import finish
    from policy.ppo import improve
    from policy.rollout import TokenPrompt
    from policy.watch import Watch
    from rewardmodel.hardware import resolve_device, resolve_dtype
    from rewardmodel.model import load_reward_model

    logging.disable_progress_bar()
    if job.threads:
        torch.set_num_threads(job.threads)
    began = time.monotonic()
    device = resolve_device(job.device)
    parent = Path(job.policy)
    engine = start_engine(job.engine, parent, run.attempt_path / f"{job.engine.name}.log")

    def report(_: str = "") -> None:
        run.stop_if_asked()
        run.progress("load", message=f"Loading {engine.name}, {time.monotonic() - began:.0f} s")

    try:
        check_for_ppo(engine)
        run.progress("load", message="Loading the reward model")
        reward_model = load_reward_model(Path(job.reward_model), dtype=job.dtype, device=device)
        reward = Watch(run, job, len(prompts), reward_model.score)
        if job.other_reward_model is not None:
            other = load_reward_model(Path(job.other_reward_model), dtype=job.dtype, device=device)
            reward.other = other.score
        run.progress("load", message="Loading the policy")
        actor = actor_of(job, resolve_dtype(job.dtype, device), device)
        engine.wait_until_ready(report)
        loaded = time.monotonic()
        state = improve(
            run,
            job,
            actor,
            engine,
            reward,
            [TokenPrompt(prompt, ids) for prompt, ids in prompts],
            [TokenPrompt(prompt, ids) for prompt, ids in shown],
        )
        trained = time.monotonic()
    finally:
        engine.close()
    seconds = {"load": loaded - began, "ppo": trained - loaded}
    metrics = {"updates": state.history, "final": state.final, "ended_by": state.ended_by}
    finish(run, "improve", actor.policy, state.learners["policy"], metrics, seconds, {engine.name: engine.version})


def settle(run: RunDir, job: ImproveJob) -> None:
    """Make the last checkpoint the result, on the CPU and without an engine: what failed before is not needed for it.

    :raises JobError: when there is no checkpoint.
    """
    import torch

    from policy.actor import actor_of
    from policy.outcome import finish
    from policy.state import Checkpoint, new_state
    from rewardmodel.hardware import resolve_dtype

    folder = run.latest_checkpoint()
    if folder is None:
        raise JobError("There is no checkpoint that could be taken as the result.")
    began = time.monotonic()
    run.progress("load", message="Loading the policy")
    cpu = torch.device("cpu")
    actor = actor_of(job, resolve_dtype(job.dtype, cpu), cpu)
    state = new_state(job, actor)
    state.take_up(Checkpoint.load(folder), folder)
    metrics = {"updates": state.history, "final": state.final, "ended_by": "settled"}
    seconds = {"load": time.monotonic() - began, "ppo": 0.0}
    finish(run, "improve", actor.policy, state.learners["policy"], metrics, seconds)


def check(run: RunDir, job: ImproveJob) -> tuple[list[Any], list[Any]]:
    """Refuse a job that cannot be run, before anything heavy is loaded.

    :returns: the training prompts and the prompts to show, each with its token ids.
    :raises JobError: saying what is wrong.
    """
    check_same_text(job.policy, job.reward_model)
    if job.other_reward_model is not None:
        check_same_text(job.policy, job.other_reward_model)
    if job.base_model and load_tokenizer(job.base_model).get_vocab() != load_tokenizer(job.policy).get_vocab():
        raise JobError(f"The base model in {job.base_model} has other tokens than the policy in {job.policy}.")
    prompts = read_prompts(run.path)
    by_id = {prompt.prompt_id: prompt for prompt in prompts}
    unknown = [name for name in job.fixed_prompts if name not in by_id]
    if unknown:
        raise JobError(f"fixed_prompts names {unknown[0]}, which is not among the prompts.")
    train = [prompt for prompt in prompts if prompt.split == "train"]
    if not train:
        raise JobError("None of the prompts belongs to the split train, so there is nothing to practise on.")
    shown = [by_id[name] for name in job.fixed_prompts]
    ids = tokenized(job.policy, [*train, *shown], job.engine, job.sampling)
    pairs = list(zip([*train, *shown], ids, strict=True))
    return pairs[: len(train)], pairs[len(train) :]


if __name__ == "__main__":
    sys.exit(run_from_command_line("python -m policy.train", main))
