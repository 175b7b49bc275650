"""Proximal policy optimisation of a language model against a reward, read from top to bottom.

One update: draw answers to a batch of prompts with the current policy, score them, take the
log-probabilities of the policy and of its parent once, turn scores and KL penalty into advantages,
and make several passes of clipped policy-gradient steps over them.

Beside the textbook (Schulman et al. 2017; Ouyang et al. 2022; details after Huang et al. 2024):

- A score is taken relative to the other answers to its prompt, so the value head, which starts at
  zero, starts out right at the beginning of every answer and need only learn how answers unfold.
- The engine that samples and the trainer round differently; each token's loss is weighted by their
  ratio, cut off at a cap.
- Left out: a value model of its own (one trunk serves both), an entropy bonus, learning-rate decay.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from policy import objectives
from policy.actor import Actor
from policy.contract import ImproveJob
from policy.engines.base import Engine
from policy.reporting import Reporter
from policy.rollout import Reward, Rollouts, TokenPrompt, draw, prompts_of_update, score
from rewardmodel.batching import Row, split_by_tokens
from rewardmodel.contract import JobError
from rewardmodel.rundir import RunDir

ADAM_EPSILON = 1e-5

Metrics = dict[str, Any]


@dataclass
class State:
    """What one update hands to the next, apart from the weights."""

    optimiser: torch.optim.Adam
    beta: float
    history: list[Metrics] = field(default_factory=list)
    """Metrics of each update made."""


@dataclass(frozen=True)
class Experience:
    """What the passes of one update learn from; tensors are float32 [n, T] unless said otherwise."""

    rows: list[Row]
    below: list[Tensor]
    """What enters the first layer with adapters, for each row [tokens, hidden size]."""
    mask: Tensor
    logprobs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    weights: Tensor


def improve(
    run: RunDir,
    job: ImproveJob,
    actor: Actor,
    engine: Engine,
    reward: Reward,
    prompts: Sequence[TokenPrompt],
    shown: Sequence[TokenPrompt] = (),
) -> list[Metrics]:
    """Train the actor's adapters and value head; goes on from the run's last checkpoint if it has one.

    :param engine: samples; holds the parent's weights when training starts.
    :param reward: scores answers.
    :param prompts: what rollouts answer.
    :param shown: prompts of which an answer is shown with every update.
    :returns: the metrics of each update.
    :raises Stopped: when the supervisor asked for it; an update that was under way is made again on resuming.
    :raises JobError: when the numbers are no longer finite.
    """
    values = list(actor.value_head.parameters())
    groups = [
        {"params": list(actor.adapters.parameters()), "lr": job.learning_rate},
        {"params": values, "lr": job.value_learning_rate},
    ]
    state = State(torch.optim.Adam(groups, eps=ADAM_EPSILON), job.kl_coefficient)
    checkpoint = run.latest_checkpoint()
    if checkpoint is not None:
        load_checkpoint(checkpoint, actor, state)
    reporter = Reporter(run)
    while len(state.history) < job.updates:
        run.stop_if_asked()
        update = len(state.history)
        began = time.monotonic()
        if update > 0:
            _hand_weights_to_sampler(run, actor, engine, update)
        metrics = _update(job, actor, engine, reward, prompts, shown, state, reporter)
        metrics["samples_per_second"] = metrics["samples"] / (time.monotonic() - began)
        state.history.append(metrics)
        run.publish_checkpoint(update + 1, lambda folder: save_checkpoint(folder, actor, state))
        run.progress("ppo", update + 1, job.updates, **metrics)
    return state.history


def _update(
    job: ImproveJob,
    actor: Actor,
    engine: Engine,
    reward: Reward,
    prompts: Sequence[TokenPrompt],
    shown: Sequence[TokenPrompt],
    state: State,
    reporter: Reporter,
) -> Metrics:
    """Draw, score, learn: one update."""
    update = len(state.history)
    seconds: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        began = time.monotonic()
        result = work()
        seconds[stage] = time.monotonic() - began
        return result

    batch_prompts = prompts_of_update(prompts, update, job.prompts_per_update, job.seed)
    rollouts, examples = timed("generate", lambda: draw(job, engine, update, batch_prompts, shown, reporter))
    scores = timed("score", lambda: score(reward, rollouts, update, reporter))
    if not scores.isfinite().all():
        raise JobError(f"The reward of an answer in update {update + 1} is not a number.")
    experience, metrics = timed("evaluate", lambda: _evaluate(job, actor, rollouts, scores, state, reporter))
    metrics |= timed("train", lambda: _train(job, actor, experience, state, reporter))
    state.beta = objectives.adapt_beta(
        state.beta, metrics["kl"], job.kl_target, len(scores), job.kl_horizon_updates * len(scores)
    )
    return {
        "update": update + 1,
        "samples": len(scores),
        **metrics,
        **{f"seconds_{stage}": round(value, 2) for stage, value in seconds.items()},
        "examples": examples,
    }


def _evaluate(
    job: ImproveJob, actor: Actor, rollouts: Rollouts, scores: Tensor, state: State, reporter: Reporter
) -> tuple[Experience, Metrics]:
    """Turn rollouts and their scores into what the passes learn from."""
    mask = rollouts.mask
    logprobs, reference, values = torch.zeros(mask.shape), torch.zeros(mask.shape), torch.zeros(mask.shape)
    below: dict[int, Tensor] = {}
    done = 0
    with torch.no_grad():
        for group in _micro_batches(rollouts.rows, range(len(rollouts.rows)), job.tokens_per_batch):
            rows = [rollouts.rows[i] for i in group]
            places = _places(rows)
            entering = actor.below(rows)
            below |= zip(group, entering, strict=True)
            row_logprobs, row_values = actor(rows, entering, mask.shape[1], job.sampling.temperature)
            logprobs[places], values[places] = row_logprobs.cpu(), row_values.cpu()
            with actor.as_reference():
                reference[places] = actor(rows, entering, mask.shape[1], job.sampling.temperature)[0].cpu()
            done += len(places)
            reporter.step("evaluate", done, len(mask), update=len(state.history))

    penalised = scores - job.no_end_penalty * ~rollouts.ended
    if job.prompt_baseline:
        penalised = objectives.leave_one_out(penalised.view(-1, job.samples_per_prompt)).flatten()
    rewards = objectives.token_rewards(penalised, logprobs, reference, mask, state.beta)
    advantages, returns = objectives.gae(rewards, values, mask, job.gamma, job.gae_lambda)
    experience = Experience(
        rows=rollouts.rows,
        below=[below[i] for i in range(len(rollouts.rows))],
        mask=mask,
        logprobs=logprobs,
        values=values,
        advantages=objectives.whiten(advantages, mask),
        returns=returns,
        weights=objectives.sampler_weights(logprobs, rollouts.sampler_logprobs, job.importance_cap),
    )
    difference = (logprobs - rollouts.sampler_logprobs) * mask
    metrics = {
        "reward": scores.mean().item(),
        "kl": ((logprobs - reference) * mask).sum(dim=1).mean().item(),
        "kl_coefficient": state.beta,
        "entropy": -objectives.masked_mean(logprobs, mask).item(),
        "mismatch_kl": objectives.masked_mean(difference.exp() - 1 - difference, mask).item(),
        "length": mask.sum(dim=1).float().mean().item(),
        "end_rate": rollouts.ended.float().mean().item(),
    }
    return experience, metrics


def _train(job: ImproveJob, actor: Actor, experience: Experience, state: State, reporter: Reporter) -> Metrics:
    """Several passes over the experience, each cut into minibatches of whole rows with one optimiser step each."""
    update = len(state.history)
    rng = np.random.default_rng((job.seed, update, 1))
    totals = {"policy_loss": 0.0, "value_loss": 0.0, "clip_fraction": 0.0, "tokens": 0}
    first_ratio_error = 0.0
    step, steps = 0, job.epochs * min(job.minibatches, len(experience.rows))
    for _ in range(job.epochs):
        order = rng.permutation(len(experience.rows))
        for indices in np.array_split(order, min(job.minibatches, len(order))):
            tokens = int(experience.mask[_places([experience.rows[i] for i in indices])].sum())
            for group in _micro_batches(experience.rows, indices.tolist(), job.tokens_per_batch):
                sums, ratio_error = _backward(job, actor, experience, group, tokens)
                for name, value in sums.items():
                    totals[name] += value
                if step == 0:
                    first_ratio_error = max(first_ratio_error, ratio_error)
                reporter.step("train", step, steps, update=update)
            # Each group by itself: the value head's gradient is many times the adapters'.
            norms = [
                torch.nn.utils.clip_grad_norm_(group["params"], job.max_grad_norm).item()
                for group in state.optimiser.param_groups
            ]
            if not all(map(math.isfinite, norms)):
                raise JobError(
                    f"PPO diverged in update {update + 1}: its gradient is not a number. Lower the learning rate."
                )
            state.optimiser.step()
            state.optimiser.zero_grad()
            step += 1
            reporter.step("train", step, steps, update=update)
    seen = totals.pop("tokens")
    return {
        **{name: value / seen for name, value in totals.items()},
        "optimiser_steps": step,
        "gradient_norm": norms[0],
        "first_ratio_error": first_ratio_error,
    }


def _backward(
    job: ImproveJob, actor: Actor, experience: Experience, group: list[int], tokens: int
) -> tuple[dict[str, float], float]:
    """Add the gradient of a micro-batch's share in the mean loss over its minibatch's tokens.

    :param group: numbers of the rows in the micro-batch.
    :param tokens: answers' tokens in the minibatch.
    :returns: sums over the micro-batch's tokens, and the largest |ratio − 1| in it.
    """
    rows = [experience.rows[i] for i in group]
    places = _places(rows)
    part = {
        name: getattr(experience, name)[places].to(actor.device)
        for name in ("mask", "logprobs", "values", "advantages", "returns", "weights")
    }
    mask = part["mask"]
    logprobs, values = actor(rows, [experience.below[i] for i in group], mask.shape[1], job.sampling.temperature)
    policy, clipped = objectives.policy_loss(
        logprobs, part["logprobs"], part["advantages"], part["weights"], mask, job.clip
    )
    value = objectives.value_loss(values, part["values"], part["returns"], mask, job.value_clip)
    ((policy + job.value_weight * value) / tokens).backward()
    ratio_error = ((logprobs.detach() - part["logprobs"]) * mask).expm1().abs().max().item()
    sums = {
        "policy_loss": policy.item(),
        "value_loss": value.item(),
        "clip_fraction": clipped.item(),
        "tokens": mask.sum().item(),
    }
    return sums, ratio_error


def _micro_batches(rows: list[Row], indices: Sequence[int], budget: int) -> list[list[int]]:
    """Some rows, by number, in groups of like length that fit the budget when padded."""
    groups = split_by_tokens([rows[i].tokens for i in indices], budget)
    return [[indices[place] for place in group] for group in groups]


def _places(rows: Sequence[Row]) -> Tensor:
    return torch.tensor([place for row in rows for place in row.places])


def _hand_weights_to_sampler(run: RunDir, actor: Actor, engine: Engine, update: int) -> None:
    """Put the current policy into the engine."""
    # A path of its own for each update: an engine may still map the last one's file into memory.
    folder = run.attempt_path / f"policy-{update}"
    actor.save_merged(folder)
    engine.load_weights(folder)
    shutil.rmtree(folder)


def save_checkpoint(folder: Path, actor: Actor, state: State) -> None:
    """Write adapters, value head, optimiser and history."""
    actor.save_adapters(folder / "adapters.safetensors")
    moments = {
        f"{name}.{key}": tensor
        for name, parameter in actor.trained().items()
        for key, tensor in state.optimiser.state[parameter].items()
    }
    save_file(moments, folder / "optimiser.safetensors")
    (folder / "state.json").write_text(json.dumps({"beta": state.beta, "history": state.history}))


def load_checkpoint(folder: Path, actor: Actor, state: State) -> None:
    """Take up what :func:`save_checkpoint` wrote."""
    actor.load_adapters(folder / "adapters.safetensors")
    moments = load_file(folder / "optimiser.safetensors")
    for name, parameter in actor.trained().items():
        state.optimiser.state[parameter] = {
            key: moments[f"{name}.{key}"].to(parameter.device if key != "step" else "cpu")
            for key in ("step", "exp_avg", "exp_avg_sq")
        }
    saved = json.loads((folder / "state.json").read_text())
    state.beta, state.history = saved["beta"], saved["history"]
