"""What one training step hands to the next, in memory and in a checkpoint.

A checkpoint holds everything that the rest of the training depends on, so a run that was
interrupted ends in the weights of one that was not: float32 weights, the optimiser's moments, the
best weights so far and the counters. Order and dropout need no state, because they are drawn from
the job's seed and the number of the step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rewardmodel.contract import JobError

WEIGHTS, OPTIMISER, BEST, COUNTERS = "weights.safetensors", "optimiser.safetensors", "best.safetensors", "state.json"
VALUES_AT_ONCE = 1 << 21
"""Gradients that are held in float32 at once, unless one parameter has more: few enough to stay in the cache."""


class Optimisation(Protocol):
    """What a training job says of its optimiser; its fields are described where the job is."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def max_grad_norm(self) -> float: ...


class MasterWeights:
    """Float32 copies of the trained parameters, so that small steps are not rounded away in bfloat16.

    Parameters that are float32 already are their own masters. Gradients become float32 a few parameters at a time,
    so that no second set of them is held.

    Source: Micikevicius et al. 2018, "Mixed precision training", section 3.1.
    """

    def __init__(self, model: nn.Module, job: Optimisation) -> None:
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.names = list(trained)
        self.parameters = list(trained.values())
        self.masters = [parameter.detach().float() for parameter in self.parameters]
        self.optimizer = torch.optim.AdamW(
            self.masters, lr=job.learning_rate, weight_decay=job.weight_decay, fused=True
        )
        self.max_grad_norm = job.max_grad_norm

    @torch.no_grad()
    def step(self, learning_rate: float) -> float:
        """Apply and clear the gradients, unless they are no numbers.

        :returns: their 2-norm before clipping.
        """
        norms = [torch.linalg.vector_norm(p.grad, dtype=torch.float32) for p in self.parameters if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(norms)).item()
        if math.isfinite(norm):
            # The optimiser divides the gradients by it while it goes over them.
            divisor = torch.tensor(max(1.0, (norm + 1e-6) / self.max_grad_norm), device=self.masters[0].device)
            self.optimizer.grad_scale = divisor  # type: ignore[attr-defined]
            self.optimizer.param_groups[0]["lr"] = learning_rate
            for group in self._groups():
                for index in group:
                    self.masters[index].grad = self.parameters[index].grad.float()  # type: ignore[union-attr]
                self.optimizer.step()
                for index in group:
                    self.masters[index].grad = None
                    self._set(index, self.masters[index])
        for parameter in self.parameters:
            parameter.grad = None
        return norm

    def _groups(self) -> Iterator[list[int]]:
        """Indices of the parameters with a gradient, a few at a time."""
        group: list[int] = []
        values = 0
        for index, parameter in enumerate(self.parameters):
            if parameter.grad is None:
                continue
            if group and values + parameter.numel() > VALUES_AT_ONCE:
                yield group
                group, values = [], 0
            group.append(index)
            values += parameter.numel()
        if group:
            yield group

    def _set(self, index: int, value: Tensor) -> None:
        if self.parameters[index].data_ptr() != value.data_ptr():
            self.parameters[index].copy_(value)

    @torch.no_grad()
    def load(self, values: Sequence[Tensor]) -> None:
        """Set the model's parameters and their masters."""
        for index, value in enumerate(values):
            self.masters[index].copy_(value)
            self._set(index, value)

    @property
    def steps(self) -> int:
        """Optimiser steps made, as the optimiser counts them."""
        return max((int(known.get("step", 0)) for known in self.optimizer.state.values()), default=0)

    def by_name(self) -> dict[str, Tensor]:
        """The masters, float32, by the names of their parameters."""
        return dict(zip(self.names, self.masters, strict=True))

    def copy(self) -> list[Tensor]:
        """The parameters as they are, to be given to :meth:`load` later."""
        return [master.detach().clone() for master in self.masters]


@dataclass
class Best:
    """The evaluation with the lowest dev loss so far."""

    step: int = 0
    loss: float = math.inf
    weights: list[Tensor] = field(default_factory=list)
    evaluations_since: int = 0


@dataclass
class State:
    """Where training stands."""

    weights: MasterWeights
    best: Best = field(default_factory=Best)
    member: int = 0
    """Which model of an ensemble is trained."""
    step: int = 0
    """Optimiser steps made."""
    tokens: int = 0
    """Tokens learned from, over all attempts."""
    seconds: float = 0.0
    """Time spent in steps, over all attempts."""


def save_state(folder: Path, state: State) -> None:
    """Write a checkpoint's files."""
    weights, best = state.weights, state.best
    save_file(weights.by_name(), folder / WEIGHTS)
    moments = {
        f"{name}.{key}": value
        for name, master in weights.by_name().items()
        for key, value in weights.optimizer.state[master].items()
    }
    save_file(moments, folder / OPTIMISER)
    save_file(dict(zip(weights.names, best.weights, strict=False)), folder / BEST)
    counters = {
        "member": state.member,
        "step": state.step,
        "tokens": state.tokens,
        "seconds": state.seconds,
        "best_step": best.step,
        "best_loss": best.loss if best.weights else None,
        "evaluations_since": best.evaluations_since,
    }
    (folder / COUNTERS).write_text(json.dumps(counters))


def member_of(folder: Path) -> int:
    """Which model of an ensemble a checkpoint belongs to."""
    return int(json.loads((folder / COUNTERS).read_text()).get("member", 0))


@torch.no_grad()
def load_state(folder: Path, state: State) -> None:
    """Take up what :func:`save_state` wrote.

    :raises JobError: when it was written of another model.
    """
    weights = state.weights
    saved, moments, best = (load_file(folder / name) for name in (WEIGHTS, OPTIMISER, BEST))
    shapes = {name: master.shape for name, master in weights.by_name().items()}
    if {name: tensor.shape for name, tensor in saved.items()} != shapes:
        raise JobError(
            f"The checkpoint {folder} is of another model than the job trains: start a new run, or put the "
            "specification back that it was made with."
        )
    weights.load([saved[name] for name in weights.names])
    for name, master in weights.by_name().items():
        if f"{name}.step" in moments:  # not of a parameter that has had no gradient yet
            weights.optimizer.state[master] = {
                key: moments[f"{name}.{key}"].to(master.device) for key in ("step", "exp_avg", "exp_avg_sq")
            }
    counters = json.loads((folder / COUNTERS).read_text())
    state.step, state.tokens, state.seconds = counters["step"], counters["tokens"], counters["seconds"]
    state.best = Best(
        step=counters["best_step"],
        loss=math.inf if counters["best_loss"] is None else counters["best_loss"],
        weights=[best[name].to(weights.masters[0].device) for name in weights.names] if best else [],
        evaluations_since=counters["evaluations_since"],
    )
