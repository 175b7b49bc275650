"""The way through the vocabulary head, block by block, against the whole softmax; and adapters."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.pytorch_utils import Conv1D

from policy import modules
from policy.modules import LowRankAdapter, TokenLogProbs, scan_vocabulary

POSITIONS, HIDDEN, VOCABULARY, TEMPERATURE = 70, 6, 110, 0.7


@pytest.fixture
def small_blocks(monkeypatch):
    """The vocabulary in six blocks, the last of them shorter."""
    monkeypatch.setattr(modules, "BLOCK_LOGITS", POSITIONS * 20)
    monkeypatch.setattr(modules, "SMALLEST_BLOCK", 20)


def drawn(dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(POSITIONS, HIDDEN, generator=generator) * 3
    head = torch.randn(VOCABULARY, HIDDEN, generator=generator)
    targets = torch.randint(VOCABULARY, (POSITIONS,), generator=generator)
    factors = torch.randn(POSITIONS, generator=generator)
    return states.to(dtype), head.to(dtype), targets, factors


def by_definition(states, head, targets):
    """Float64 log-probabilities out of the whole softmax."""
    return (states @ head.T / TEMPERATURE).log_softmax(-1).gather(1, targets[:, None])[:, 0]


@pytest.mark.parametrize("learns", ["states", "states and head"])
def test_gradients_through_the_head_are_those_of_log_softmax(small_blocks, learns):
    states, head, targets, factors = drawn()
    inputs = [states.requires_grad_()] + ([head.requires_grad_()] if "head" in learns else [])
    logprobs = TokenLogProbs.apply(states, head, targets, TEMPERATURE)
    found = torch.autograd.grad((logprobs * factors).sum(), inputs)
    exact = [tensor.detach().double().requires_grad_() for tensor in (states, head)]
    expected = by_definition(*exact, targets)
    expected_gradients = torch.autograd.grad((expected * factors.double()).sum(), exact)
    assert torch.allclose(logprobs.double(), expected, atol=1e-5)
    for mine, theirs in zip(found, expected_gradients, strict=False):
        assert torch.allclose(mine.double(), theirs, atol=1e-5)


def test_entropy_is_that_of_the_whole_softmax(small_blocks):
    states, head, _targets, _factors = drawn()
    found = scan_vocabulary(states, head, TEMPERATURE, mean_row=False, entropy=True)
    assert found.mean_row is None
    whole = (states.double() @ head.double().T / TEMPERATURE).log_softmax(-1)
    assert torch.allclose(found.entropy.double(), -(whole.exp() * whole).sum(1), atol=1e-5)


def test_large_logits_do_not_overflow(small_blocks):
    states, head, targets, _factors = drawn()
    logprobs = TokenLogProbs.apply(states * 300, head, targets, TEMPERATURE)
    expected = by_definition(states.double() * 300, head.double(), targets)
    assert torch.allclose(logprobs.double(), expected, rtol=1e-5)


def test_in_bfloat16_the_error_is_that_of_rounding_the_logits(small_blocks):
    states, head, targets, _factors = drawn(torch.bfloat16)
    logprobs = TokenLogProbs.apply(states, head, targets, TEMPERATURE)
    logits = (states @ head.T).double() / TEMPERATURE
    expected = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    assert torch.allclose(logprobs.double(), expected, atol=1e-3)


class _Largest(TorchDispatchMode):
    """Remembers the most numbers of any tensor that is made."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return out


@pytest.mark.parametrize("learns", ["states", "states and head"])
def test_no_softmax_over_all_positions_and_the_whole_vocabulary_is_ever_made(small_blocks, learns):
    states, head, targets, factors = drawn()
    states.requires_grad_()
    head.requires_grad_("head" in learns)
    with _Largest() as largest:
        (TokenLogProbs.apply(states, head, targets, TEMPERATURE) * factors).sum().backward()
    assert largest.numbers <= POSITIONS * 20 < POSITIONS * VOCABULARY


@pytest.mark.parametrize("layer", [nn.Linear(5, 3), Conv1D(3, 5)], ids=["linear", "transposed"])
def test_an_adapter_adds_what_its_delta_adds_to_the_weight(layer):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 5, generator=generator)
    plain = layer(x)
    adapter = LowRankAdapter(layer, rank=2, alpha=6, generator=generator)
    assert torch.equal(layer(x), plain)
    with torch.no_grad():
        adapter.b.normal_(generator=generator)
    adapted = layer(x)
    adapter.enabled = False
    assert torch.equal(layer(x), plain)
    with torch.no_grad():
        layer.weight += adapter.delta()
    assert torch.allclose(layer(x), adapted, atol=1e-5)
    assert (adapted - plain).abs().max() > 0.1
