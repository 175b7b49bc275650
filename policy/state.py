"""What one update of PPO hands to the next, in memory and in a checkpoint.

A checkpoint holds everything that the rest of the training depends on, so with an engine that is exact a run that was
interrupted ends in the weights of one that was not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from policy.actor import Actor
from policy.contract import ImproveJob
from rewardmodel.contract import JobError
from rewardmodel.state import MasterWeights

WEIGHTS, OPTIMISER, COUNTERS = "weights.safetensors", "optimiser.safetensors", "state.json"
ADAM_EPSILON = 1e-5

Metrics = dict[str, Any]


@dataclass(frozen=True)
class _Optimisation:
    learning_rate: float
    max_grad_norm: float
    weight_decay: float = 0.0


@dataclass
class State:
    """Where training stands."""

    learners: dict[str, MasterWeights]
    """``policy`` and, where there is one, ``critic``: each has an optimiser and a gradient norm of its own, because the
    value head's gradient is many times the adapters'."""
    learning_rates: dict[str, float]
    """Of each of them."""
    beta: float
    """KL coefficient of the next update."""
    history: list[Metrics] = field(default_factory=list)
    """Metrics of each update made: of the policy before it, and of its steps."""
    final: Metrics = field(default_factory=dict)
    """What was measured of the policy that training ended with."""

    def exact(self) -> dict[str, Tensor]:
        """The policy's trained parameters in float32, by name."""
        return self.learners["policy"].by_name()


def new_state(job: ImproveJob, actor: Actor) -> State:
    """The state before the first update.

    Adam's ε is 1e-5 (Huang et al. 2022, "The 37 implementation details of PPO", detail 3).
    """
    learners = {"policy": MasterWeights(actor.policy, _Optimisation(job.learning_rate, job.max_grad_norm))}
    if actor.critic is not None:
        learners["critic"] = MasterWeights(actor.critic, _Optimisation(job.value_learning_rate, job.max_grad_norm))
    for weights in learners.values():
        weights.optimizer.param_groups[0]["eps"] = ADAM_EPSILON
    rates = {"policy": job.learning_rate, "critic": job.value_learning_rate}
    return State(learners, rates, job.kl_coefficient)


def save_checkpoint(folder: Path, state: State) -> None:
    """Write weights, optimisers and history."""
    named = _masters(state)
    save_file({name: master for name, (_weights, master) in named.items()}, folder / WEIGHTS)
    moments = {
        f"{name}.{key}": tensor
        for name, (weights, master) in named.items()
        for key, tensor in weights.optimizer.state[master].items()
    }
    save_file(moments, folder / OPTIMISER)
    (folder / COUNTERS).write_text(json.dumps({"beta": state.beta, "history": state.history}))


@torch.no_grad()
def load_checkpoint(folder: Path, state: State) -> None:
    """Take up what :func:`save_checkpoint` wrote.

    :raises JobError: when it was written of another model.
    """
    named = _masters(state)
    saved, moments = load_file(folder / WEIGHTS), load_file(folder / OPTIMISER)
    if {name: tensor.shape for name, tensor in saved.items()} != {name: m.shape for name, (_w, m) in named.items()}:
        raise JobError(
            f"The checkpoint {folder} is of another model than the job trains: start a new run, or put the "
            "specification back that it was made with."
        )
    for prefix, weights in state.learners.items():
        weights.load([saved[f"{prefix}.{name}"] for name in weights.names])
    for name, (weights, master) in named.items():
        if f"{name}.step" in moments:  # not of a parameter that has had no gradient yet
            weights.optimizer.state[master] = {
                key: moments[f"{name}.{key}"].to(master.device) for key in ("step", "exp_avg", "exp_avg_sq")
            }
    counters = json.loads((folder / COUNTERS).read_text())
    state.beta, state.history = counters["beta"], counters["history"]


def _masters(state: State) -> dict[str, tuple[MasterWeights, Tensor]]:
    """Every trained parameter in float32 with the learner that it belongs to, by a name of its own."""
    return {
        f"{prefix}.{name}": (weights, master)
        for prefix, weights in state.learners.items()
        for name, master in weights.by_name().items()
    }
