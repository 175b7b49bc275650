"""What a policy's answers to the test prompts are worth, and how far they are from the base model's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import torch

from annotate.simulated import hidden_preference
from annotate.stats.estimate import Estimate, Undefined
from annotate.stats.intervals import mean_interval
from policy.contract import Sampling
from policy.engines.base import Completion, Engine, generate, make_request
from policy.language import LanguageModel
from policy.methods import SftJob
from policy.rollout import TokenPrompt
from rewardmodel.chat import Answer

DRAWS = 16
"""Answers to each test prompt by which a policy is measured."""


@dataclass(frozen=True)
class Point:
    """A policy on the curve; a value for each test prompt, the mean over its draws."""

    preferences: list[float]
    divergences: list[float]
    """Sampled estimates of the KL divergence from the base model, nats an answer."""
    lengths: list[float]
    end_rate: float

    @property
    def preference(self) -> Estimate:
        """With an interval over prompts."""
        return defined(mean_interval(self.preferences))

    @property
    def kl(self) -> Estimate:
        """With an interval over prompts."""
        return defined(mean_interval(self.divergences))


def defined(estimate: Estimate | Undefined) -> Estimate:
    """An estimate of several prompts, which always is one."""
    assert isinstance(estimate, Estimate)
    return estimate


def draw(engine: Engine, prompts: Sequence[TokenPrompt], sampling: Sampling, draws: int) -> list[list[Completion]]:
    """Answers of what the engine holds, those of each prompt together."""
    requests = [
        make_request(sampling, prompt.prompt.messages, prompt.ids, prompt.prompt.prompt_id, number)
        for prompt in prompts
        for number in range(draws)
    ]
    completions = generate(engine, requests)
    return [completions[start : start + draws] for start in range(0, len(completions), draws)]


def measure(folder: Path, base: Path, engine: Engine, prompts: Sequence[TokenPrompt], sampling: Sampling) -> Point:
    """Draw with a policy and look at what came.

    :param folder: of the policy; ``base`` that of the model from which the divergence is.
    """
    engine.load_weights(folder)
    drawn = draw(engine, prompts, sampling, DRAWS)
    answers = [
        Answer(tuple(prompt.ids), tuple(completion.token_ids))
        for prompt, own in zip(prompts, drawn, strict=True)
        for completion in own
    ]
    policy, reference = (logprobs(model, answers, sampling.temperature) for model in (folder, base))
    of_answers = [completion for own in drawn for completion in own]
    return Point(
        preferences=_by_prompt([hidden_preference(completion.text) for completion in of_answers]),
        divergences=_by_prompt((policy - reference).tolist()),
        lengths=_by_prompt([completion.token_count for completion in of_answers]),
        end_rate=float(np.mean([completion.finish_reason == "stop" for completion in of_answers])),
    )


def _by_prompt(values: Sequence[float]) -> list[float]:
    means: list[float] = np.reshape(np.asarray(values, dtype=np.float64), (-1, DRAWS)).mean(axis=1).tolist()
    return means


@torch.no_grad()
def logprobs(folder: Path, answers: Sequence[Answer], temperature: float) -> torch.Tensor:
    """Log-probability of each answer under a model, [n] float64."""
    model: Any = LanguageModel(SftJob(policy=str(folder), temperature=temperature))
    rows = model.pack(answers)
    found = torch.zeros(len(answers), dtype=torch.float64)
    for group in model.split([row.tokens for row in rows]):
        of_tokens, places = model([rows[index] for index in group])
        found.index_add_(0, places.cpu(), of_tokens.double().cpu())
    return found


def best_of(values: Sequence[Sequence[float]], n: int) -> list[float]:
    """Expected value of the best of n draws, for each prompt, from all its draws.

    Of d values in order the k-th smallest is the largest of C(k − 1, n − 1) of the C(d, n) sets of n.
    """
    d = len(values[0])
    shares = np.array([comb(k, n - 1) for k in range(d)], dtype=np.float64) / comb(d, n)
    expected: list[float] = (np.sort(np.asarray(values, dtype=np.float64), axis=1) @ shares).tolist()
    return expected
