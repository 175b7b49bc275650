"""How long an improvement of the policy will take here: by the project's earlier runs, or by a stated rule."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Any

from annotate.models import Project, Run, Split
from annotate.services import files, space
from annotate.services.generations import serving
from annotate.services.improving import Wish, training_prompts, usual_answers
from annotate.services.methods import POLICY_GRADIENT, WAYS, Method, method_of

RULE_PARAMETERS, RULE_TOKENS, RULE_CORES = 135_000_000, 64, 2
"""What the rule's seconds hold for: a model of so many parameters, answers of so many tokens, so many cores."""
RULE_SECONDS = {
    Method.PPO: 0.8,
    Method.RLOO: 0.7,
    Method.GRPO: 0.7,
    Method.BEST_OF_N: 0.5,
    Method.SFT: 0.4,
    Method.DPO: 1.2,
}
"""Seconds for each answer drawn (best-of-n, PPO and its kin) or row learned from (SFT, DPO)."""
RULE_OVERHEAD = 60.0
"""Seconds to load the models and to write the result."""
WORK = ("ppo", "generate", "score", "train")
"""Stages of a result's seconds that grow with what is to be done."""
RUNS_LOOKED_AT = 20
"""Newest ones, for one that tells how long a unit takes."""


@dataclass(frozen=True)
class Estimate:
    """How long it will take, and how much will be done."""

    seconds: float
    units: int
    """Answers drawn, or rows gone over."""
    measured: bool
    """Whether an earlier run of the project was measured; else it is the rule."""


def estimate(project: Project, wish: Wish) -> Estimate:
    """How long a wish will take.

    :raises Refused: when the policy's folder will not do.
    """
    found = _measured(project, wish.method)
    each, overhead = found or _ruled(project, wish.method)
    units = _units(project, wish)
    seconds = math.inf if units is None else each * units
    if wish.minutes and 60 * wish.minutes < seconds:
        seconds = 60 * wish.minutes
        units = int(seconds / each)
    return Estimate(seconds + overhead, units or 0, found is not None)


def within_time(project: Project, wish: Wish) -> Wish:
    """A wish whose limit on time is one that its method knows.

    PPO, RLOO and GRPO are given as many answers as should fit in; the others look at the time themselves.
    """
    if wish.method not in POLICY_GRADIENT or not wish.minutes:
        return wish
    return replace(wish, samples=max(1, estimate(project, wish).units), minutes=None)


def _units(project: Project, wish: Wish) -> int | None:
    """Answers to draw or rows to go over; None where only time limits them."""
    settings, job = wish.settings, WAYS[wish.method].job
    if wish.method in POLICY_GRADIENT:
        return wish.samples or (None if wish.minutes else usual_answers(project, wish.tags, wish.settings))
    if wish.method == Method.BEST_OF_N:
        prompts = training_prompts(project, wish.tags).count() + project.prompts.filter(split=Split.DEV).count()
        return int(settings.get("n", job.n)) * prompts
    return int(settings.get("epochs", job.epochs)) * _rows(project, wish)


def _rows(project: Project, wish: Wish) -> int:
    """Training rows of the snapshot, or about as many as one taken now would have."""
    if wish.snapshot is not None:
        counts = wish.snapshot.counts
        shown = counts.get("demonstrations_train", 0) if wish.method == Method.SFT else 0
        return int(counts.get("rankings_train", 0)) + int(shown)
    judged = project.slots.filter(state="done", item__prompt__split=Split.TRAIN).count()
    imported = project.comparisons.filter(prompt__split=Split.TRAIN).count()
    shown = project.demonstrations.count() if wish.method == Method.SFT else 0
    return judged + imported + shown


def _measured(project: Project, method: Method) -> tuple[float, float] | None:
    """Seconds a unit, and beside them, of the project's last run by this method that tells."""
    runs = project.runs.filter(kind=Run.Kind.IMPROVE, state=Run.State.SUCCEEDED).order_by("-finished_at")
    for run in runs[:RUNS_LOOKED_AT]:
        if method_of(run) != method or not run.result:
            continue
        done, worked = _done(run)
        if done > 0 and worked > 0:
            seconds: dict[str, float] = run.result["seconds"]
            working = sum(seconds.get(stage, 0.0) for stage in WORK)
            return worked / done, sum(seconds.values()) - working + max(0.0, working - worked)
    return None


def _done(run: Run) -> tuple[int, float]:
    """Answers that a run drew, or rows that it went over, and the seconds that took, both over all attempts.

    The seconds of a result are those of the last attempt alone.

    :returns: no seconds where those of all attempts are not known.
    """
    assert run.result is not None
    metrics: dict[str, Any] = run.result["metrics"]
    if "updates" in metrics:
        rates = [(int(update["samples"]), update.get("samples_per_second") or 0.0) for update in metrics["updates"]]
        told = all(rate > 0 for _samples, rate in rates)
        return sum(n for n, _rate in rates), sum(n / rate for n, rate in rates) if told else 0.0
    if samples := metrics["counts"].get("samples"):
        seconds = run.result["seconds"]
        return int(samples), sum(seconds.get(stage, 0.0) for stage in WORK) if run.attempt == 1 else 0.0
    training = metrics["training"]
    per_step = int(run.job.get("examples_per_step") or run.job["rankings_per_step"])
    rate = training.get("tokens_per_second") or 0.0
    return int(training["steps"]) * per_step, training["tokens"] / rate if rate > 0 else 0.0


def _ruled(project: Project, method: Method) -> tuple[float, float]:
    """The same by the rule, for the processor cores of this machine and, where its size cannot be read, its model."""
    parameters = space.parameters_of(files.check_model_folder(serving(project).weights_path))
    size = (parameters or RULE_PARAMETERS) / RULE_PARAMETERS
    cores = len(os.sched_getaffinity(0)) / RULE_CORES
    return RULE_SECONDS[method] * size * project.max_tokens / RULE_TOKENS / cores, RULE_OVERHEAD * max(1.0, size)
