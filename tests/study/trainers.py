"""The methods of the study, each on the hidden preference itself in place of a reward model."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import torch

from annotate.simulated import hidden_preference
from policy.actor import actor_of
from policy.contract import ImproveJob, Sampling
from policy.engines.base import Completion, Engine
from policy.examples import Example
from policy.language import LanguageModel
from policy.methods import DpoJob, SftJob
from policy.ppo import improve
from policy.rollout import TokenPrompt
from policy.sft import imitate
from rewardmodel.chat import Answer
from rewardmodel.hardware import resolve_device, resolve_dtype
from rewardmodel.publish import publish
from rewardmodel.rundir import open_run
from tests.policy.learners import write_job
from tests.rewardmodel.rankings import write_rankings

NO_END_PENALTY = ImproveJob.no_end_penalty


@dataclass(frozen=True)
class Teacher:
    """The hidden preference on the scale of a published reward model: over the base's answers mean 0, deviation 1."""

    mean: float
    deviation: float

    @classmethod
    def over(cls, completions: Sequence[Completion]) -> Teacher:
        """Of that scale."""
        values = [hidden_preference(completion.text) for completion in completions]
        return cls(fmean(values), pstdev(values))

    def score(self, text: str) -> float:
        """An answer's score."""
        return (hidden_preference(text) - self.mean) / self.deviation

    def reward(self, conversations: Sequence[tuple[Any, str]]) -> torch.Tensor:
        """The score of each answer, float32 [n]."""
        return torch.tensor([self.score(text) for _messages, text in conversations])

    def worth(self, completion: Completion) -> float:
        """What an answer is worth to every method alike: PPO subtracts the penalty of a cut answer by itself."""
        return self.score(completion.text) - NO_END_PENALTY * (completion.finish_reason != "stop")


def online(
    folder: Path,
    job: ImproveJob,
    engine: Engine,
    teacher: Teacher,
    prompts: Sequence[TokenPrompt],
    stops: Sequence[int],
) -> Iterator[tuple[int, Path]]:
    """Train with PPO or RLOO and publish the policy after some of its updates; goes on after the last that was made.

    :param stops: numbers of updates made, rising.
    :returns: each with the policy's folder, once it is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    device = resolve_device(job.device)
    with open_run(folder) as run:
        actor = actor_of(job, resolve_dtype(job.dtype, device), device)
        for updates in stops:
            published = folder / f"after-{updates}"
            if not published.is_dir():
                engine.load_weights(Path(job.policy))
                state = improve(run, replace(job, updates=updates), actor, engine, teacher.reward, prompts)
                unfinished = published.with_suffix(".tmp")
                shutil.rmtree(unfinished, ignore_errors=True)
                actor.policy.publish(unfinished, state.exact())
                unfinished.rename(published)
            yield updates, published


@dataclass(frozen=True)
class Practice:
    """What is learned from without drawing more: answers of the base model, and who tells which are good."""

    base: Path
    teacher: Teacher
    prompts: Sequence[TokenPrompt]
    drawn: Sequence[Sequence[Completion]]
    """The answers to each prompt."""

    def items(self) -> Iterator[tuple[TokenPrompt, Sequence[Completion]]]:
        """Each prompt with its answers."""
        return zip(self.prompts, self.drawn, strict=True)


def imitate_best(folder: Path, practice: Practice, seed: int) -> Path:
    """Supervised fine-tuning on the best answer to each prompt, token by token as it was drawn, as best-of-n does.

    :returns: the policy's folder.
    """
    published = folder / "output" / "model"
    if published.is_dir():
        return published
    folder.mkdir(parents=True, exist_ok=True)
    examples: dict[str, list[Example]] = {"train": [], "dev": []}
    for prompt, own in practice.items():
        answer = Answer(tuple(prompt.ids), tuple(max(own, key=practice.teacher.worth).token_ids))
        examples[prompt.prompt.split].append(Example(prompt.prompt.prompt_id, answer, 1.0, "completion"))
    job = SftJob(policy=str(practice.base), seed=seed, temperature=Sampling.temperature)
    with open_run(folder) as run:
        model = LanguageModel(job)
        weights, _figures = imitate(run, job, model, examples["train"], examples["dev"])
        publish(published, lambda to: model.publish(to, weights.by_name()))
    return published


def prefer(folder: Path, practice: Practice, seed: int, beta: float) -> Path:
    """DPO on the order of the answers to each prompt.

    :returns: the policy's folder.
    """
    rows = []
    for place, (prompt, own) in enumerate(practice.items()):
        values = [practice.teacher.worth(completion) for completion in own]
        ranks = [1 + sum(other > value for other in values) for value in values]
        texts = [completion.text for completion in own]
        rows.append({**_of(prompt), "row_id": f"order-{place}", "responses": texts, "ranks": ranks, "weight": 1.0})
    if not (folder / "result.json").is_file():
        write_job(
            folder, "dpo", DpoJob(policy=str(practice.base), seed=seed, beta=beta, temperature=Sampling.temperature)
        )
        write_rankings(folder, rows)
        subprocess.run([sys.executable, "-m", "policy.dpo", "--run-dir", str(folder)], check=True)
    return folder / "output" / "model"


def _of(prompt: TokenPrompt) -> dict[str, Any]:
    return {"prompt_id": prompt.prompt.prompt_id, "split": prompt.prompt.split, "messages": prompt.prompt.messages}
