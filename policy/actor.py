"""Everything that PPO asks of networks: the policy, its reference, the critic, and the base model.

By default one trunk serves policy and values, low-rank adapters on its upper blocks learn, and with them off the policy
is its own reference. All weights can learn instead; then the reference is a frozen copy. The critic can have a
trunk of its own, which learns in the same way as the policy's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from policy.contract import Critic, ImproveJob
from policy.decoder import Decoder, answer_tokens
from rewardmodel.batching import Row
from rewardmodel.contract import JobError


@dataclass(frozen=True)
class Observed:
    """What is computed once of every answer before an update; float32 [answers, T] each, 0 after an answer's end."""

    logprobs: Tensor
    """Under the policy that the update begins with."""
    values: Tensor
    """Before each token; 0 without a critic."""
    entropy: Tensor
    """Of the distribution that each token was drawn from, nats."""
    reference: Tensor
    """Log-probabilities under the parent."""
    base: Tensor
    """Log-probabilities under the base model; the reference's where that is the parent."""


class ValueHead(nn.Module):
    """A linear value of a state, which starts at zero (Huang et al. 2024, section 2.3.1), with a trunk where asked."""

    def __init__(self, hidden_size: int, trunk: Decoder | None, device: torch.device) -> None:
        super().__init__()
        self.trunk = trunk
        self.linear = nn.Linear(hidden_size, 1, device=device)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states: Tensor, rows: Sequence[Row], below: Sequence[Tensor] | None) -> Tensor:
        """Values, float32 [tokens].

        :param states: the policy's, [tokens, hidden size]; those of an own trunk are taken instead where there is one.
        """
        own = states if self.trunk is None else self.trunk.states(rows, below)
        return self.linear(own.float())[:, 0]


class Actor(nn.Module):
    """Policy, critic and what they are compared with; see the module's description."""

    def __init__(
        self,
        folder: Path,
        *,
        rank: int,
        alpha: float,
        layers: float,
        dtype: torch.dtype,
        device: torch.device,
        seed: int,
        critic: Critic | None = "shared",
        base: Path | None = None,
    ) -> None:
        """Load the parent and make it ready to learn; it answers as before.

        :param rank: of the adapters; 0 lets all weights learn.
        :param layers: share of the blocks that carry adapters, counted from the top, in (0, 1].
        :param critic: None without values.
        :param base: folder of the base model where that is not the parent.
        :raises JobError: when a model cannot be trained here.
        """
        super().__init__()

        def learner() -> Decoder:
            decoder = Decoder(folder, dtype=dtype, device=device)
            if rank:
                decoder.add_adapters(rank, alpha, layers, seed)
            else:
                decoder.model.requires_grad_(True)
            return decoder

        self.policy = learner()
        self.reference = None if rank else Decoder(folder, dtype=dtype, device=device)
        self.base = None if base is None else Decoder(base, dtype=dtype, device=device)
        if self.base is not None and self.base.shares_rows != self.policy.shares_rows:
            raise JobError(f"The base model in {base} is of another kind than the policy in {folder}.")
        own_trunk = learner() if critic == "separate" else None
        self.critic = None if critic is None else ValueHead(self.policy.hidden_size, own_trunk, device)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.policy.device

    def below(self, rows: Sequence[Row]) -> list[Tensor] | None:
        """What never changes of the rows' states; see :meth:`policy.decoder.Decoder.below`."""
        return self.policy.below(rows)

    def forward(
        self, rows: Sequence[Row], below: Sequence[Tensor] | None, width: int, temperature: float
    ) -> tuple[Tensor, Tensor]:
        """Log-probability of each answer's tokens, and the value before each was drawn.

        :param rows: prompts with their answers.
        :param below: of each row what :meth:`below` gave.
        :param width: T, tokens of the longest answer that the caller pads to.
        :param temperature: softmax temperature of the log-probabilities.
        :returns: log-probabilities and values, both float32 [answers, T], in the order of the rows and
            of the answers in them, 0 after an answer's end.
        """
        targets, lay_out = self._layout(rows, width)
        states = self.policy.states(rows, below)
        return lay_out(self.policy.logprobs(states, targets, temperature)), lay_out(self._values(states, rows, below))

    @torch.no_grad()
    def observe(self, rows: Sequence[Row], below: Sequence[Tensor] | None, width: int, temperature: float) -> Observed:
        """What an update needs of the models as they are before it; arguments as in :meth:`forward`."""
        targets, lay_out = self._layout(rows, width)
        states = self.policy.states(rows, below)
        logprobs, entropy = self.policy.logprobs_and_entropy(states, targets, temperature)
        values = self._values(states, rows, below)
        if self.reference is None:
            with self.policy.without_adapters():
                reference = self.policy.logprobs(self.policy.states(rows, below), targets, temperature)
        else:
            reference = self.reference.logprobs(self.reference.states(rows), targets, temperature)
        base = reference if self.base is None else self.base.logprobs(self.base.states(rows), targets, temperature)
        return Observed(*map(lay_out, (logprobs, values, entropy, reference, base)))

    def _values(self, states: Tensor, rows: Sequence[Row], below: Sequence[Tensor] | None) -> Tensor:
        if self.critic is None:
            return torch.zeros(len(states), device=self.device)
        values: Tensor = self.critic(states, rows, below)
        return values

    def _layout(self, rows: Sequence[Row], width: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The answers' tokens, and what lays numbers of theirs out as [answers, T]."""
        targets, answers, steps = (part.to(self.device) for part in answer_tokens(rows))
        shape = (sum(len(row.responses) for row in rows), width)
        return targets, lambda numbers: numbers.new_zeros(shape).index_put((answers, steps), numbers)


def actor_of(job: ImproveJob, dtype: torch.dtype, device: torch.device) -> Actor:
    """The actor that a job asks for.

    :raises JobError: when a model cannot be trained here.
    """
    return Actor(
        Path(job.policy),
        rank=job.lora_rank,
        alpha=job.lora_alpha,
        layers=job.lora_layers,
        dtype=dtype,
        device=device,
        seed=job.seed,
        critic=job.critic if job.advantage == "gae" else None,
        base=Path(job.base_model) if job.base_model not in ("", job.policy) else None,
    )
