"""What the simpler methods of improvement are told: the wall between web and training for SFT, best-of-n and DPO.

A ``spec.json`` is ``{"kind": "sft" | "bestofn" | "dpo", "job": {…}}``. SFT reads ``data/examples.parquet`` with
:data:`EXAMPLE_COLUMNS`, DPO ``data/rankings.parquet`` as a reward model does, best-of-n ``data/prompts.parquet`` as PPO
does. All end with ``output/model``, a plain model folder in the parent's precision. PPO, RLOO and GRPO are the kind
``improve`` of :mod:`policy.contract`. Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from policy.contract import HIGHEST_FULL_LEARNING_RATE, EngineConfig, Sampling, beside
from rewardmodel.contract import RANKING_COLUMNS, JobError, TrainingJob, require

FULL_LEARNING_RATE = 1e-5
"""What training all weights is usually begun with; the jobs' own defaults are for adapters."""

DRAWING_SHARE = 2 / 3
"""Share of best-of-n's limit on seconds by which it stops drawing; what is left is for learning from what was kept."""

Source = Literal["edit", "demonstration", "completion"]

EXAMPLES_FILE = "data/examples.parquet"
EXAMPLE_COLUMNS = {
    "row_id": "string: what the answer comes from",
    "prompt_id": RANKING_COLUMNS["prompt_id"],
    "split": RANKING_COLUMNS["split"],
    "messages": RANKING_COLUMNS["messages"],
    "response": "string: the answer to imitate",
    "weight": "float64: weight of the answer's tokens in the loss, > 0",
    "source": "string: edit, completion (new data) or demonstration (original data)",
}
OPTIONAL_EXAMPLE_COLUMNS = {
    "cut_off": "bool: whether the answer was cut off before its end, and so would teach to stop there; null is no",
}

KEPT_FILE = "output/kept.parquet"
KEPT_COLUMNS = {
    **EXAMPLE_COLUMNS,
    "score": "float64: the reward model's score of the answer, the highest among those drawn",
    "mean_score": "float64: mean score of the answers drawn to the prompt",
    "prompt_ids": "list<int32>: token ids of the chat",
    "token_ids": "list<int32>: token ids of the answer, as they were drawn",
}
"""What best-of-n kept of its own answers and then learned."""


@dataclass(frozen=True, kw_only=True)
class FineTuneJob(TrainingJob):
    """What every training of a policy on stored rows is told; rows longer than max_tokens are left out."""

    policy: str
    """Folder of the model that training starts from: the parent, or the base model."""
    epochs: int = 3
    """Passes over the training rows, at most."""
    learning_rate: float = 2e-4
    """Peak learning rate of AdamW, after warm-up and before the cosine decay. All weights (lora_rank 0) need about
    1e-5."""
    temperature: float = 1.0
    """Softmax temperature of the log-probabilities: the one at which the policy will answer."""
    max_seconds: float = 0.0
    """No step begins after so many seconds of steps, over all attempts; 0 sets no limit."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.temperature < math.inf, "temperature", "must be positive")
        require(self.max_seconds >= 0, "max_seconds", "must not be negative")
        if self.lora_rank == 0 and self.learning_rate > HIGHEST_FULL_LEARNING_RATE:
            raise JobError(
                f"A learning_rate of {self.learning_rate:g} is for adapters: training all weights (lora_rank 0) takes "
                f"at most {HIGHEST_FULL_LEARNING_RATE:g}."
            )

    @property
    def seconds_allowed(self) -> float:
        """The limit on seconds of steps; infinite where there is none."""
        return self.max_seconds or math.inf


@dataclass(frozen=True, kw_only=True)
class SftJob(FineTuneJob):
    """Imitate answers: raters' edits, the answers that they preferred, and demonstrations."""

    examples_per_step: int = 8
    """Answers whose gradients make one optimiser step."""
    original_share: float | None = None
    """Share of original data (demonstrations) in the training rows, from 0 to below 1: so many are drawn beside all new
    data (edits and completions), again and again where they are too few. None takes every row once."""
    self_feedback: bool = False
    """Whether a token's loss is multiplied by (1 − p), p its probability under the policy as it stands."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.examples_per_step >= 1, "examples_per_step", "must be at least 1")
        share = self.original_share
        require(share is None or 0 <= share < 1, "original_share", "must be at least 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class BestOfNJob(SftJob):
    """Draw n answers to each prompt, keep the one with the highest score, and imitate what was kept."""

    reward_model: str
    """Folder of the reward model, as published by :mod:`rewardmodel.train`."""
    n: int = 4
    """Answers drawn to each prompt, of which one is kept."""
    sampling: Sampling = field(default_factory=Sampling)
    """How they are drawn."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    """The engine that draws them."""
    max_seconds: float = 0.0
    """Longest time of drawing, scoring and steps, seconds, over all attempts; 0 sets no limit. Prompts then come in an
    order drawn from the seed, a train prompt first, in parts of one prompt, two, four and so on. No part after the
    first begins that would, at the pace of the one before, end after two thirds of the limit, and no step begins after
    the limit; at least a third of it is for steps."""
    no_end_penalty: float = 1.0
    """Subtracted from the score of an answer that was cut off before its end token."""
    prompts_per_part: int = 32
    """Prompts whose answers are drawn and scored together, at most; a run that was stopped goes on after the last
    part."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "engine", beside(self.engine, self.device))
        require(self.n >= 2, "n", "must be at least 2: the best of one answer is any answer")
        require(self.prompts_per_part >= 1, "prompts_per_part", "must be at least 1")
        if self.engine.name == "openai":
            raise JobError(
                "Answers to imitate are drawn with the policy's own weights, which a server does not have: start the "
                "site with HONE_ENGINE=vllm or transformers for this."
            )


@dataclass(frozen=True, kw_only=True)
class DpoJob(FineTuneJob):
    """Learn from preferences directly, without a reward model."""

    learning_rate: float = 1e-4
    """Peak learning rate of AdamW, after warm-up and before the cosine decay."""
    epochs: int = 2
    """Passes over the training rankings, at most."""
    rankings_per_step: int = 4
    """Rankings whose gradients make one optimiser step; each weighs the same, however many pairs it has."""
    beta: float = 0.1
    """β: how dear it is to move away from the parent; a smaller one lets the policy move further."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rankings_per_step >= 1, "rankings_per_step", "must be at least 1")
        require(self.beta > 0, "beta", "must be positive")


def best_of(scores: Sequence[float], n: int) -> list[int]:
    """The place of the highest score in each n in a row; the first of equal ones.

    :param scores: n for each prompt, prompt after prompt.
    :returns: places in `scores`, one a prompt.
    """
    return [max(range(start, start + n), key=lambda place: scores[place]) for start in range(0, len(scores), n)]


def best_of_n_kl_bound(n: int) -> float:
    """Most nats by which the best of n samples can differ from one sample: log n − (n − 1)/n.

    Of the *sampler*, not of what a policy learns from it; reached where no two scores are equal.

    Source: Stiennon et al. 2020, "Learning to summarize from human feedback", appendix G.3; that it is a bound: Beirami
    et al. 2024, "Theoretical guarantees on the best-of-n alignment policy".
    """
    return math.log(n) - (n - 1) / n
