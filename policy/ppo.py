"""Proximal policy optimisation of a language model against a reward, read from top to bottom.

One update (:func:`look`, then :func:`learn`): draw answers to a batch of prompts with the current policy, score them,
take the log-probabilities of the policy and of its parent once, turn scores and KL penalty into advantages, and make
several passes of clipped policy-gradient steps over them. ``docs/ppo.md`` walks through one update with its numbers.

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
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from policy import objectives
from policy.actor import Actor, Observed
from policy.contract import ImproveJob
from policy.engines.base import Engine
from policy.kept import Kept
from policy.reporting import Reporter
from policy.rollout import Reward, Rollouts, TokenPrompt, draw, prompts_of_update, score
from policy.state import Metrics, State, new_state
from rewardmodel.batching import Row
from rewardmodel.contract import JobError
from rewardmodel.rundir import RunDir


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


@dataclass(frozen=True)
class Look:
    """A policy as it stands: its answers, what they say of it, and what can be learned from them."""

    rollouts: Rollouts
    experience: Experience
    metrics: Metrics
    examples: dict[str, str]
    """By prompt id the answer to each prompt that is shown."""
    seconds: dict[str, float]
    """By stage."""


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

    Every policy is looked at before anything is learned from its answers, the last one too, and only one that gives
    numbers and keeps to the KL limit becomes a checkpoint. However training ends, the last such policy is in one then.

    :param engine: samples; holds the parent's weights when training starts.
    :param reward: scores answers.
    :param prompts: what rollouts answer.
    :param shown: prompts of which an answer is shown with every update.
    :returns: where training ended; its history is shorter than the job's updates where the KL limit or the time ended
        it.
    :raises Stopped: when the supervisor asked for it; an update whose policy was not looked at yet is made again on
        resuming.
    :raises JobError: when the numbers are no longer finite, or no policy that has learned anything is within the KL
        limit.
    """
    state = new_state(job, actor)
    reporter = Reporter(run)
    with Kept(run, state) as kept:
        while True:
            update = len(state.history)
            began = time.monotonic()
            run.stop_if_asked()
            if update > 0:
                hand_weights_to_sampler(run, actor, engine, update)
            swapped = time.monotonic() - began
            policy = look(job, actor, engine, reward, prompts, shown, state, reporter)
            kl = policy.metrics["kl"]
            if not math.isfinite(kl):
                raise JobError(
                    f"PPO diverged in update {update}: the policy that it made gives no numbers. Lower the learning "
                    "rate."
                )
            if kl > job.kl_limit:
                said = kept.go_back(kl, job.kl_limit)
                state.ended_by = "kl"
                print(said, file=sys.stderr, flush=True)
                run.progress("measure", len(state.history), job.updates, said)
                return state
            kept.keep(policy.metrics)
            if update >= job.updates or is_out_of_time(job, state):
                state.final, state.ended_by = policy.metrics, "updates" if update >= job.updates else "time"
                said = f"The policy is {kl:.1f} nats an answer away from its parent."
                run.progress("measure", update, job.updates, said)
                return state
            metrics = learn(job, actor, policy, state, reporter)
            metrics["seconds_swap"] = round(swapped, 2)
            metrics["seconds"] = round(time.monotonic() - began, 2)
            metrics["samples_per_second"] = metrics["samples"] / (time.monotonic() - began)
            state.history.append(metrics)
            run.progress("ppo", update + 1, job.updates, **metrics)


def is_out_of_time(job: ImproveJob, state: State) -> bool:
    """Whether another update would go beyond the job's time; the first one never does."""
    if not (job.max_seconds and state.history):
        return False
    seconds = [update["seconds"] for update in state.history]
    return sum(seconds) + max(seconds) > job.max_seconds


def look(
    job: ImproveJob,
    actor: Actor,
    engine: Engine,
    reward: Reward,
    prompts: Sequence[TokenPrompt],
    shown: Sequence[TokenPrompt],
    state: State,
    reporter: Reporter,
) -> Look:
    """Draw answers of the policy as it stands and score them: the first half of an update."""
    update = len(state.history)
    seconds: dict[str, float] = {}
    batch_prompts = prompts_of_update(prompts, update, job.prompts_per_update, job.seed)
    with _timed(seconds, "generate"):
        rollouts, examples = draw(job, engine, actor, update, batch_prompts, shown, reporter)
    with _timed(seconds, "score"):
        scores = score(reward, rollouts, update, reporter)
    with _timed(seconds, "evaluate"):
        experience, metrics = evaluate(job, actor, rollouts, scores, state, reporter)
    return Look(rollouts, experience, {"samples": len(scores), **metrics}, examples, seconds)


def learn(job: ImproveJob, actor: Actor, policy: Look, state: State, reporter: Reporter) -> Metrics:
    """Take the steps that a policy's answers call for: the second half of an update.

    :returns: what was measured of the policy before the steps, and of the steps.
    """
    seconds = dict(policy.seconds)
    with _timed(seconds, "train"):
        steps = train(job, actor, policy.experience, policy.rollouts, state, reporter)
    samples = policy.metrics["samples"]
    state.beta = objectives.adapt_beta(
        state.beta, policy.metrics["kl"], job.kl_target, samples, job.kl_horizon_updates * samples
    )
    return {
        "update": len(state.history) + 1,
        **policy.metrics,
        **steps,
        **{f"seconds_{stage}": round(value, 2) for stage, value in seconds.items()},
        "examples": policy.examples,
    }


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[stage] = time.monotonic() - began


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
    kl = ((logprobs - reference) * mask).sum(dim=1)
    metrics = {
        "reward": scores.mean().item(),
        "kl": kl.mean().item(),
        "kl_by_prompt": kl.view(-1, job.samples_per_prompt).mean(dim=1).tolist(),
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
    steps_before = state.learners["policy"].steps
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
    made = state.learners["policy"].steps - steps_before
    if made != steps:
        raise RuntimeError(f"PPO made {made} optimiser steps where {steps} were due.")
    seen = totals.pop("tokens")
    return {
        **{name: value / seen for name, value in totals.items()},
        "optimiser_steps": made,
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
    try:
        actor.policy.save(folder)
        engine.load_weights(folder, update)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
