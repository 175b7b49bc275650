"""What one update of PPO hands to the next, in memory and in a checkpoint.

A checkpoint holds everything that the rest of the training depends on, so with an engine that is exact a run that was
interrupted ends in the weights of one that was not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

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


@dataclass(frozen=True)
class Checkpoint:
    """A policy that was looked at, with all that the rest of its training depends on; tensors float32 on the CPU."""

    weights: dict[str, Tensor]
    """Every trained parameter, by learner and name."""
    moments: dict[str, Tensor]
    """What the optimisers know of it; nothing of a parameter that has had no gradient yet."""
    beta: float
    history: list[Metrics]
    measured: Metrics
    """What was measured of the policy."""

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        save_file(self.weights, folder / WEIGHTS)
        save_file(self.moments, folder / OPTIMISER)
        counters = {"beta": self.beta, "history": self.history, "measured": self.measured}
        (folder / COUNTERS).write_text(json.dumps(counters))

    @classmethod
    def load(cls, folder: Path) -> Checkpoint:
        """What :meth:`save` wrote."""
        counters = {"measured": {}, **json.loads((folder / COUNTERS).read_text())}  # older ones lack it
        return cls(load_file(folder / WEIGHTS), load_file(folder / OPTIMISER), **counters)


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
    ended_by: Literal["updates", "kl", "time"] = "updates"
    """Why training ended: all updates were made, the next policy was too far away, or no time was left."""

    def exact(self) -> dict[str, Tensor]:
        """The policy's trained parameters in float32, by name."""
        return self.learners["policy"].by_name()

    @torch.no_grad()
    def checkpoint(self, measured: Metrics) -> Checkpoint:
        """A copy of everything.

        :param measured: of the policy as it stands.
        """
        named = self._masters()
        return Checkpoint(
            weights={name: master.to("cpu", copy=True) for name, (_weights, master) in named.items()},
            moments={
                f"{name}.{key}": tensor.to("cpu", copy=True)
                for name, (weights, master) in named.items()
                for key, tensor in weights.optimizer.state[master].items()
            },
            beta=self.beta,
            history=list(self.history),
            measured=measured,
        )

    @torch.no_grad()
    def take_up(self, checkpoint: Checkpoint, source: Path) -> None:
        """Become what a checkpoint is a copy of.

        :param source: where it comes from, for the refusal.
        :raises JobError: when it is of another model.
        """
        named = self._masters()
        shapes = {name: master.shape for name, (_weights, master) in named.items()}
        if {name: tensor.shape for name, tensor in checkpoint.weights.items()} != shapes:
            raise JobError(
                f"The checkpoint {source} is of another model than the job trains: start a new run, or put the "
                "specification back that it was made with."
            )
        for prefix, weights in self.learners.items():
            weights.load([checkpoint.weights[f"{prefix}.{name}"] for name in weights.names])
        for name, (weights, master) in named.items():
            if f"{name}.step" in checkpoint.moments:
                weights.optimizer.state[master] = {
                    key: checkpoint.moments[f"{name}.{key}"].to(master.device, copy=True)
                    for key in ("step", "exp_avg", "exp_avg_sq")
                }
        self.beta, self.history, self.final = checkpoint.beta, list(checkpoint.history), checkpoint.measured

    def _masters(self) -> dict[str, tuple[MasterWeights, Tensor]]:
        """Every trained parameter in float32 with the learner that it belongs to, by a name of its own."""
        return {
            f"{prefix}.{name}": (weights, master)
            for prefix, weights in self.learners.items()
            for name, master in weights.by_name().items()
        }


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
