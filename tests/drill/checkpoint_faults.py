"""The writer of a checkpoint killed at each of its system calls: what is left is always a checkpoint that loads.

A child process writes the third checkpoint of a training, which ends with the deletion of the first.
Its system calls are counted by ptrace, and it is killed -9 before the first, the second, and so on,
until it survives. After each kill the newest checkpoint that verifies is loaded and compared, number
by number, with what was saved.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rewardmodel.rundir import step_of
from tests.drill.outcome import Outcome

PTRACE_TRACEME, PTRACE_SYSCALL, PTRACE_SETOPTIONS = 0, 24, 0x4200
PTRACE_O_TRACESYSGOOD, PTRACE_O_EXITKILL = 1, 1 << 20
STEPS = (1, 2, 3)

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def drill() -> list[Outcome]:
    """Kill the writer of a reward model's checkpoint, then of PPO's, everywhere."""
    import torch

    torch.set_num_threads(1)
    outcomes = []
    with tempfile.TemporaryDirectory() as name:
        for what, training in (("reward model", _reward_training()), ("PPO", _ppo_training(Path(name)))):
            points, unreadable = _kill_everywhere(Path(name) / what, training)
            figure = f"{unreadable} of {points} kills"
            met = unreadable == 0 and points > 100
            outcomes.append(Outcome(f"{what}: unreadable resumes", figure, "0 of over 100", met))
    return outcomes


@dataclass
class Training:
    """A training whose state can be saved, loaded and laid open."""

    states: dict[int, Any]
    """Where it stood after each of some steps."""
    save: Callable[[Path, Any], None]
    load: Callable[[Path], Any]
    lay_open: Callable[[Any], dict[str, Any]]
    """Everything that a state holds, by name."""


def _kill_everywhere(folder: Path, training: Training) -> tuple[int, int]:
    """Kill the writer before each of its system calls.

    :returns: how many there are, and after how many of the kills no right checkpoint could be loaded.
    """
    from rewardmodel.rundir import open_run

    folder.mkdir()
    with open_run(folder, 1) as run:
        for step in STEPS[:-1]:
            run.publish_checkpoint(step, partial(_save, training, step))
    pristine = folder.with_name(f"{folder.name} before")
    shutil.copytree(folder, pristine)

    def write() -> None:
        with open_run(folder, 2) as run:
            run.publish_checkpoint(STEPS[-1], partial(_save, training, STEPS[-1]))

    point = unreadable = 0
    while True:
        survived = _run_and_kill(write, point)
        with open_run(folder, 3) as run:
            found = run.latest_checkpoint()
        unreadable += found is None or not _is_right(training, found)
        if survived:
            assert found is not None
            assert step_of(found) == STEPS[-1]
            return point, unreadable
        point += 1
        shutil.rmtree(folder)
        shutil.copytree(pristine, folder)


def _save(training: Training, step: int, folder: Path) -> None:
    training.save(folder, training.states[step])


def _is_right(training: Training, checkpoint: Path) -> bool:
    """Whether a checkpoint is one of the last two and loads as what was saved."""
    step = step_of(checkpoint)
    if step < STEPS[-2]:
        return False
    loaded, saved = (training.lay_open(state) for state in (training.load(checkpoint), training.states[step]))
    return loaded.keys() == saved.keys() and all(_equal(loaded[name], saved[name]) for name in saved)


def _run_and_kill(work: Callable[[], None], point: int) -> bool:
    """Do something in a child that is killed before one of its system calls.

    :param point: number of the system call, from 0.
    :returns: whether the child ended before it got there.
    """
    child = os.fork()
    if child == 0:
        libc.ptrace(PTRACE_TRACEME, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        try:
            work()
        except BaseException as problem:
            print(f"  the writer failed: {problem!r}", file=sys.stderr, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    libc.ptrace(PTRACE_SETOPTIONS, child, None, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)
    stops, passed = 0, 0
    while True:
        libc.ptrace(PTRACE_SYSCALL, child, None, passed)
        _pid, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            return True
        passed = 0
        if os.WSTOPSIG(status) != signal.SIGTRAP | 0x80:
            passed = os.WSTOPSIG(status) if os.WSTOPSIG(status) != signal.SIGSTOP else 0
            continue
        stops += 1  # a system call stops its process twice, before it and after it
        if stops == 2 * point + 1:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False


def _equal(one: Any, other: Any) -> bool:
    import torch

    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def _reward_training() -> Training:
    """Small weights of a reward model with an optimiser that has made some steps."""
    import torch

    from rewardmodel.contract import RewardJob
    from rewardmodel.state import Best, MasterWeights, State, load_state, save_state

    def at(step: int) -> State:
        torch.manual_seed(step)
        weights = MasterWeights(
            torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 1)), RewardJob(base_model="")
        )
        state = State(weights, step=step, tokens=100 * step, seconds=float(step))
        for _step in range(step):
            for parameter in weights.parameters:
                parameter.grad = torch.randn_like(parameter)
            weights.step(1e-3)
        state.best = Best(step, 1 / step, weights.copy())
        return state

    def load(folder: Path) -> State:
        state = at(1)
        load_state(folder, state)
        return state

    def lay_open(state: State) -> dict[str, Any]:
        weights = state.weights
        found: dict[str, Any] = {"step": state.step, "tokens": state.tokens, "best": state.best.loss}
        for name, master, best in zip(weights.names, weights.masters, state.best.weights, strict=True):
            found |= {f"{name}": master, f"{name} best": best}
            found |= {f"{name} {key}": value for key, value in weights.optimizer.state[master].items()}
        return found

    return Training({step: at(step) for step in STEPS}, save_state, load, lay_open)


def _ppo_training(folder: Path) -> Training:
    """A tiny policy with adapters, a value head and an optimiser that has made some steps."""
    import torch
    from transformers.utils import logging

    from policy.actor import actor_of
    from policy.contract import ImproveJob
    from policy.state import Checkpoint, State, new_state
    from tests.policy.conftest import make_model

    logging.disable_progress_bar()
    model = make_model(folder / "model")
    job = ImproveJob(policy=str(model), reward_model="", lora_rank=4, lora_layers=1.0)

    def at(step: int) -> State:
        state = new_state(job, actor_of(replace(job, seed=step), torch.float32, torch.device("cpu")))
        state.beta, state.history = 0.1 * step, [{"update": n + 1} for n in range(step)]
        for _step in range(step):
            for name, weights in state.learners.items():
                for parameter in weights.parameters:
                    parameter.grad = torch.randn_like(parameter)
                weights.step(state.learning_rates[name])
        return state

    spare = at(1)

    def load(folder: Path) -> State:
        spare.take_up(Checkpoint.load(folder), folder)
        return spare

    def lay_open(state: State) -> dict[str, Any]:
        held: dict[str, Any] = {"beta": state.beta, "history": state.history}
        for prefix, weights in state.learners.items():
            for name, master in weights.by_name().items():
                held[f"{prefix}.{name}"] = master
                held |= {f"{prefix}.{name} {key}": value for key, value in weights.optimizer.state[master].items()}
        return held

    def save(folder: Path, state: State) -> None:
        state.checkpoint({}).save(folder)

    return Training({step: at(step) for step in STEPS}, save, load, lay_open)
