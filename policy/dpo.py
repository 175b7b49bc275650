"""Direct preference optimisation: learn from comparisons without a reward model.

    python -m policy.dpo --run-dir D [--attempt N]

Reads ``spec.json`` and ``data/rankings.parquet`` and publishes ``output/model``. An answer's implicit reward is
β·(log π − log π_ref), summed over its tokens; a pair's loss is −log σ of the difference of rewards. The reference is
the parent: its log-probabilities are taken once, before the first step, when the policy still is the parent, so that
adapters and all weights are trained alike. All pairs of a ranking are one element of a batch, as in reward training.

Beside the textbook: the softmax has the temperature at which the policy will answer, and an answer that was cut off
before its end has no end token here, whose probability was no part of what raters saw. Left out: normalising by length.

Source: Rafailov et al. 2023, "Direct preference optimization: Your language model is secretly a reward model".
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from policy.commandline import run_from_command_line
from policy.language import LanguageModel
from policy.methods import DpoJob
from policy.outcome import begin, finish
from policy.reporting import Reporter
from rewardmodel.chat import load_tokenizer
from rewardmodel.contract import RANKINGS_FILE, JobError, read_spec
from rewardmodel.data import Ranking, read_rankings
from rewardmodel.fit import Lesson, Metrics, fit
from rewardmodel.losses import Objective, preferred_pairs
from rewardmodel.rundir import RunDir
from rewardmodel.state import MasterWeights


def implicit_rewards(logprobs: Tensor, reference: Tensor, beta: float) -> Tensor:
    """β·(log π(y) − log π_ref(y)): how much more likely each answer is than under the reference.

    :param logprobs: [n], of whole answers under the policy; ``reference`` likewise under the parent.
    :returns: [n].

    Source: Rafailov et al. 2023, section 5.1 (up to a constant of the prompt).
    """
    return beta * (logprobs - reference)


def dpo_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """−log σ(r_w − r_l) of each pair.

    :param chosen: [pairs], implicit rewards of the preferred answers; ``rejected`` likewise of the others.
    :returns: [pairs].

    Source: Rafailov et al. 2023, equation 7.
    """
    return functional.softplus(rejected - chosen)


@dataclass
class Pairs:
    """What is measured of pairs, added up over rankings, each with a weight of its own."""

    loss: float = 0.0
    margin: float = 0.0
    accuracy: float = 0.0
    chosen_reward: float = 0.0
    rejected_reward: float = 0.0

    def add(self, share: float, loss: Tensor, chosen: Tensor, rejected: Tensor) -> None:
        """Add one ranking's pairs: means over them, times the ranking's share."""
        self.loss += share * loss.item()
        self.margin += share * (chosen - rejected).mean().item()
        self.accuracy += share * ((chosen > rejected).float() + 0.5 * (chosen == rejected)).mean().item()
        self.chosen_reward += share * chosen.mean().item()
        self.rejected_reward += share * rejected.mean().item()


def main(run: RunDir) -> None:
    """Do the job of a run directory from its specification to ``result.json``."""
    started = time.monotonic()
    job = read_spec(run.path, {"dpo": DpoJob})
    begin(job)
    run.progress("load", message="Reading the comparisons and loading the model")
    train, dev, counts = read_pairs(run, job)
    model = LanguageModel(job)
    loaded = time.monotonic()
    reference = answer_logprobs(run, model, [*train, *dev])
    weights, training = prefer(run, job, model, train, dev, reference)
    finish(
        run,
        "dpo",
        model,
        weights,
        {"training": training, "counts": {**counts, "train": len(train), "dev": len(dev)}},
        {"load": loaded - started, "train": time.monotonic() - loaded},
    )


def read_pairs(run: RunDir, job: DpoJob) -> tuple[list[Ranking], list[Ranking], dict[str, int]]:
    """The train and dev rankings of a run with a preferred answer, and how many were left out, by reason.

    :raises JobError: when there are none to train on.
    """
    rankings = read_rankings(run.path, load_tokenizer(job.policy), job.max_tokens, Objective("logistic"))
    train, dev = (
        [as_drawn(r) for r in part if not any(a.prompt_cut or a.response_cut for a in r.answers)]
        for part in (rankings.train, rankings.dev)
    )
    if not train:
        raise JobError(f"No train ranking in {RANKINGS_FILE} fits {job.max_tokens} tokens with all its answers.")
    too_long = len(rankings.train) + len(rankings.dev) - len(train) - len(dev)
    left_out = {name: rankings.counts[name] for name in ("without_preference", "without_weight")}
    return train, dev, {**left_out, "too_long": too_long}


def as_drawn(ranking: Ranking) -> Ranking:
    """A ranking whose answers that were cut off before their end have no end token; an empty one keeps it."""
    if not any(ranking.cut_off):
        return ranking
    answers = (
        replace(answer, response=answer.response[:-1] or answer.response) if cut else answer
        for answer, cut in zip(ranking.answers, ranking.cut_off, strict=True)
    )
    return replace(ranking, answers=tuple(answers))


def prefer(
    run: RunDir,
    job: DpoJob,
    model: LanguageModel,
    train: Sequence[Ranking],
    dev: Sequence[Ranking],
    reference: Sequence[Tensor],
) -> tuple[MasterWeights, dict[str, Any]]:
    """Train on rankings; see :func:`rewardmodel.fit.fit`.

    :param reference: of each ranking, train before dev, the answers' log-probabilities under the parent, [K] float32.
    :returns: the weights of the lowest dev loss, or the last without dev rankings; and figures of the training.
    """
    weights = MasterWeights(model, job)
    mean_weight = sum(ranking.weight for ranking in train) / len(train)

    def measure(rankings: Sequence[Ranking], parents: Sequence[Tensor], normaliser: float) -> Pairs:
        """Go over rankings in forward passes, with gradients where they are wanted."""
        pairs = Pairs()
        for group, sums in _in_passes(model, rankings):
            total = torch.zeros(())
            for index, own in zip(group, sums, strict=True):
                ranking = rankings[index]
                rewards = implicit_rewards(own.cpu(), parents[index], job.beta)
                better, worse = preferred_pairs(ranking.ranks)
                loss = dpo_loss(rewards[better], rewards[worse]).mean()
                share = ranking.weight / normaliser
                total = total + share * loss
                pairs.add(share, loss.detach(), rewards[better].detach(), rewards[worse].detach())
            if torch.is_grad_enabled():
                total.backward()
        return pairs

    def learn(chosen: list[int]) -> tuple[float, Metrics]:
        parents = [reference[index] for index in chosen]
        pairs = measure([train[index] for index in chosen], parents, mean_weight * len(chosen))
        return pairs.loss, {name: value for name, value in vars(pairs).items() if name != "loss"}

    @torch.no_grad()
    def evaluate() -> tuple[float, Metrics]:
        pairs = measure(dev, reference[len(train) :], sum(ranking.weight for ranking in dev))
        return pairs.loss, {f"dev_{name}": getattr(pairs, name) for name in ("loss", "margin", "accuracy")}

    lesson = Lesson(
        what="rankings",
        names=[ranking.row_id for ranking in train],
        sizes=[ranking.tokens for ranking in train],
        per_step=job.rankings_per_step,
        learn=learn,
        evaluate=evaluate if dev else None,
    )
    return weights, fit(run, job, weights, lesson, seed=job.seed, max_seconds=job.seconds_allowed)


@torch.no_grad()
def answer_logprobs(run: RunDir, model: LanguageModel, rankings: Sequence[Ranking]) -> list[Tensor]:
    """Log-probabilities of each ranking's answers under the model as it stands, [K] float32 on the CPU each."""
    found: dict[int, Tensor] = {}
    reporter = Reporter(run)
    for group, sums in _in_passes(model, rankings):
        found |= {index: own.cpu() for index, own in zip(group, sums, strict=True)}
        reporter.step("reference", len(found), len(rankings))
    return [found[index] for index in range(len(rankings))]


def _in_passes(model: LanguageModel, rankings: Sequence[Ranking]) -> Iterator[tuple[list[int], tuple[Tensor, ...]]]:
    """The indices of rankings forward pass by forward pass, with the log-probabilities of their answers, [K] each."""
    for group in model.split([model.tokens_of(ranking.answers) for ranking in rankings]):
        answers = [answer for index in group for answer in rankings[index].answers]
        logprobs, places = model(model.pack(answers))
        sums = logprobs.new_zeros(len(answers)).index_add(0, places, logprobs)
        yield group, sums.split([len(rankings[index].answers) for index in group])


if __name__ == "__main__":
    sys.exit(run_from_command_line("python -m policy.dpo", main))
