"""What is put on and under a frozen language model: low-rank adapters, and a cheap way through its head."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

HEAD_CHUNK = 512
"""Positions whose logits are in memory at once."""


class LowRankAdapter(nn.Module):
    """x ↦ (alpha / rank)·B·A·x, added to a frozen linear layer's output (Hu et al. 2022, section 4.1)."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(layer.in_features)
        device = layer.weight.device
        initial = (torch.rand(rank, layer.in_features, generator=generator) * 2 - 1) * bound
        self.a = nn.Parameter(initial.to(device))
        self.b = nn.Parameter(torch.zeros(layer.out_features, rank, device=device))
        self.scale = alpha / rank
        self.enabled = True
        layer.register_forward_hook(self._add)

    def _add(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not self.enabled:
            return output
        x = inputs[0]
        return output + (x @ self.a.to(x.dtype).T) @ (self.b * self.scale).to(x.dtype).T

    @torch.no_grad()
    def delta(self) -> Tensor:
        """What the adapter adds to its layer's weight, float32 [out, in]."""
        return self.scale * self.b @ self.a


class TokenLogProbs(torch.autograd.Function):
    """Log-probabilities of given tokens under softmax(head·state / temperature), the head being frozen.

    The gradient with respect to the state does not need the gradient from above except as a factor:
    d log p(y) / d state = (head[y] − Σ_v p(v)·head[v]) / temperature. It is therefore taken in the
    forward pass, chunk by chunk, and no [positions, vocabulary] tensor is ever kept.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, head: Tensor, targets: Tensor, temperature: float) -> Tensor:
        """Log-probabilities, float32 [positions].

        :param states: [positions, hidden size].
        :param head: [vocabulary, hidden size].
        :param targets: int64 [positions].
        :param temperature: softmax temperature.
        """
        logprobs = torch.empty(len(targets), dtype=torch.float32, device=states.device)
        slopes = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        for start in range(0, len(targets), HEAD_CHUNK):
            part = slice(start, start + HEAD_CHUNK)
            logits = (states[part] @ head.T).float().div_(temperature)
            chosen = logits.gather(1, targets[part, None])[:, 0]
            normaliser = logits.logsumexp(dim=1)
            logprobs[part] = chosen - normaliser
            if slopes is not None:
                probabilities = logits.sub_(normaliser[:, None]).exp_().to(head.dtype)
                slopes[part] = (head[targets[part]] - probabilities @ head) / temperature
        ctx.save_for_backward(slopes)
        return logprobs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """Scale the slopes by the gradient of each log-probability."""
        [slopes] = ctx.saved_tensors
        return (gradients[0][:, None] * slopes).to(slopes.dtype), None, None, None
