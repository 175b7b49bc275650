"""What one minibatch of PPO adds to the gradient, against formulas written out in float64; and what it starts from."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from policy.actor import actor_of
from policy.contract import EngineConfig, ImproveJob, Sampling
from policy.engines.base import start_engine
from policy.ppo import Experience, backward, evaluate
from policy.reporting import Reporter
from policy.rollout import draw
from policy.state import new_state
from rewardmodel.batching import Row
from rewardmodel.rundir import open_run
from tests.policy.test_ppo import token_prompts

LENGTHS = [3, 1, 2]
CLIP, VALUE_CLIP, VALUE_WEIGHT = 0.2, 0.2, 0.1


class Fixed(torch.nn.Module):
    """An actor that says the same of every row."""

    device = torch.device("cpu")

    def __init__(self, logprobs: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.logprobs, self.values = torch.nn.Parameter(logprobs), torch.nn.Parameter(values)

    def forward(self, rows, below, width, temperature):
        return self.logprobs, self.values


def test_a_minibatch_adds_the_gradient_of_the_weighted_clipped_loss_and_a_tenth_of_the_value_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    old, new, values, old_values, advantages, returns, weights = torch.randn(
        7, len(LENGTHS), max(LENGTHS), generator=generator, dtype=torch.float64
    )
    new, weights = old + 0.3 * new, weights.abs()
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    experience = Experience(
        rows=[Row((1,), ((2, 3, 4), (5,)), (0, 1)), Row((1,), ((6, 7),), (2,))],
        below=None,
        mask=mask,
        logprobs=old,
        values=old_values,
        advantages=advantages,
        returns=returns,
        weights=weights,
    )
    actor = Fixed(new.clone(), values.clone())
    job = ImproveJob(policy="", reward_model="", clip=CLIP, value_clip=VALUE_CLIP)
    sums, ratio_error = backward(job, actor, experience, [0, 1], 10)  # type: ignore[arg-type]

    slopes, value_slopes = actor.logprobs.grad, actor.values.grad
    assert slopes is not None
    assert value_slopes is not None
    policy, value, clipped, errors = 0.0, 0.0, 0, []
    for n, length in enumerate(LENGTHS):
        for t in range(length):
            a, w, ratio = (float(x) for x in (advantages[n, t], weights[n, t], (new - old)[n, t].exp()))
            bounded = min(max(ratio, 1 - CLIP), 1 + CLIP)
            policy -= min(ratio * a, bounded * a) * w
            slope = -a * ratio * w if ratio * a <= bounded * a else 0.0
            assert float(slopes[n, t]) == pytest.approx(slope / 10, abs=1e-9)
            clipped += ratio * a > bounded * a
            errors.append(abs(ratio - 1))

            v, before, target = (float(x) for x in (values[n, t], old_values[n, t], returns[n, t]))
            near = min(max(v, before - VALUE_CLIP), before + VALUE_CLIP)
            value += 0.5 * max((v - target) ** 2, (near - target) ** 2)
            own = v - target if (v - target) ** 2 >= (near - target) ** 2 else (near - target) * (near == v)
            assert float(value_slopes[n, t]) == pytest.approx(VALUE_WEIGHT * own / 10, abs=1e-9)
    assert not slopes[~mask].any()
    assert not value_slopes[~mask].any()
    assert sums["policy_loss"] == pytest.approx(policy, abs=1e-6)
    assert sums["value_loss"] == pytest.approx(value, abs=1e-6)
    assert (sums["clip_fraction"], sums["tokens"]) == (clipped, sum(LENGTHS))
    assert ratio_error == pytest.approx(max(errors), abs=1e-6)


def test_tokens_are_weighted_by_how_much_likelier_the_trainer_finds_them_than_the_sampler(
    tiny_model: Path, tmp_path: Path
) -> None:
    job = ImproveJob(
        policy=str(tiny_model),
        reward_model="",
        prompts_per_update=2,
        samples_per_prompt=2,
        minibatches=2,
        sampling=Sampling(temperature=1.0, max_tokens=6),
        dtype="float32",
        engine=EngineConfig(name="transformers", dtype="float32"),
    )
    cpu = torch.device("cpu")
    engine = start_engine(job.engine, tiny_model, tmp_path / "engine.log")
    with open_run(tmp_path, 1) as run:
        actor, reporter = actor_of(job, torch.float32, cpu), Reporter(run)
        state = new_state(job, actor)
        rollouts, _examples = draw(job, engine, actor, 0, token_prompts(2), (), reporter)
        rollouts.sampler_logprobs[rollouts.mask] -= 0.25  # the trainer finds every token e^¼ times as likely
        rollouts.sampler_logprobs[0, 0] -= 3.0
        scores = torch.zeros(4)
        weights = evaluate(job, actor, rollouts, scores, state, reporter)[0].weights
    assert weights[0, 0].item() == 2.0
    rollouts.mask[0, 0] = False
    assert weights[rollouts.mask].tolist() == pytest.approx([math.exp(0.25)] * int(rollouts.mask.sum()), abs=1e-4)


def test_adams_epsilon_is_that_of_ppo(tiny_model: Path) -> None:
    """1e-5: Huang et al. 2022, "The 37 implementation details of PPO", detail 3."""
    job = ImproveJob(policy=str(tiny_model), reward_model="", dtype="float32", critic="separate")
    learners = new_state(job, actor_of(job, torch.float32, torch.device("cpu"))).learners
    assert {name: own.optimizer.param_groups[0]["eps"] for name, own in learners.items()} == {
        "policy": 1e-5,
        "critic": 1e-5,
    }
