"""Proximal policy optimisation of a language model against a reward, read from top to bottom.

One update (:func:`update_once`): draw answers to a batch of prompts with the current policy, score them, take the
log-probabilities of the policy and of its parent once, turn scores and KL penalty into advantages, and make several
passes of clipped policy-gradient steps over them. ``docs/ppo.md`` walks through one update with its numbers.

What is done, and where it comes from:

- the clipped surrogate with ε = 0.2 (Schulman et al. 2017, "Proximal policy optimization algorithms", equation 7) and
  generalised advantages with γ = 1 and λ = 0.95 (Schulman et al. 2016, equation 16);
- the score at an answer's last token and −β(log π_old − log π_ref) at every token, fixed over the passes (Ouyang et al.
  2022, equation 2; Ziegler et al. 2019, section 2.2, from where the adaptive β is, too);
- values that start at zero, a value loss of weight 0.1 that is clipped at 0.2, whitened advantages, rewards whitened
  without shifting their mean where asked, a fixed penalty for an answer without an end token, Adam with ε = 1e-5, no
  dropout, one temperature for sampling and training (Huang et al. 2024, "The N+ implementation details of RLHF with
  PPO"; Huang et al. 2022, "The 37 implementation details of PPO");
- each token weighted by min(π_old as trained / as sampled, 2), because the engine that samples and the trainer round
  differently (Espeholt et al. 2018, "IMPALA", section 4.1);
- in place of generalised advantages, where asked, an answer's return less the mean of the others to its prompt (RLOO,
  Ahmadian et al. 2024) or that in units of their deviation (GRPO, Shao et al. 2024; its KL stays in the reward).

Unlike the textbook, a score is by default taken relative to the other answers to its prompt, so that the values, which
start at zero, start out right at the beginning of every answer. A minibatch holds whole prompts, whose answers
share one row. Left out: an entropy bonus, learning-rate decay.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policy import objectives
from policy.actor import Actor, Observed
from policy.contract import ImproveJob
from policy.engines.base import Engine
from policy.reporting import Reporter
from policy.rollout import Reward, Rollouts, TokenPrompt, draw, prompts_of_update, score
from policy.state import Metrics, State, load_checkpoint, new_state, save_checkpoint
from rewardmodel.batching import Row
from rewardmodel.contract import JobError
from rewardmodel.rundir import CheckpointClock, RunDir, checkpoints, step_of


@dataclass(frozen=True)
class Experience:
    """What the passes of one update learn from; tensors are float32 [n, T] unless said otherwise."""

    rows: list[Row]
    below: list[Tensor] | None
    """What enters the lowest block that learns, for each row [tokens, hidden size]; None where all learn."""
    mask: Tensor
    """[n, T] bool, True at tokens drawn."""
    logprobs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    weights: Tensor


class TooFar(Exception):
    """The policy has moved further from its parent than the job allows."""


def improve(
    run: RunDir,
    job: ImproveJob,
    actor: Actor,
    engine: Engine,
    reward: Reward,
    prompts: Sequence[TokenPrompt],
    shown: Sequence[TokenPrompt] = (),
) -> State:
    """Train the actor; goes on from the run's last checkpoint if it has one.

    :param engine: samples; holds the parent's weights when training starts.
    :param reward: scores answers.
    :param prompts: what rollouts answer.
    :param shown: prompts of which an answer is shown with every update.
    :returns: where training ended; its history is shorter than the job's updates where the KL limit ended it.
    :raises Stopped: when the supervisor asked for it; an update that was under way is made again on resuming.
    :raises JobError: when the numbers are no longer finite, or the first update already leaves the KL limit behind.
    """
    state = new_state(job, actor)
    checkpoint = run.latest_checkpoint()
    if checkpoint is not None:
        load_checkpoint(checkpoint, state)
    reporter = Reporter(run)
    clock = CheckpointClock(least_seconds=0.0)
    while len(state.history) < job.updates:
        run.stop_if_asked()
        update = len(state.history)
        began = time.monotonic()
        if update > 0:
            hand_weights_to_sampler(run, actor, engine, update)
        swapped = time.monotonic() - began
        try:
            metrics = update_once(job, actor, engine, reward, prompts, shown, state, reporter)
        except TooFar as problem:
            go_back(run, state)
            run.progress("ppo", len(state.history), job.updates, message=str(problem))
            break
        metrics["seconds_swap"] = round(swapped, 2)
        metrics["samples_per_second"] = metrics["samples"] / (time.monotonic() - began)
        state.history.append(metrics)
        if clock.due:
            clock.write(
                lambda: run.publish_checkpoint(len(state.history), lambda folder: save_checkpoint(folder, state))
            )
        run.progress("ppo", update + 1, job.updates, **metrics)
    return state


def update_once(
    job: ImproveJob,
    actor: Actor,
    engine: Engine,
    reward: Reward,
    prompts: Sequence[TokenPrompt],
    shown: Sequence[TokenPrompt],
    state: State,
    reporter: Reporter,
) -> Metrics:
    """Draw, score, learn: one update.

    :raises TooFar: before anything is learned, when the policy has left the KL limit behind.
    """
    update = len(state.history)
    seconds: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        began = time.monotonic()
        result = work()
        seconds[stage] = time.monotonic() - began
        return result

    batch_prompts = prompts_of_update(prompts, update, job.prompts_per_update, job.seed)
    rollouts, examples = timed("generate", lambda: draw(job, engine, actor, update, batch_prompts, shown, reporter))
    scores = timed("score", lambda: score(reward, rollouts, update, reporter))
    experience, metrics = timed("evaluate", lambda: evaluate(job, actor, rollouts, scores, state, reporter))
    if metrics["kl"] > job.kl_limit:
        raise TooFar(
            f"After {update} updates the policy is {metrics['kl']:.1f} nats an answer away from its parent, and "
            f"{job.kl_limit:g} are allowed: training ends with the policy before the last update."
        )
    metrics |= timed("train", lambda: train(job, actor, experience, rollouts, state, reporter))
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


def evaluate(
    job: ImproveJob, actor: Actor, rollouts: Rollouts, scores: Tensor, state: State, reporter: Reporter
) -> tuple[Experience, Metrics]:
    """Turn rollouts and their scores into what the passes learn from."""
    mask, rows = rollouts.mask, rollouts.rows
    below: dict[int, Tensor] = {}
    before = {each.name: torch.zeros(mask.shape) for each in fields(Observed)}
    done = 0
    for group in actor.policy.split(rows, job.tokens_per_batch):
        chosen = [rows[i] for i in group]
        entering = actor.below(chosen)
        if entering is not None:
            below |= zip(group, entering, strict=True)
        observed = actor.observe(chosen, entering, mask.shape[1], job.sampling.temperature)
        for name, values in before.items():
            values[_places(chosen)] = getattr(observed, name).cpu()
        done += len(_places(chosen))
        reporter.step("evaluate", done, len(mask), update=len(state.history))

    logprobs, reference, values = before["logprobs"], before["reference"], before["values"]
    penalised = scores - job.no_end_penalty * ~rollouts.ended
    advantages, returns = credit(job, penalised, logprobs, reference, values, mask, state.beta)
    experience = Experience(
        rows=rows,
        below=[below[i] for i in range(len(rows))] if below else None,
        mask=mask,
        logprobs=logprobs,
        values=values,
        advantages=advantages,
        returns=returns,
        weights=objectives.sampler_weights(logprobs, rollouts.sampler_logprobs, job.importance_cap),
    )
    metrics = {
        "reward": scores.mean().item(),
        "kl": ((logprobs - reference) * mask).sum(dim=1).mean().item(),
        "kl_base": ((logprobs - before["base"]) * mask).sum(dim=1).mean().item(),
        "kl_coefficient": state.beta,
        "entropy": objectives.masked_mean(before["entropy"], mask).item(),
        "mismatch_kl": objectives.mismatch_kl(logprobs, rollouts.sampler_logprobs, mask).item(),
        "length": mask.sum(dim=1).float().mean().item(),
        "end_rate": rollouts.ended.float().mean().item(),
    }
    return experience, metrics


def credit(
    job: ImproveJob, scores: Tensor, logprobs: Tensor, reference: Tensor, values: Tensor, mask: Tensor, beta: float
) -> tuple[Tensor, Tensor]:
    """What each token is credited with.

    :param scores: [n], penalties subtracted; the answers to one prompt stand together.
    :returns: advantages and, for the values, returns, [n, T] each.
    """
    if job.advantage == "gae":
        if job.prompt_baseline:
            scores = objectives.leave_one_out(scores.view(-1, job.samples_per_prompt)).flatten()
        rewards = objectives.token_rewards(scores, logprobs, reference, mask, beta)
        if job.whiten_rewards:
            rewards = objectives.whiten(rewards, mask, shift_mean=False)
        advantages, returns = objectives.gae(rewards, values, mask, job.gamma, job.gae_lambda)
        return objectives.whiten(advantages, mask), returns
    whole = (
        objectives.token_rewards(scores, logprobs, reference, mask, beta).sum(dim=1).view(-1, job.samples_per_prompt)
    )
    relative = objectives.leave_one_out(whole) if job.advantage == "rloo" else objectives.group_relative(whole)
    return relative.flatten()[:, None] * mask, torch.zeros_like(values)


def train(
    job: ImproveJob, actor: Actor, experience: Experience, rollouts: Rollouts, state: State, reporter: Reporter
) -> Metrics:
    """Several passes over the experience, each cut into minibatches of whole rows with one optimiser step each."""
    update = len(state.history)
    rng = np.random.default_rng((job.seed, update, 1))
    totals = {"policy_loss": 0.0, "value_loss": 0.0, "clip_fraction": 0.0, "tokens": 0}
    first_ratio_error = 0.0
    minibatches = min(job.minibatches, len(experience.rows))
    step, steps = 0, job.epochs * minibatches
    norms: dict[str, float] = {}
    for _epoch in range(job.epochs):
        for indices in np.array_split(rng.permutation(len(experience.rows)), minibatches):
            rows = [experience.rows[i] for i in indices]
            tokens = int(experience.mask[_places(rows)].sum())
            for group in actor.policy.split(rows, job.tokens_per_batch):
                sums, ratio_error = backward(job, actor, experience, [int(indices[i]) for i in group], tokens)
                for name, value in sums.items():
                    totals[name] += value
                if step == 0:
                    first_ratio_error = max(first_ratio_error, ratio_error)
                reporter.step("train", step, steps, update=update)
            norms = {name: own.step(state.learning_rates[name]) for name, own in state.learners.items()}
            if not all(map(math.isfinite, norms.values())):
                raise JobError(
                    f"PPO diverged in update {update + 1}: its gradient is not a number, on the prompts "
                    f"{', '.join(rollouts.prompts_of(rows))}. Lower the learning rate."
                )
            step += 1
            reporter.step("train", step, steps, update=update)
    if step != steps:
        raise RuntimeError(f"PPO made {step} optimiser steps where {steps} were due.")
    seen = totals.pop("tokens")
    return {
        **{name: value / seen for name, value in totals.items()},
        "optimiser_steps": step,
        "gradient_norm": norms["policy"],
        "first_ratio_error": first_ratio_error,
    }


def backward(
    job: ImproveJob, actor: Actor, experience: Experience, group: list[int], tokens: int
) -> tuple[dict[str, float], float]:
    """Add the gradient of a micro-batch's share in the mean loss over its minibatch's tokens.

    :param group: numbers of the rows in the micro-batch.
    :param tokens: answers' tokens in the minibatch.
    :returns: sums over the micro-batch's tokens, and the largest |ratio − 1| in it.
    """
    rows = [experience.rows[i] for i in group]
    below = None if experience.below is None else [experience.below[i] for i in group]
    places = _places(rows)
    part = {
        name: getattr(experience, name)[places].to(actor.device)
        for name in ("mask", "logprobs", "values", "advantages", "returns", "weights")
    }
    mask = part["mask"]
    logprobs, values = actor(rows, below, mask.shape[1], job.sampling.temperature)
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


def _places(rows: Sequence[Row]) -> Tensor:
    return torch.tensor([place for row in rows for place in row.places])


def hand_weights_to_sampler(run: RunDir, actor: Actor, engine: Engine, update: int) -> None:
    """Put the current policy into the engine."""
    # A path of its own for each update: an engine may still map the last one's file into memory.
    folder = run.attempt_path / f"policy-{update}"
    actor.policy.save(folder)
    engine.load_weights(folder, update)
    shutil.rmtree(folder)


def go_back(run: RunDir, state: State) -> None:
    """Take up the newest checkpoint before the last update, whose policy was measured within the KL limit.

    :raises JobError: when there is none.
    """
    earlier = [folder for folder in checkpoints(run.path) if step_of(folder) < len(state.history)]
    if not earlier:
        raise JobError(
            f"The policy left the KL limit behind within {len(state.history)} updates, before there was a checkpoint "
            "to go back to. Lower the learning rate."
        )
    load_checkpoint(earlier[-1], state)
