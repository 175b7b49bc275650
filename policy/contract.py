"""What a policy job is told and what it answers: the wall between web and generation or training.

Three kinds of job. ``generate`` answers prompts; ``evaluate`` answers the same prompts with several
models and scores the answers; ``improve`` trains a policy with PPO. A ``spec.json`` is
``{"kind": …, "job": {…}}``; prompts lie in ``data/prompts.parquet`` with :data:`PROMPT_COLUMNS`.

Completions are published while the job runs, as ``output/completions-NNNNN.parquet`` with
:data:`COMPLETION_COLUMNS`; each is announced by a line of progress whose metrics hold
``shard: "output/completions-NNNNN.parquet"``, so a reader never sees half a file. Nothing here
imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import urlsplit

from rewardmodel.contract import Dtype, JobError, require

Engine = Literal["vllm", "transformers", "openai"]
Advantage = Literal["gae", "rloo", "grpo"]
Critic = Literal["shared", "separate"]

HIGHEST_FULL_LEARNING_RATE = 1e-4
"""All weights at once diverge at the learning rates of adapters."""

PROMPTS_FILE = "data/prompts.parquet"
PROMPT_COLUMNS = {
    "prompt_id": "string",
    "split": "string: train, dev or test",
    "messages": "list<struct<role: string, content: string>>: the chat to answer, may be empty",
}
COMPLETION_COLUMNS = {
    "generation": "int32: number of the generation that wrote the answer",
    "prompt_id": "string",
    "sample": "int32: number of the answer among those of its prompt and generation, from 0",
    "text": "string: the answer, special tokens removed",
    "token_count": "int32: tokens generated, the end token included",
    "finish_reason": "string: stop (end token) or length",
    "sum_logprob": "float64: sum of the tokens' log-probabilities at the sampling temperature, nats; null where the "
    "engine does not tell",
    "seed": "int64: seed of this answer's request",
    "engine": "string: vllm, transformers or openai",
    "engine_version": "string",
    "score": "float64: reward model's score, null where none was asked for",
    "other_score": "float64: score by the other reward model, null where there is none",
}


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How answers are drawn."""

    temperature: float = 0.7
    """Softmax temperature, above 0; also the temperature of every log-probability."""
    max_tokens: int = 64
    """Most tokens of an answer, the end token included."""
    top_p: float = 1.0
    """Nucleus sampling threshold; 1 leaves the distribution as it is."""
    seed: int = 0
    """Seed from which the seeds of the single requests are drawn."""

    def __post_init__(self) -> None:
        require(self.temperature > 0, "temperature", "must be above 0")
        require(self.max_tokens >= 1, "max_tokens", "must be at least 1")
        require(0 < self.top_p <= 1, "top_p", "must be above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Where answers are generated."""

    name: Engine = "vllm"
    """The engine; see :mod:`policy.engines`."""
    dtype: Dtype = "auto"
    """Arithmetic of the model; auto is bfloat16 where the processor has it in hardware."""
    device: str = "auto"
    """Torch device of the model, and of a reward model that scores what is drawn without any training; auto is the
    device of a job that trains, or else the first GPU, or the CPU. vLLM runs on what its build is for: its CPU build
    takes no GPU, and its CUDA build only a GPU."""
    max_model_tokens: int = 2048
    """Longest prompt plus answer in tokens."""
    kv_cache_bytes: int = 1 << 30
    """Memory for vLLM's key-value cache, bytes."""
    max_sequences: int = 64
    """Most sequences generated at once; of the engine openai, most requests under way."""
    base_url: str = ""
    """Address of the server that the engine openai asks, up to and including /v1."""
    served_model: str = ""
    """Name of the model at that server; it stands for generation 0."""
    connect_seconds: float = 10.0
    """Longest wait for a connection to the server, seconds."""
    answer_seconds: float = 300.0
    """Longest wait for one answer of the server, seconds; then it is asked again."""
    retry_seconds: float = 600.0
    """For so long the server is asked for one answer again, seconds; then the job fails."""

    def __post_init__(self) -> None:
        for name in ("connect_seconds", "answer_seconds", "retry_seconds"):
            require(getattr(self, name) > 0, name, "must be positive")
        require(self.max_sequences >= 1, "max_sequences", "must be at least 1")
        if self.name == "openai":
            check_address(self.base_url)
            if not self.served_model:
                raise JobError("The engine openai needs served_model, the name of the model at the server.")


def beside(engine: EngineConfig, device: str) -> EngineConfig:
    """An engine on the device of the training that it samples for, where it names none of its own."""
    return replace(engine, device=device) if engine.device == "auto" else engine


def check_address(url: str) -> None:
    """Check that an address can be asked for JSON and carries no secret.

    :raises JobError: saying what is wrong with it.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise JobError("The address of a server must be of the form https://host/v1.")
    if parts.username is not None or parts.query or parts.fragment:
        raise JobError("The address of a server holds no name, password or query: a key goes into HONE_OPENAI_API_KEY.")


@dataclass(frozen=True, kw_only=True)
class GenerateJob:
    """Answer each prompt with one model, or with the best of several tries by a reward model's scores."""

    model: str
    """Folder of the causal language model."""
    generation: int
    """Number of the generation that the model is."""
    samples: int
    """Answers to each prompt."""
    first_sample: int = 0
    """Number of the first answer, above 0 where earlier jobs already answered these prompts."""
    sampling: Sampling = field(default_factory=Sampling)
    """How the answers are drawn."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    """Where they are generated."""
    best_of: int = 1
    """Tries of which one is kept for each answer, the one with the highest score; 1 keeps what is drawn."""
    reward_model: str | None = None
    """Folder of the reward model that scores the tries; None where best_of is 1."""
    prompts_per_shard: int = 8
    """Prompts whose answers are published together."""

    def __post_init__(self) -> None:
        require(self.samples >= 1, "samples", "must be at least 1")
        require(self.best_of >= 1, "best_of", "must be at least 1")
        if (self.best_of > 1) != (self.reward_model is not None):
            raise JobError(
                "best_of above 1 needs a reward_model to tell which answer is best, and 1 has no use for one."
            )
        if self.generation != 0:
            _need_weights(self.engine, f"Generation {self.generation} is")


@dataclass(frozen=True, kw_only=True)
class EvaluateJob:
    """Answer each prompt with several models, sampled alike, and score the answers."""

    models: list[dict]
    """``{"generation": number, "path": folder}`` for each model, in order."""
    reward_model: str | None = None
    """Folder of the reward model that scores the answers; None scores nothing."""
    other_reward_model: str | None = None
    """Folder of another one, of another seed: where its scores fall behind, the policy learned to please the first."""
    samples: int = 8
    """Answers of each model to each prompt."""
    first_sample: int = 0
    """Number of the first answer, above 0 where earlier jobs already answered these prompts."""
    sampling: Sampling = field(default_factory=Sampling)
    """How the answers are drawn."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    """Where they are generated."""

    def __post_init__(self) -> None:
        require(self.samples >= 1, "samples", "must be at least 1")
        _need_weights(self.engine, "The generations to compare are")
        for model in self.models:
            if set(model) != {"generation", "path"}:
                raise JobError("Each of models must be a generation number and a path.")


@dataclass(frozen=True, kw_only=True)
class ImproveJob:
    """Train a policy with PPO against a reward model."""

    policy: str
    """Folder of the parent policy; with its adapter off it is the reference of the KL penalty."""
    reward_model: str
    """Folder of the reward model, as published by :mod:`rewardmodel.train`."""
    seed: int = 0
    """Seed of prompts' order, sampling and initialisation."""
    updates: int = 9
    """PPO updates: each is one batch of rollouts followed by `epochs` passes over it."""
    max_seconds: float = 0.0
    """No update begins that would, going by the longest so far, end after so many seconds of updates, over all
    attempts; 0 sets no limit. The look at the policy that training ends with comes on top."""
    prompts_per_update: int = 16
    """Distinct prompts in the rollouts of one update."""
    samples_per_prompt: int = 4
    """Answers to each of them."""
    sampling: Sampling = field(default_factory=Sampling)
    """How rollouts are drawn; the same temperature serves the trainer's log-probabilities, and top_p must be 1."""
    epochs: int = 2
    """Passes of PPO over one batch of rollouts."""
    minibatches: int = 4
    """Optimiser steps in one pass."""
    advantage: Advantage = "gae"
    """What tokens are credited with: gae needs values; rloo compares an answer with the others to its prompt (Ahmadian
    et al. 2024); grpo divides that by their deviation (Shao et al. 2024)."""
    critic: Critic = "shared"
    """Whether the values are read off the policy's states or off a trunk of their own, for gae."""
    learning_rate: float = 4e-4
    """Learning rate of Adam for the policy; constant. All weights (lora_rank 0) need about 1e-5."""
    value_learning_rate: float = 2e-4
    """Learning rate of Adam for the value head, and for its trunk where it has one; constant."""
    lora_rank: int = 16
    """Rank of the low-rank adapters on the linear layers; 0 trains all weights."""
    lora_alpha: int = 32
    """Scale of the adapters: their output is multiplied by alpha / rank."""
    lora_layers: float = 0.5
    """Share of the layers, counted from the top, that carry adapters, above 0 and at most 1; the others run once."""
    prompt_baseline: bool = True
    """Whether the mean score of the other answers to its prompt is subtracted from each score, for gae."""
    whiten_rewards: bool = False
    """Whether the tokens' rewards are divided by their deviation, for gae. Scores come with deviation 1, and advantages
    are whitened in any case, so this only changes the scale of what the values learn."""
    clip: float = 0.2
    """ε of the clipped surrogate objective."""
    value_clip: float = 0.2
    """Largest change of a value prediction that the value loss rewards."""
    value_weight: float = 0.1
    """Weight of the value loss."""
    gamma: float = 1.0
    """Discount of later rewards per token."""
    gae_lambda: float = 0.95
    """λ of generalised advantage estimation."""
    kl_coefficient: float = 0.05
    """β at the start: weight of the per-token KL penalty."""
    kl_target: float = 6.0
    """KL to the reference that the adaptive β aims at, nats per answer."""
    kl_horizon_updates: float = 10.0
    """Horizon of the adaptive β in updates' worth of episodes."""
    kl_limit: float = 30.0
    """KL to the reference at which training ends, nats per answer; the last policy below it is the result."""
    base_model: str = ""
    """Folder of the base model, of which the KL is logged too; empty where the policy is that model."""
    no_end_penalty: float = 1.0
    """Subtracted from the score of an answer that was cut off before its end token."""
    importance_cap: float = 2.0
    """Cap of the weight that corrects for the sampler's and trainer's slightly different probabilities."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this global 2-norm."""
    tokens_per_batch: int = 1024
    """Most tokens, padding included, in one forward and backward pass."""
    dtype: Dtype = "auto"
    """Arithmetic of the backbone; auto is bfloat16 where the processor has it in hardware."""
    device: str = "auto"
    """Torch device; auto is the first GPU, or else the CPU."""
    threads: int = 0
    """CPU threads of torch; 0 leaves its default."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    """The engine that samples; it must report token ids and log-probabilities."""
    fixed_prompts: list[str] = field(default_factory=list)
    """Ids of prompts whose first answer is shown in the progress of each update."""
    other_reward_model: str | None = None
    """Folder of a reward model that scores the same answers and trains nothing, so that an exploited reward shows."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "engine", beside(self.engine, self.device))
        _need_weights(self.engine, "A policy in training is")
        for name in ("updates", "prompts_per_update", "samples_per_prompt", "epochs", "minibatches"):
            require(getattr(self, name) >= 1, name, "must be at least 1")
        for name in (
            "learning_rate",
            "value_learning_rate",
            "max_grad_norm",
            "kl_target",
            "kl_horizon_updates",
            "kl_limit",
            "tokens_per_batch",
        ):
            require(getattr(self, name) > 0, name, "must be positive")
        for name in ("max_seconds", "lora_rank", "kl_coefficient", "value_weight", "threads"):
            require(getattr(self, name) >= 0, name, "must not be negative")
        full = ["learning_rate", *(["value_learning_rate"] if self.critic == "separate" else [])]
        for name in full if self.lora_rank == 0 else []:
            if getattr(self, name) > HIGHEST_FULL_LEARNING_RATE:
                raise JobError(
                    f"A {name} of {getattr(self, name):g} is for adapters: training all weights (lora_rank 0) takes at "
                    f"most {HIGHEST_FULL_LEARNING_RATE:g}."
                )
        above_target = "must be above kl_target, or training ends before it gets there"
        require(self.kl_limit > self.kl_target, "kl_limit", above_target)
        require(0 < self.lora_layers <= 1, "lora_layers", "must be above 0 and at most 1")
        for name in ("gamma", "gae_lambda"):
            require(0 <= getattr(self, name) <= 1, name, "must lie between 0 and 1")
        if self.sampling.top_p != 1:
            raise JobError("PPO samples with top_p 1: any cut of the distribution biases its probability ratios.")
        if self.samples_per_prompt < 2 and (self.prompt_baseline or self.advantage != "gae"):
            what = "prompt_baseline" if self.advantage == "gae" else f"advantage {self.advantage}"
            raise JobError(f"{what} needs samples_per_prompt of at least 2.")
        if self.prompts_per_update * self.samples_per_prompt < self.minibatches:
            raise JobError("minibatches must not exceed the answers of one update.")


def _need_weights(engine: EngineConfig, what: str) -> None:
    if engine.name == "openai":
        raise JobError(
            f"{what} not at the server {engine.base_url}, which answers for generation 0 alone: "
            "start the site with HONE_ENGINE=vllm or transformers for this."
        )
