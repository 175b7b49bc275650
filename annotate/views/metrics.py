"""What the numbers of runs are called and what they mean, for the pages.

Jobs name their stages and metrics in one English word each; the pages show them in the viewer's
language with a sentence beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

Text = str | Promise

STAGES: dict[str, Text] = {
    "load": _("Loading"),
    "generate": _("Generating"),
    "score": _("Scoring"),
    "train": _("Training"),
    "evaluate": _("Evaluating"),
    "ppo": _("Updates"),
    "watch": _("Watching"),
    "measure": _("Measuring the result"),
    "sample": _("Keeping the best"),
    "reference": _("Reading the parent"),
    "publish": _("Writing the weights"),
    "save": _("Writing the weights"),
    "done": _("Done"),
}


@dataclass(frozen=True)
class Measure:
    """A metric's name and meaning.

    :param share: whether it is a share of 1, shown in per cent.
    """

    label: Text
    meaning: Text
    share: bool = False


REWARD = Measure(_("Reward"), _("Mean score that the reward model gives the answers."))
LENGTH = Measure(_("Length"), _("Mean tokens an answer."))

MEASURES: dict[str, Measure] = {
    "accuracy": Measure(_("Accuracy"), _("Share of pairs put in the raters' order."), share=True),
    "length_only_accuracy": Measure(
        _("Length alone"), _("Accuracy of taking the longer answer: what a model that only counts would reach."), True
    ),
    "pairs": Measure(_("Pairs"), _("Pairs of answers of which a rater preferred one.")),
    "prompts": Measure(_("Prompts"), _("Prompts that the pairs come from; the interval treats each as one draw.")),
    "loss": Measure(_("Loss"), _("What training lowers: how badly the model fits what it learns from.")),
    "dev_loss": Measure(_("Loss on dev"), _("The loss on prompts not trained on; training stops when it rises.")),
    "dev_accuracy": Measure(_("Accuracy on dev"), _("Accuracy on the prompts that decide when to stop."), share=True),
    "reward": REWARD,
    "score": REWARD,
    "other_reward": Measure(
        _("Second reward model"), _("Mean score that the watching model gives the same answers; it trains nothing.")
    ),
    "mean_score": Measure(_("Score of all answers"), _("Mean over the answers drawn.")),
    "best_score": Measure(_("Score of those kept"), _("Mean over the best of each n.")),
    "margin": Measure(
        _("Margin"), _("By how much the implicit reward of preferred answers is ahead, mean over the pairs of a step.")
    ),
    "dev_margin": Measure(_("Margin on dev"), _("The same on prompts not trained on.")),
    "chosen_reward": Measure(
        _("Reward of the preferred"),
        _("β·(log π − log π_parent), mean over preferred answers; below 0 they became less likely."),
    ),
    "rejected_reward": Measure(_("Reward of the others"), _("The same of the answers that were not preferred.")),
    "kl": Measure(_("KL to the parent"), _("How far the policy has moved from its parent, in nats an answer.")),
    "kl_base": Measure(_("KL to the base model"), _("How far it is from generation 0, in nats an answer.")),
    "kl_coefficient": Measure(_("KL coefficient"), _("Weight of the penalty on moving away; adapts to the target.")),
    "entropy": Measure(_("Entropy"), _("Surprise of the policy's own tokens, in nats a token; near 0 it repeats.")),
    "mismatch_kl": Measure(
        _("Sampler mismatch"), _("KL between sampler and trainer, in nats a token; well below 0.1 is healthy.")
    ),
    "length": LENGTH,
    "tokens": LENGTH,
    "repetition": Measure(
        _("Repetition"), _("Share of an answer's runs of four words that it had said before, mean."), share=True
    ),
    "end_rate": Measure(_("Answers that end"), _("Share of answers that end before the token limit."), share=True),
    "policy_loss": Measure(_("Policy loss"), _("PPO's clipped objective with its sign changed.")),
    "value_loss": Measure(_("Value loss"), _("Squared error of the value head's forecasts of the return.")),
    "clip_fraction": Measure(
        _("Clipped tokens"), _("Share of tokens whose probability changed by more than PPO follows."), share=True
    ),
    "gradient_norm": Measure(_("Gradient norm"), _("Length of the gradient before it is clipped.")),
    "first_ratio_error": Measure(
        _("First ratio error"),
        _("Largest |ratio − 1| before the first step: what rounding alone does, some 0.1 in bfloat16."),
    ),
    "samples_per_second": Measure(_("Answers a second"), _("Answers drawn and learned from, a second.")),
    "tokens_per_second": Measure(_("Tokens a second"), _("Speed of the work.")),
    "seconds_generate": Measure(_("Seconds generating"), _("Of an update, spent on drawing answers.")),
    "seconds_score": Measure(_("Seconds scoring"), _("Of an update, spent in the reward model.")),
    "seconds_evaluate": Measure(_("Seconds evaluating"), _("Of an update, spent on log-probabilities and values.")),
    "seconds_train": Measure(_("Seconds training"), _("Of an update, spent on optimiser steps.")),
    "seconds_swap": Measure(_("Seconds swapping weights"), _("Of an update, until the sampler has the new policy.")),
    "completions": Measure(_("Answers"), _("Answers measured.")),
    "logprob_per_token": Measure(_("Log-probability a token"), _("Mean under the policy that wrote the answer.")),
    "steps": Measure(_("Steps"), _("Optimiser steps taken.")),
    "best_step": Measure(_("Best step"), _("The step whose weights were kept: the lowest loss on dev.")),
    "n": Measure(_("n"), _("Answers drawn to a prompt, of which the best was kept.")),
    "kl_bound": Measure(
        _("KL bound of the sampler"), _("log n − (n − 1)/n nats: how far the best of n can be from one draw.")
    ),
    "score_mean": Measure(_("Mean of raw scores"), _("Subtracted, so that training answers have mean 0.")),
    "score_scale": Measure(_("Scale of scores"), _("Multiplied, so that training answers have standard deviation 1.")),
}

UNCHARTED = {"seconds", "seconds_left", "update", "samples", "optimiser_steps", "other_reward_missing"}
"""Numbers that count or estimate the work itself and say nothing as a curve."""


def stage_name(stage: str) -> str:
    """A stage of a run in the viewer's language; its own word where none is known."""
    return str(STAGES.get(stage, stage))


def place_of(name: str) -> int:
    """Where a metric stands among the others: what tells most comes first, unknown ones last."""
    return list(MEASURES).index(name) if name in MEASURES else len(MEASURES)


def measure_of(name: str) -> Measure:
    """A metric's name and meaning; its own word where none is known."""
    return MEASURES.get(name, Measure(name, ""))


@dataclass(frozen=True)
class Row:
    """A measure with its value in each column, and the interval (low, high) where there is one."""

    measure: Measure
    cells: list[tuple[Any, Any]]


@dataclass(frozen=True)
class Table:
    """Measures of several things side by side."""

    columns: list[str]
    rows: list[Row]


def side_by_side(columns: Mapping[str, Mapping[str, Any] | None]) -> Table | None:
    """The known measures that any column has.

    :param columns: by heading, metrics by name; ``name_ci`` holds the interval of ``name``.
    :returns: None where there is nothing to show.
    """
    present = {heading: metrics for heading, metrics in columns.items() if metrics}
    rows = [
        Row(measure, [(metrics.get(name), metrics.get(f"{name}_ci")) for metrics in present.values()])
        for name, measure in MEASURES.items()
        if any(metrics.get(name) is not None for metrics in present.values())
    ]
    return Table(list(present), rows) if rows else None
