"""Supervised fine-tuning: imitate raters' edits, the answers that they preferred, and demonstrations.

    python -m policy.sft --run-dir D [--attempt N]

Reads ``spec.json`` and ``data/examples.parquet`` and publishes ``output/model``. The loss is on the answers' tokens
only, end token included; prompts are context. It goes on from its last checkpoint, and stopped or killed it ends in the
weights of a training that was not.

Beside the textbook: new data are mixed with a stated share of original data; a token may weigh (1 − p), so that
what the policy knows already teaches little; the softmax has the temperature at which the policy will answer. Left
out: dropout.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from policy.commandline import run_from_command_line
from policy.examples import Example, mixed, read_examples
from policy.language import LanguageModel
from policy.methods import SftJob
from policy.outcome import begin, finish
from rewardmodel.chat import load_tokenizer
from rewardmodel.contract import read_spec
from rewardmodel.fit import Lesson, Metrics, fit
from rewardmodel.rundir import RunDir
from rewardmodel.state import MasterWeights


def imitation_loss(logprobs: Tensor, weights: Tensor, self_feedback: bool) -> Tensor:
    """−Σ w·log p over tokens; with self-feedback −Σ w·(1 − p)·log p, where (1 − p) carries no gradient.

    The factor is that of the focal loss with γ = 1 (Lin et al. 2017, "Focal loss for dense object detection", equation
    4), detached: it scales a token's gradient by how unsure of it the policy is, and adds no pull of its own.

    :param logprobs: [tokens] float32, of the tokens to imitate.
    :param weights: [tokens] float32.
    :returns: a scalar.
    """
    factors = weights * (1 - logprobs.detach().exp()) if self_feedback else weights
    return -(factors * logprobs).sum()


def main(run: RunDir) -> None:
    """Do the job of a run directory from its specification to ``result.json``."""
    started = time.monotonic()
    job = read_spec(run.path, {"sft": SftJob})
    begin(job)
    run.progress("load", message="Reading the answers and loading the model")
    examples = read_examples(run.path, load_tokenizer(job.policy), job.max_tokens)
    train = mixed(examples.train, job.original_share, job.seed)
    model = LanguageModel(job)
    loaded = time.monotonic()
    weights, training = imitate(run, job, model, train, examples.dev)
    metrics = {"training": training, "counts": {**examples.counts, "train": len(train), "dev": len(examples.dev)}}
    finish(run, "sft", model, weights, metrics, {"load": loaded - started, "train": time.monotonic() - loaded})


def imitate(
    run: RunDir, job: SftJob, model: LanguageModel, train: Sequence[Example], dev: Sequence[Example]
) -> tuple[MasterWeights, dict[str, Any]]:
    """Train on examples; see :func:`rewardmodel.fit.fit`.

    :returns: the weights of the lowest dev loss, or the last without dev examples; and figures of the training.
    """
    weights = MasterWeights(model, job)

    def learn(chosen: list[int]) -> tuple[float, Metrics]:
        examples = [train[index] for index in chosen]
        total = sum(example.weight * len(example.answer.response) for example in examples)
        loss_sum = 0.0
        for logprobs, own in answer_logprobs(model, examples):
            loss = imitation_loss(logprobs, own, job.self_feedback) / total
            loss.backward()
            loss_sum += loss.item()
        return loss_sum, {}

    @torch.no_grad()
    def evaluate() -> tuple[float, Metrics]:
        """Cross-entropy a token without self-feedback, so that trainings with and without it compare."""
        total = sum(example.weight * len(example.answer.response) for example in dev)
        loss = sum(imitation_loss(logprobs, own, False).item() for logprobs, own in answer_logprobs(model, dev))
        return loss / total, {"dev_loss": loss / total}

    lesson = Lesson(
        what="answers",
        names=[example.row_id for example in train],
        sizes=[example.tokens for example in train],
        per_step=job.examples_per_step,
        learn=learn,
        evaluate=evaluate if dev else None,
    )
    return weights, fit(run, job, weights, lesson, seed=job.seed, max_seconds=job.seconds_allowed)


def answer_logprobs(model: LanguageModel, examples: Sequence[Example]) -> Iterator[tuple[Tensor, Tensor]]:
    """Log-probabilities of the examples' tokens with their weights, [tokens] each, one forward pass after the other."""
    example_weights = torch.tensor([example.weight for example in examples], device=model.device)
    rows = model.pack([example.answer for example in examples])
    for group in model.split([row.tokens for row in rows]):
        logprobs, places = model([rows[index] for index in group])
        yield logprobs, example_weights[places]


if __name__ == "__main__":
    sys.exit(run_from_command_line("python -m policy.sft", main))
