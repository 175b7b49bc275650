"""The training loop that every trainer on stored rows shares: steps, evaluations on dev, checkpoints, and the end.

What a step learns and how dev is measured are functions of the trainer; order, early stopping and exact
resuming are here. Straight and interrupted trainings end in equal weights, because the order is drawn from
the seed and the number of the epoch, and everything else is in the checkpoint (:mod:`rewardmodel.state`).
A checkpoint that falls due is written once the next loss has shown that its weights still work.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from rewardmodel.contract import JobError
from rewardmodel.rundir import CheckpointClock, RunDir, Stopped
from rewardmodel.state import Best, MasterWeights, Optimisation, State, load_state, member_of, save_state

WINDOW_STEPS = 8
"""Optimiser steps' worth of shuffled rows that are put together by length."""

Metrics = dict[str, Any]


class Schedule(Optimisation, Protocol):
    """What a training job says of its steps; its fields are described where the job is."""

    @property
    def epochs(self) -> int: ...
    @property
    def warmup(self) -> float: ...
    @property
    def evaluations_per_epoch(self) -> int: ...
    @property
    def patience(self) -> int: ...
    @property
    def checkpoint_seconds(self) -> float: ...


@dataclass(frozen=True)
class Lesson:
    """What a training goes over, and how."""

    what: str
    """What its rows are called, for messages: ``rankings``."""
    names: Sequence[str]
    """Of each row."""
    sizes: Sequence[int]
    """Tokens of each row."""
    per_step: int
    """Rows whose gradients make one optimiser step."""
    learn: Callable[[list[int]], tuple[float, Metrics]]
    """Adds the gradients of one step's rows, given by their indices; returns the loss and what else was measured."""
    evaluate: Callable[[], tuple[float, Metrics]] | None
    """Measures dev; returns the loss by which weights are kept, and all that was measured; None without dev."""


def learning_rate_at(step: int, steps: int, job: Schedule) -> float:
    """Linear warm-up over the first steps, then half a cosine down to 0.

    :param step: number of the step, from 0.
    """
    warmup_steps = math.ceil(job.warmup * steps)
    if step < warmup_steps:
        return job.learning_rate * (step + 1) / warmup_steps
    return job.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def evaluation_steps(steps_per_epoch: int, epochs: int, per_epoch: int) -> set[int]:
    """Counts of finished steps after which the dev loss is taken, evenly spread and always at an epoch's end."""
    ends = {math.ceil(steps_per_epoch * part / per_epoch) for part in range(1, per_epoch + 1)}
    return {epoch * steps_per_epoch + end for epoch in range(epochs) for end in ends}


def training_steps(sizes: Sequence[int], per_step: int, seed: int, epoch: int) -> Iterator[list[int]]:
    """The order of one epoch: shuffled, with rows of like length in one step.

    The same arguments give the same order, so training can go on from any step.

    :param sizes: tokens of each row.
    :param per_step: rows of one optimiser step; the last may have fewer.
    :returns: for each step, indices of its rows; each index occurs once.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(sizes), generator=generator).tolist()
    window = WINDOW_STEPS * per_step
    steps = []
    for start in range(0, len(order), window):
        by_length = sorted(order[start : start + window], key=lambda index: sizes[index])
        steps += [by_length[i : i + per_step] for i in range(0, len(by_length), per_step)]
    for index in torch.randperm(len(steps), generator=generator).tolist():
        yield steps[index]


def fit(
    run: RunDir,
    job: Schedule,
    weights: MasterWeights,
    lesson: Lesson,
    *,
    seed: int,
    member: int = 0,
    members: int = 1,
    max_seconds: float = math.inf,
) -> Metrics:
    """Train; leaves the weights of the lowest dev loss, or the last without dev rows.

    Goes on from the run's last checkpoint if it has one of this member. Where the run is to be settled
    (:attr:`rewardmodel.rundir.RunDir.settle_requested`), no further step is made.

    :param weights: what is trained.
    :param seed: of order and dropout.
    :param member: number of the model among the `members` that the run trains one after the other.
    :param max_seconds: no step begins after so many seconds of steps, over all attempts.
    :returns: counts and figures of the training for the result.
    :raises Stopped: when the supervisor asks for an end; a checkpoint is written first.
    :raises JobError: when the loss or its gradient is no longer a number.
    """
    steps_per_epoch = math.ceil(len(lesson.sizes) / lesson.per_step)
    steps = job.epochs * steps_per_epoch
    evaluations = evaluation_steps(steps_per_epoch, job.epochs, job.evaluations_per_epoch) if lesson.evaluate else set()
    state = State(weights, member=member)
    checkpoint = run.latest_checkpoint()
    if checkpoint is not None and member_of(checkpoint) == member:
        load_state(checkpoint, state)
    elif run.settle_requested:
        raise JobError("There is no checkpoint that could be taken as the result.")
    first = state.step
    order: list[list[int]] = []
    clock = CheckpointClock(job.checkpoint_seconds)
    started = time.monotonic()

    def save() -> None:
        run.publish_checkpoint(member * steps + state.step, lambda folder: save_state(folder, state))

    while state.step < steps and state.best.evaluations_since < job.patience and state.seconds < max_seconds:
        if run.settle_requested:
            break
        if run.stop_requested:
            save()
            raise Stopped
        epoch, position = divmod(state.step, steps_per_epoch)
        if position == 0 or not order:
            order = list(training_steps(lesson.sizes, lesson.per_step, seed, epoch))
        chosen = order[position]
        step_started = time.monotonic()
        torch.manual_seed(seed + state.step)  # of dropout, where the base model has some
        loss, measured = lesson.learn(chosen)
        if math.isfinite(loss) and state.step > first and clock.due:
            saving = time.monotonic()
            clock.write(save)
            step_started += time.monotonic() - saving
        norm = weights.step(learning_rate_at(state.step, steps, job))
        state.step += 1
        if not (math.isfinite(loss) and math.isfinite(norm)):
            names = ", ".join(lesson.names[index] for index in chosen)
            raise JobError(f"The loss stopped being a number at step {state.step}, on the {lesson.what} {names}.")
        state.seconds += time.monotonic() - step_started
        state.tokens += sum(lesson.sizes[index] for index in chosen)
        metrics: Metrics = {"loss": loss, **measured, "tokens_per_second": state.tokens / state.seconds}
        if state.step in evaluations:
            assert lesson.evaluate is not None
            metrics |= _evaluate(lesson.evaluate, state)
        done, planned = member * steps + state.step, members * steps
        metrics["seconds_left"] = (time.monotonic() - started) / (state.step - first) * (planned - done)
        run.progress("train", done, planned, **metrics)
    if state.best.weights:
        weights.load(state.best.weights)
    return {
        "seed": seed,
        "steps": state.step,
        "steps_planned": steps,
        "best_step": state.best.step if state.best.weights else state.step,
        "dev_loss": state.best.loss if state.best.weights else None,
        "tokens": state.tokens,
        "tokens_per_second": state.tokens / state.seconds if state.seconds else None,
    }


def _evaluate(evaluate: Callable[[], tuple[float, Metrics]], state: State) -> Metrics:
    """Measure dev, and remember the weights if its loss is the lowest so far.

    :raises JobError: when it is no number.
    """
    loss, measured = evaluate()
    if not math.isfinite(loss):
        raise JobError(f"The loss on the dev rows stopped being a number after step {state.step}.")
    state.best.evaluations_since += 1
    if loss < state.best.loss:
        state.best = Best(state.step, loss, state.weights.copy())
    return measured
