"""What each token is credited with, against loops over plain numbers written down from the papers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from policy.contract import ImproveJob
from policy.ppo import credit

PROMPTS, SAMPLES, LENGTHS = 2, 3, [1, 4, 5, 2, 3, 5]
BETA = 0.07
JOB = ImproveJob(policy="", reward_model="", samples_per_prompt=SAMPLES, gamma=0.9, gae_lambda=0.8)
VARIANTS = {
    "gae": JOB,
    "gae, textbook": replace(JOB, prompt_baseline=False, whiten_rewards=True),
    "rloo": replace(JOB, advantage="rloo"),
    "grpo": replace(JOB, advantage="grpo"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_credit_equals_plain_loops(name: str) -> None:
    job = VARIANTS[name]
    for seed in range(5):
        draw = torch.Generator().manual_seed(seed)
        scores = torch.randn(len(LENGTHS), generator=draw, dtype=torch.float64)
        logprobs, reference, values = torch.randn(3, len(LENGTHS), 5, generator=draw, dtype=torch.float64)
        mask = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
        found, returns = credit(job, scores, logprobs, reference, values * mask, mask, BETA)
        expected, expected_returns = by_hand(job, scores.tolist(), (logprobs - reference).tolist(), values.tolist())
        for answer, length in enumerate(LENGTHS):
            assert found[answer, :length].tolist() == pytest.approx(expected[answer], abs=1e-6)
            assert found[answer, length:].tolist() == [0.0] * (5 - length)
            if job.advantage == "gae":
                assert returns[answer, :length].tolist() == pytest.approx(expected_returns[answer], abs=1e-6)


def by_hand(
    job: ImproveJob, scores: list[float], apart: list[list[float]], values: list[list[float]]
) -> tuple[list[list[float]], list[list[float]]]:
    """Advantages, and returns for gae.

    :param apart: log π_old − log π_ref of each token.
    """
    if job.advantage == "gae" and job.prompt_baseline:
        scores = [score - mean(others(scores, place)) for place, score in enumerate(scores)]
    rewards = [[-BETA * token for token in own[:length]] for own, length in zip(apart, LENGTHS, strict=True)]
    for own, score in zip(rewards, scores, strict=True):
        own[-1] += score
    if job.advantage != "gae":
        wholes = [sum(own) for own in rewards]
        relative = [whole - mean(others(wholes, place)) for place, whole in enumerate(wholes)]
        if job.advantage == "grpo":
            groups = [wholes[start : start + SAMPLES] for start in range(0, len(wholes), SAMPLES)]
            relative = [
                (whole - mean(group)) / ((sum((x - mean(group)) ** 2 for x in group) / (SAMPLES - 1)) ** 0.5 + 1e-4)
                for group in groups
                for whole in group
            ]
        return [[own] * length for own, length in zip(relative, LENGTHS, strict=True)], []
    if job.whiten_rewards:
        tokens = [token for own in rewards for token in own]
        scale = (mean([(token - mean(tokens)) ** 2 for token in tokens]) + 1e-8) ** 0.5
        rewards = [[(token - mean(tokens)) / scale + mean(tokens) for token in own] for own in rewards]
    advantages = []
    for own, value in zip(rewards, values, strict=True):
        behind = [*value[1 : len(own)], 0.0]
        deltas = [r + job.gamma * v_next - v for r, v, v_next in zip(own, value, behind, strict=False)]
        advantages.append(
            [
                sum((job.gamma * job.gae_lambda) ** (k - t) * deltas[k] for k in range(t, len(own)))
                for t in range(len(own))
            ]
        )
    returns = [[a + v for a, v in zip(own, value, strict=False)] for own, value in zip(advantages, values, strict=True)]
    tokens = [token for own in advantages for token in own]
    scale = (mean([(token - mean(tokens)) ** 2 for token in tokens]) + 1e-8) ** 0.5
    return [[(token - mean(tokens)) / scale for token in own] for own in advantages], returns


def others(values: list[float], place: int) -> list[float]:
    """The values of the other answers to an answer's prompt."""
    start = place - place % SAMPLES
    return [values[other] for other in range(start, start + SAMPLES) if other != place]


def mean(values: list[float]) -> float:
    """The arithmetic mean."""
    return sum(values) / len(values)
