"""What a reward-model job is told and what it answers: the wall between web and training.

A job's ``spec.json`` is ``{"kind": "train_reward", "job": {…}}``; the fields of ``job`` are those of
:class:`RewardJob`. Its data lies beside it as ``data/rankings.parquet`` with
:data:`RANKING_COLUMNS`. The kind ``score`` has the fields of :class:`ScoreJob` and reads
``data/answers.parquet`` with :data:`ANSWER_COLUMNS`. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

Job = TypeVar("Job")

Loss = Literal["logistic", "hinge", "listwise-hinge", "listmle", "davidson"]
Dtype = Literal["auto", "bfloat16", "float32"]

RANKINGS_FILE = "data/rankings.parquet"
RANKING_COLUMNS = {
    "row_id": "string: the judgement revision or comparison that the ranking comes from",
    "prompt_id": "string: rankings of one prompt are one cluster in every interval",
    "split": "string: train, dev or test; a prompt lies in one split only",
    "messages": "list<struct<role: string, content: string>>: the chat before the answer, may be empty",
    "responses": "list<string>: K >= 2 answers to the same prompt",
    "ranks": "list<int32>: per answer, 1 is best, equal numbers are a tie, null is unranked",
    "weight": "float64: weight of the row in the loss, >= 0",
}
OPTIONAL_RANKING_COLUMNS = {
    "margin": "float64: by how much the score of the preferred answer should be ahead, >= 0; null is 0",
    "ratings": "list<float64>: per answer an absolute score on any scale, null where there is none",
    "cut_off": "list<bool>: per answer whether it was cut off before its end; only DPO, which raises and lowers the "
    "probability of that end too, heeds it",
}

ANSWERS_FILE = "data/answers.parquet"
ANSWER_COLUMNS = {
    "row_id": "string: what the answers belong to",
    "messages": RANKING_COLUMNS["messages"],
    "responses": "list<string>: answers to that prompt",
}

SCORE_COLUMNS = {
    "row_id": "string: as in the answers",
    "index": "int32: position of the answer in `responses`",
    "score": "float64: the reward model's scaled score; of an ensemble the mean over its members",
    "variance": "float64: variance of the members' scores, divided by their number; null for a single model",
}

PREDICTIONS_FILE = "output/predictions.parquet"
PREDICTION_COLUMNS = {
    "row_id": "string: as in the rankings",
    "prompt_id": "string: as in the rankings",
    "split": "string: dev or test; dev has chosen weights and temperature, so report on test alone",
    "index": "int32: position of the answer in `responses`",
    "rank": "int32: as in the rankings, null is unranked",
    "score": SCORE_COLUMNS["score"],
    "variance": SCORE_COLUMNS["variance"],
    "members": "list<float64>: each member's score, in the order of the seeds: job.seed, job.seed + 1, …",
    "characters": "int32: length of the answer's text",
    "tokens": "int32: tokens of the answer that were scored, end token included",
    "prompt_tokens": "int32: tokens of the prompt that were scored",
    "cut": "int32: tokens of prompt and answer that did not fit max_tokens",
}
"""What the model of a training run says of the answers of dev and test: one row for each answer of each ranking."""


class JobError(ValueError):
    """A job that cannot be run as asked; the message is one sentence for the person who asked."""


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What every training on stored rows is told, of a reward model as of a policy."""

    seed: int = 0
    """Seed of initialisation, order and draws."""
    epochs: int
    """Passes over the training rows, at most."""
    learning_rate: float
    """Peak learning rate of AdamW, after warm-up and before the cosine decay. Training all weights (lora_rank 0) needs
    about 1e-5."""
    warmup: float = 0.1
    """Share of all optimiser steps over which the learning rate rises, 0 to 1."""
    weight_decay: float = 0.0
    """AdamW's decoupled weight decay."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this global 2-norm."""
    lora_rank: int = 16
    """Rank of the low-rank adapters on the linear layers; 0 trains all weights."""
    lora_alpha: int = 32
    """Scale of the adapters: their output is multiplied by alpha / rank."""
    lora_layers: float = 0.5
    """Share of the layers, counted from the top, that carry adapters, above 0 and at most 1."""
    max_tokens: int = 1024
    """Longest prompt plus answer in tokens."""
    tokens_per_batch: int = 1024
    """Most tokens, padding included, in one forward and backward pass; what is longer by itself makes one alone."""
    evaluations_per_epoch: int = 2
    """How often the dev loss is taken in one epoch."""
    patience: int = 2
    """Evaluations without a better dev loss after which training stops early."""
    checkpoint_seconds: float = 60.0
    """Least time between two checkpoints, seconds; longer where writing one takes over a twentieth of it."""
    dtype: Dtype = "auto"
    """Arithmetic of the model; auto is bfloat16 where the processor has it in hardware."""
    device: str = "auto"
    """Torch device; auto is the first GPU, or else the CPU."""
    threads: int = 0
    """CPU threads of torch; 0 leaves its default."""

    def __post_init__(self) -> None:
        for name in ("epochs", "max_tokens", "tokens_per_batch", "evaluations_per_epoch", "patience"):
            require(getattr(self, name) >= 1, name, "must be at least 1")
        for name in ("learning_rate", "max_grad_norm"):
            require(0 < getattr(self, name) < math.inf, name, "must be positive")
        for name in ("weight_decay", "lora_rank", "checkpoint_seconds", "threads"):
            require(getattr(self, name) >= 0, name, "must not be negative")
        require(0 < self.lora_layers <= 1, "lora_layers", "must be above 0 and at most 1")
        require(0 <= self.warmup <= 1, "warmup", "must lie between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class RewardJob(TrainingJob):
    """Train a reward model on rankings; prompts longer than max_tokens lose their beginning."""

    base_model: str
    """Folder of the causal language model whose backbone is used."""
    epochs: int = 2
    """Passes over the training rankings, at most."""
    learning_rate: float = 4e-4
    """Peak learning rate of AdamW, after warm-up and before the cosine decay."""
    loss: Loss = "listmle"
    """Loss on the order of a ranking's answers; see :mod:`rewardmodel.losses`."""
    relative_weight: float = 1.0
    """Weight of that loss; 0 leaves it out."""
    regression_weight: float = 0.0
    """Weight of the squared error against the ratings, which are first brought to mean 0 and deviation 1; 0 leaves it
    out."""
    tie_odds: float = 1.0
    """Davidson's ν: of two equally good answers, a share of ν / (2 + ν) is a tie."""
    members: int = 1
    """Models of an ensemble, trained one after the other with the seeds seed, seed + 1, …; from 2 on a score has a
    variance."""
    variance_penalty: float = 0.0
    """λ: an ensemble used as a reward gives mean − λ·variance."""
    gradient_checkpointing: bool = False
    """Compute each block again in the backward pass instead of keeping its activations: less memory, a third slower."""
    rankings_per_step: int = 4
    """Rankings whose gradients make one optimiser step."""
    centring: float = 0.01
    """Weight of the penalty on the squared sum of a pair's scores, which keeps scores near 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rankings_per_step", "members"):
            require(getattr(self, name) >= 1, name, "must be at least 1")
        require(self.tie_odds > 0, "tie_odds", "must be positive")
        for name in ("relative_weight", "regression_weight", "centring", "variance_penalty"):
            require(getattr(self, name) >= 0, name, "must not be negative")
        require(
            self.relative_weight + self.regression_weight > 0, "relative_weight", "and regression_weight are both 0"
        )


@dataclass(frozen=True, kw_only=True)
class ScoreJob:
    """Score answers with a reward model."""

    reward_model: str
    """Folder of the reward model."""
    tokens_per_batch: int = 4096
    """Most tokens, padding included, in one forward pass."""
    dtype: Dtype = "auto"
    """Arithmetic of the backbone; auto is bfloat16 where the processor has it in hardware."""
    device: str = "auto"
    """Torch device; auto is the first GPU, or else the CPU."""
    threads: int = 0
    """CPU threads of torch; 0 leaves its default."""

    def __post_init__(self) -> None:
        require(self.tokens_per_batch >= 1, "tokens_per_batch", "must be at least 1")
        require(self.threads >= 0, "threads", "must not be negative")


def require(condition: bool, field: str, problem: str) -> None:
    """Check a condition on a job's field.

    :param problem: what is wrong, as the end of a sentence that begins with the field's name.
    :raises JobError: when it does not hold.
    """
    if not condition:
        raise JobError(f"{field} {problem}.")


def parse_job(job_class: type[Job], values: dict[str, Any]) -> Job:
    """Make a job from plain values, checking names and types.

    :param job_class: a frozen dataclass whose fields are numbers, strings, booleans, literals,
        lists or optional forms of these, or dataclasses of the same kind.
    :param values: what ``spec.json`` holds under ``job``.
    :raises JobError: for an unknown or missing field, or a value of the wrong type.
    """
    fields = {f.name: f for f in dataclasses.fields(job_class)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise JobError(f"{job_class.__name__} has no field {unknown[0]!r}; it has {', '.join(sorted(fields))}.")
    missing = [
        n
        for n, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and n not in values
    ]
    if missing:
        raise JobError(f"{job_class.__name__} needs {', '.join(missing)}.")
    hints = typing.get_type_hints(job_class)
    parsed = dict(values)
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]) and isinstance(value, dict):
            parsed[name] = parse_job(hints[name], value)
        elif not _fits(value, hints[name]):
            raise JobError(f"{name} must be {_describe(hints[name])}, not {value!r}.")
    return job_class(**parsed)


def _fits(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, arm) for arm in typing.get_args(hint))
    if origin is list:
        return isinstance(value, list) and all(_fits(v, typing.get_args(hint)[0]) for v in value)
    if origin is dict:
        return isinstance(value, dict)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(str(a) for a in typing.get_args(hint))
    return {float: "a number", int: "a whole number", str: "text", bool: "true or false"}.get(hint, str(hint))


def read_spec(run_dir: Path, jobs: dict[str, type[Job]]) -> Job:
    """Read and check ``spec.json`` of a run directory.

    :param jobs: the kinds that this program can run, with the class of each.
    :raises JobError: when the file is missing, is no JSON, or asks for another kind.
    """
    path = run_dir / "spec.json"
    try:
        spec = json.loads(path.read_text())
    except FileNotFoundError:
        raise JobError(f"{run_dir} holds no spec.json; is it a run directory?") from None
    except ValueError as problem:
        raise JobError(f"{path} is not JSON: {problem}.") from None
    if not isinstance(spec, dict) or spec.get("kind") not in jobs or not isinstance(spec.get("job"), dict):
        raise JobError(f"{path} must hold a kind out of {', '.join(jobs)} and a job.")
    return parse_job(jobs[spec["kind"]], spec["job"])


def to_spec(kind: str, job: Any) -> dict[str, Any]:
    """The content of ``spec.json`` for a job: the inverse of :func:`read_spec`."""
    return {"kind": kind, "job": dataclasses.asdict(job)}
