"""How long an improvement of the policy will take here: by the project's earlier runs, or by a stated rule."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from annotate.models import Project, Run, Split
from annotate.services import files, space
from annotate.services.generations import serving
from annotate.services.improving import Wish, answers_per_update, training_prompts
from annotate.services.jobs import Settings
from annotate.services.methods import POLICY_GRADIENT, WAYS, Method, method_of
from policy.contract import ImproveJob
from policy.methods import DRAWING_SHARE

RULE_PARAMETERS, RULE_TOKENS, RULE_CORES = 135_000_000, 64, 2
"""What the rule's seconds hold for: a model of so many parameters, answers of so many tokens, so many cores."""
RULE_SECONDS = {
    Method.PPO: 0.8,
    Method.RLOO: 0.7,
    Method.GRPO: 0.7,
    Method.BEST_OF_N: 0.3,
    Method.SFT: 0.4,
    Method.DPO: 1.2,
}
"""Seconds for each answer drawn, scored and learned from (PPO and its kin), drawn and scored (best-of-n, which learns
from what it kept as SFT does) or row gone over (SFT, DPO)."""
RULE_LOOK = 0.6
"""Share of PPO's seconds that an answer takes which is only looked at: drawn, scored and read, but not learned from."""
RULE_OVERHEAD = 60.0
"""Seconds to load the models and to write the result."""
WORK = ("ppo", "generate", "score", "train")
"""Stages of a result's seconds that grow with what is to be done."""
LOOK = ("seconds_generate", "seconds_score", "seconds_evaluate", "seconds_swap")
"""Parts of an update that a look at a policy takes, too."""
RUNS_LOOKED_AT = 20
"""Newest ones, for one that tells how long a unit takes."""
GPUS = "nvidia[0-9]*"
"""What the GPUs that torch takes are called in /dev."""


@dataclass(frozen=True)
class Estimate:
    """How long it will take, and how much will be done."""

    seconds: float | None
    """None where nothing tells."""
    units: int
    """Answers drawn, or rows gone over; where no time is known, at most."""
    measured: bool
    """Whether an earlier run of the project was measured; else it is the rule."""
    looked_at: int = 0
    """Of the answers, those that only measure the result."""


@dataclass(frozen=True)
class Pace:
    """Seconds by what is done."""

    draw: float
    """To draw and score an answer; of PPO and its kin, to look at it. 0 of methods that draw none."""
    learn: float
    """To learn: of PPO and its kin from an answer, of best-of-n from one that was kept, else from a row gone over."""
    beside: float
    """Whatever is asked for."""


def estimate(project: Project, wish: Wish) -> Estimate:
    """How long a wish will take.

    :raises Refused: when the policy's folder will not do.
    """
    found = _measured(project, wish.method)
    pace = found or _ruled(project, wish)
    if wish.method in POLICY_GRADIENT:
        seconds, units = _updates(project, wish, pace)
        looked_at = answers_per_update(project, wish.tags, wish.settings)
    elif wish.method == Method.BEST_OF_N:
        (seconds, units), looked_at = _kept(project, wish, pace), 0
    else:
        (seconds, units), looked_at = _rows_gone_over(project, wish, pace), 0
    return Estimate(None if pace is None else seconds + pace.beside, units, found is not None, looked_at)


def within_time(project: Project, wish: Wish) -> Wish:
    """A wish that says how much is done at most, where only its time is limited.

    PPO, RLOO and GRPO are then given as many updates as should fit in, the last one begun; where nothing tells, as many
    as are usual. They keep to the limit themselves as the other methods do.
    """
    if wish.method not in POLICY_GRADIENT or not wish.minutes or wish.samples:
        return wish
    pace = _measured(project, wish.method) or _ruled(project, wish)
    answers = answers_per_update(project, wish.tags, wish.settings)
    return replace(wish, samples=_planned(wish, answers, pace) * answers) if answers else wish


def _planned(wish: Wish, answers: int, pace: Pace | None) -> int:
    """Updates that PPO is told to make, at most.

    :param answers: of one update.
    """
    if wish.samples:
        return math.ceil(wish.samples / answers)
    if wish.minutes and pace is not None:
        return math.ceil(60 * wish.minutes / (answers * (pace.draw + pace.learn)))
    return int(wish.settings.get("updates", ImproveJob.updates))


def _updates(project: Project, wish: Wish, pace: Pace | None) -> tuple[float, int]:
    """Seconds and answers of PPO, whose last answers are only looked at, outside of the limit on time."""
    answers = answers_per_update(project, wish.tags, wish.settings)
    if not answers:
        return 0.0, 0
    updates = _planned(wish, answers, pace)
    if pace is None:
        return math.inf, (updates + 1) * answers
    each = answers * (pace.draw + pace.learn)
    if wish.minutes:
        updates = min(updates, max(1, int(60 * wish.minutes / each)))
    return updates * each + answers * pace.draw, (updates + 1) * answers


def _kept(project: Project, wish: Wish, pace: Pace | None) -> tuple[float, int]:
    """Seconds and answers of best-of-n, which draws for a share of its limit on time, for one prompt in any case."""
    n = int(wish.settings.get("n", WAYS[wish.method].job.n))
    prompts = training_prompts(project, wish.tags).count() + project.prompts.filter(split=Split.DEV).count()
    if pace is None or not prompts:
        return math.inf, n * prompts
    if not wish.minutes:
        return prompts * (n * pace.draw + pace.learn), n * prompts
    limit = 60 * wish.minutes
    prompts = min(prompts, max(1, int(DRAWING_SHARE * limit / (n * pace.draw))))
    drawing = prompts * n * pace.draw
    return drawing + min(prompts * pace.learn, max(limit - drawing, (1 - DRAWING_SHARE) * limit)), n * prompts


def _rows_gone_over(project: Project, wish: Wish, pace: Pace | None) -> tuple[float, int]:
    """Seconds and rows of SFT or DPO."""
    rows = int(wish.settings.get("epochs", WAYS[wish.method].job.epochs)) * _rows(project, wish)
    if pace is None:
        return math.inf, rows
    if wish.minutes and 60 * wish.minutes < rows * pace.learn:
        return 60 * wish.minutes, int(60 * wish.minutes / pace.learn)
    return rows * pace.learn, rows


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


def _measured(project: Project, method: Method) -> Pace | None:
    """The pace of the project's last run by this method that tells."""
    runs = project.runs.filter(kind=Run.Kind.IMPROVE, state=Run.State.SUCCEEDED).order_by("-finished_at")
    for run in runs[:RUNS_LOOKED_AT]:
        if method_of(run) == method and run.result and (pace := _pace_of(run, run.result)):
            return pace
    return None


def _pace_of(run: Run, result: Mapping[str, Any]) -> Pace | None:
    """The pace of a run over all its attempts; None where it does not tell. Its result's seconds are of the last."""
    metrics, seconds = result["metrics"], result["seconds"]
    working = sum(seconds.get(stage, 0.0) for stage in WORK)
    beside = sum(seconds.values()) - working
    if "updates" in metrics:
        return _pace_of_updates(metrics["updates"], working, beside)
    if samples := metrics["counts"].get("samples"):
        drawing = seconds.get("generate", 0.0) + seconds.get("score", 0.0)
        kept = samples / int(run.job.get("n", WAYS[Method.BEST_OF_N].job.n))
        return Pace(drawing / samples, (working - drawing) / kept, beside) if run.attempt == 1 and drawing > 0 else None
    training = metrics["training"]
    rows = int(training["steps"]) * int(run.job.get("examples_per_step") or run.job["rankings_per_step"])
    rate = training.get("tokens_per_second") or 0.0
    if not rows or rate <= 0:
        return None
    learning = training["tokens"] / rate
    return Pace(0.0, learning / rows, beside + max(0.0, working - learning))


def _pace_of_updates(updates: list[dict[str, Any]], working: float, beside: float) -> Pace | None:
    """The pace of PPO; of its last attempt's seconds, those beside its updates and its last look are always spent."""
    if not updates or not all((update.get("samples_per_second") or 0.0) > 0 for update in updates):
        return None
    samples = sum(update["samples"] for update in updates)
    worked = sum(update["samples"] / update["samples_per_second"] for update in updates)
    looking = sum(update.get(part, 0.0) for update in updates for part in LOOK) or RULE_LOOK * worked
    looking = min(looking, worked)
    draw = looking / samples
    last_look = updates[-1]["samples"] * draw
    return Pace(draw, (worked - looking) / samples, beside + max(0.0, working - worked - last_look))


def _ruled(project: Project, wish: Wish) -> Pace | None:
    """The pace by the rule, for this machine's processor cores and, where its size can be read, the model.

    :returns: None on a GPU, of which the rule says nothing.
    """
    if _on_gpu(wish.settings):
        return None
    parameters = space.parameters_of(files.check_model_folder(serving(project).weights_path))
    size = (parameters or RULE_PARAMETERS) / RULE_PARAMETERS
    cores = len(os.sched_getaffinity(0)) / RULE_CORES
    scale = size * project.max_tokens / RULE_TOKENS / cores
    seconds = scale * RULE_SECONDS[wish.method]
    beside = RULE_OVERHEAD * max(1.0, size)
    if wish.method in POLICY_GRADIENT:
        return Pace(RULE_LOOK * seconds, (1 - RULE_LOOK) * seconds, beside)
    if wish.method == Method.BEST_OF_N:
        epochs = int(wish.settings.get("epochs", WAYS[wish.method].job.epochs))
        return Pace(seconds, epochs * scale * RULE_SECONDS[Method.SFT], beside)
    return Pace(0.0, seconds, beside)


def _on_gpu(settings: Settings) -> bool:
    """Whether a job would run on a GPU: by its device, or by whether this machine has one that torch may see."""
    device = str(settings.get("device", "auto"))
    if device != "auto":
        return not device.startswith("cpu")
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() not in ("", "-1") and any(Path("/dev").glob(GPUS))
