"""What is put on and under a language model: low-rank adapters, and a cheap way through its vocabulary head.

The head's logits are never held whole. A block of the vocabulary small enough for the processor's cache is multiplied,
exponentiated and summed before the next one is begun, with the largest logit so far taken out of the sums (Milakov and
Gimelshein 2018, "Online normalizer calculation for softmax", algorithm 3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

BLOCK_LOGITS = 3 << 20
"""Logits that are in memory at once: as float32 they fit the cache of a server's processor."""
SMALLEST_BLOCK = 1024
"""Rows of the head that are multiplied at once, at least."""


class LowRankAdapter(nn.Module):
    """x ↦ (alpha / rank)·B·A·x, added to a frozen linear layer's output (Hu et al. 2022, section 4.1)."""

    def __init__(self, layer: nn.Module, rank: int, alpha: float, generator: torch.Generator) -> None:
        """Put a fresh adapter on a layer, which changes nothing yet.

        :param layer: a linear layer, or GPT-2's Conv1D, whose weight is transposed.
        """
        super().__init__()
        weight: Tensor = layer.weight  # type: ignore[assignment]
        self.transposed = not isinstance(layer, nn.Linear)
        outputs, inputs = weight.shape[::-1] if self.transposed else weight.shape
        bound = 1 / math.sqrt(inputs)
        initial = (torch.rand(rank, inputs, generator=generator) * 2 - 1) * bound
        self.a = nn.Parameter(initial.to(weight.device))
        self.b = nn.Parameter(torch.zeros(outputs, rank, device=weight.device))
        self.scale = alpha / rank
        self.enabled = True
        layer.register_forward_hook(self._add)

    def _add(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not self.enabled:
            return output
        x = inputs[0].flatten(0, -2)
        low = x @ self.a.to(x.dtype).T
        return torch.addmm(output.flatten(0, -2), low, (self.b * self.scale).to(x.dtype).T).view_as(output)

    @torch.no_grad()
    def delta(self) -> Tensor:
        """What the adapter adds to its layer's weight, float32, in the weight's own shape."""
        delta = self.scale * self.b @ self.a
        return delta.T if self.transposed else delta


@dataclass(frozen=True)
class Softmax:
    """What is known of softmax(head·state / temperature) after one pass over the vocabulary; float32."""

    normaliser: Tensor
    """[positions]: logarithm of the sum of the exponentiated logits."""
    mean_row: Tensor | None
    """[positions, hidden size]: mean of the head's rows under the distribution."""
    entropy: Tensor | None
    """[positions], nats."""


def _blocks(head: Tensor, positions: int) -> Iterator[tuple[int, Tensor]]:
    """The head in blocks of rows, each with the number of its first."""
    size = max(SMALLEST_BLOCK, BLOCK_LOGITS // max(1, positions))
    yield from zip(range(0, len(head), size), head.split(size), strict=True)


def scan_vocabulary(states: Tensor, head: Tensor, temperature: float, *, mean_row: bool, entropy: bool) -> Softmax:
    """Summarise the distributions over the next token block by block.

    :param states: [positions, hidden size].
    :param head: [vocabulary, hidden size].
    :param mean_row: whether the mean of the head's rows is wanted, which the gradient needs.
    :param entropy: whether the entropy is wanted.
    """
    highest = states.new_full((len(states), 1), -torch.inf, dtype=torch.float32)
    total, weighted = torch.zeros_like(highest), torch.zeros_like(highest)
    mean = states.new_zeros(states.shape if mean_row else (), dtype=torch.float32)
    for _start, block in _blocks(head, len(states)):
        logits = (states @ block.T).float().div_(temperature)
        higher = torch.maximum(highest, logits.amax(1, keepdim=True))
        shrink = (highest - higher).exp_()
        if entropy:
            weighted = weighted * shrink + ((logits - higher).exp_() * logits).sum(1, keepdim=True)
        powers = logits.sub_(higher).exp_()
        total = total * shrink + powers.sum(1, keepdim=True)
        if mean_row:
            mean = mean.mul_(shrink) + powers.to(head.dtype) @ block
        highest = higher
    normaliser = highest + total.log()
    return Softmax(
        normaliser=normaliser[:, 0],
        mean_row=mean / total if mean_row else None,
        entropy=(normaliser - weighted / total)[:, 0] if entropy else None,
    )


def chosen_logits(states: Tensor, head: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """The logits of given tokens, rounded as a sampler's are, float32 [positions]."""
    products = (states.float() * head[targets].float()).sum(1)
    return products.to(states.dtype).float() / temperature


class TokenLogProbs(torch.autograd.Function):
    """Log-probabilities of given tokens under softmax(head·state / temperature).

    The gradient with respect to the state needs the gradient from above only as a factor:
    d log p(y) / d state = (head[y] − Σ_v p(v)·head[v]) / temperature. Where the head is frozen it is therefore taken in
    the forward pass, with the same logits. Where the head learns too, its logits are computed again in the backward
    pass. No [positions, vocabulary] tensor is ever kept.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, head: Tensor, targets: Tensor, temperature: float) -> Tensor:
        """Log-probabilities, float32 [positions].

        :param states: [positions, hidden size].
        :param head: [vocabulary, hidden size].
        :param targets: int64 [positions].
        :param temperature: softmax temperature.
        """
        frozen = not ctx.needs_input_grad[1]
        found = scan_vocabulary(states, head, temperature, mean_row=frozen and ctx.needs_input_grad[0], entropy=False)
        ctx.temperature = temperature
        if frozen:
            slopes = None if found.mean_row is None else (head[targets] - found.mean_row) / temperature
            ctx.save_for_backward(None if slopes is None else slopes.to(states.dtype))
        else:
            ctx.save_for_backward(states, head, targets, found.normaliser)
        return chosen_logits(states, head, targets, temperature) - found.normaliser

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        """Scale the slopes by the gradient of each log-probability, or compute both gradients anew."""
        if len(ctx.saved_tensors) == 1:
            [slopes] = ctx.saved_tensors
            return (gradients[0][:, None] * slopes).to(slopes.dtype), None, None, None
        states, head, targets, normaliser = ctx.saved_tensors
        factors = (gradients[0] / ctx.temperature)[:, None]
        for_states = factors * head[targets]
        for_head = torch.empty_like(head)
        for start, block in _blocks(head, len(states)):
            logits = (states @ block.T).float().div_(ctx.temperature)
            shares = logits.sub_(normaliser[:, None]).exp_().mul_(factors).to(head.dtype)
            for_states -= shares @ block
            torch.mm(shares.T, states, out=for_head[start : start + len(block)]).neg_()
        for_head.index_add_(0, targets, (factors * states).to(head.dtype))
        return for_states.to(states.dtype), for_head, None, None
