"""What one training step of a reward model hands to the next, in memory and in a checkpoint.

A checkpoint holds everything that the rest of the training depends on, so a run that was
interrupted ends in the weights of one that was not: float32 weights, the optimiser's moments, the
best weights so far and the counters. Order and dropout need no state, because they are drawn from
the job's seed and the number of the step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rewardmodel.contract import RewardJob

WEIGHTS, OPTIMISER, BEST, COUNTERS = "weights.safetensors", "optimiser.safetensors", "best.safetensors", "state.json"


class MasterWeights:
    """Float32 copies of the trained parameters, so that small steps are not rounded away in bfloat16.

    Source: Micikevicius et al. 2018, "Mixed precision training", section 3.1.
    """

    def __init__(self, model: nn.Module, job: RewardJob) -> None:
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.names = list(trained)
        self.parameters = list(trained.values())
        self.masters = [parameter.detach().float().clone() for parameter in self.parameters]
        self.optimizer = torch.optim.AdamW(self.masters, lr=job.learning_rate, weight_decay=job.weight_decay)
        self.max_grad_norm = job.max_grad_norm

    def step(self, learning_rate: float) -> float:
        """Apply and clear the gradients.

        :returns: their 2-norm before clipping.
        """
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None
        norm = nn.utils.clip_grad_norm_(self.masters, self.max_grad_norm).item()
        if math.isfinite(norm):
            self.optimizer.param_groups[0]["lr"] = learning_rate
            self.optimizer.step()
            self.load(self.masters)
        return norm

    @torch.no_grad()
    def load(self, values: Sequence[Tensor]) -> None:
        """Set the model's parameters."""
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

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
    step: int = 0
    """Optimiser steps made."""
    tokens: int = 0
    """Tokens learned from, over all attempts."""
    seconds: float = 0.0
    """Time spent in steps, over all attempts."""


def save_state(folder: Path, state: State) -> None:
    """Write a checkpoint's files."""
    weights, best = state.weights, state.best
    save_file(dict(zip(weights.names, weights.masters, strict=True)), folder / WEIGHTS)
    moments = {
        f"{name}.{key}": value
        for name, master in zip(weights.names, weights.masters, strict=True)
        for key, value in weights.optimizer.state[master].items()
    }
    save_file(moments, folder / OPTIMISER)
    save_file(dict(zip(weights.names, best.weights, strict=False)), folder / BEST)
    counters = {
        "step": state.step,
        "tokens": state.tokens,
        "seconds": state.seconds,
        "best_step": best.step,
        "best_loss": best.loss if best.weights else None,
        "evaluations_since": best.evaluations_since,
    }
    (folder / COUNTERS).write_text(json.dumps(counters))


@torch.no_grad()
def load_state(folder: Path, state: State) -> None:
    """Take up what :func:`save_state` wrote."""
    weights = state.weights
    saved, moments, best = (load_file(folder / name) for name in (WEIGHTS, OPTIMISER, BEST))
    for name, master in zip(weights.names, weights.masters, strict=True):
        master.copy_(saved[name])
        weights.optimizer.state[master] = {
            # AdamW counts its steps on the CPU wherever the weights lie.
            key: moments[f"{name}.{key}"].to("cpu" if key == "step" else master.device)
            for key in ("step", "exp_avg", "exp_avg_sq")
        }
    weights.load(weights.masters)
    counters = json.loads((folder / COUNTERS).read_text())
    state.step, state.tokens, state.seconds = counters["step"], counters["tokens"], counters["seconds"]
    state.best = Best(
        step=counters["best_step"],
        loss=math.inf if counters["best_loss"] is None else counters["best_loss"],
        weights=[best[name].to(weights.masters[0].device) for name in weights.names] if best else [],
        evaluations_since=counters["evaluations_since"],
    )
