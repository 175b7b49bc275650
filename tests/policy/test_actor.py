"""What PPO asks of its networks: reference, base, values, and what of them learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from policy.actor import Actor
from rewardmodel.chat import Answer
from tests.policy.test_decoder import plain_logprobs

CPU = torch.device("cpu")
ANSWERS = [
    Answer((70, 71, 72), (80, 81, 82, 83)),
    Answer((90, 91, 92, 93, 94), (60,)),
    Answer((70, 71, 72), (84, 85)),
]


def make_actor(folder: Path, **changes: Any) -> Actor:
    settings = {"rank": 4, "alpha": 8, "layers": 0.5, "dtype": torch.float32, "device": CPU, "seed": 0, **changes}
    return Actor(folder, **settings)


def move(actor: Actor) -> Actor:
    """Let everything that learns have learned something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in actor.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return actor


def observed(actor: Actor) -> dict[str, torch.Tensor]:
    """What an update needs [answers, 4], and what training computes, in the order of ANSWERS."""
    rows = actor.policy.pack(ANSWERS, 100)
    order = torch.tensor([place for row in rows for place in row.places]).argsort()
    below = actor.below(rows)
    found = vars(actor.observe(rows, below, 4, 0.7))
    logprobs, values = actor(rows, below, 4, 0.7)
    trained = {"trained_logprobs": logprobs.detach(), "trained_values": values.detach()}
    return {name: tensor[order] for name, tensor in {**found, **trained}.items()}


@pytest.mark.parametrize("rank", [4, 0], ids=["adapters", "all weights"])
def test_at_first_policy_reference_and_base_are_the_parent_and_values_are_zero(tiny_model, rank):
    found = observed(make_actor(tiny_model, rank=rank))
    assert torch.allclose(found["logprobs"], found["reference"], atol=1e-6)
    assert torch.equal(found["reference"], found["base"])
    assert not found["values"].any()
    assert (found["logprobs"] != 0).tolist() == [[True] * 4, [True, False, False, False], [True, True, False, False]]


@pytest.mark.parametrize("rank", [4, 0], ids=["adapters", "all weights"])
def test_the_reference_stays_the_parent_whatever_is_learned(tiny_model, rank):
    found = observed(move(make_actor(tiny_model, rank=rank)))
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert found["reference"][0].tolist() == pytest.approx(plain_logprobs(model, ANSWERS[0], 0.7), abs=1e-5)
    assert (found["logprobs"][0] - found["reference"][0]).abs().max() > 0.01


def test_the_base_is_a_model_of_its_own(tiny_model, other_tiny_model):
    found = observed(make_actor(tiny_model, base=other_tiny_model))
    model = AutoModelForCausalLM.from_pretrained(other_tiny_model)
    assert found["base"][0].tolist() == pytest.approx(plain_logprobs(model, ANSWERS[0], 0.7), abs=1e-5)


@pytest.mark.parametrize("critic", ["shared", "separate"])
@pytest.mark.parametrize("rank", [4, 0], ids=["adapters", "all weights"])
def test_what_is_observed_is_what_training_begins_with(tiny_model, rank, critic):
    found = observed(move(make_actor(tiny_model, rank=rank, critic=critic)))
    assert torch.allclose(found["logprobs"], found["trained_logprobs"], atol=1e-5)
    assert torch.allclose(found["values"], found["trained_values"], atol=1e-5)


def test_entropy_is_that_of_the_distribution_each_token_was_drawn_from(tiny_model):
    found = observed(make_actor(tiny_model))
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    answer = ANSWERS[0]
    with torch.no_grad():
        logits = model(torch.tensor([answer.prompt + answer.response])).logits[0, 2:-1].double()
    whole = (logits / 0.7).log_softmax(-1)
    assert found["entropy"][0].tolist() == pytest.approx((-(whole.exp() * whole).sum(1)).tolist(), abs=1e-4)


def test_values_are_taken_before_each_token_is_drawn(tiny_model):
    """The first value of every answer to a prompt is the same: none of them has begun."""
    values = observed(move(make_actor(tiny_model)))["values"]
    assert values[0, 0].item() == pytest.approx(values[2, 0].item(), abs=1e-6)
    assert values[0, 1].item() != pytest.approx(values[2, 1].item(), abs=1e-3)


def gradients(actor: Actor, what: str) -> dict[str, bool]:
    """Which parameters that learn are moved by the sum of log-probabilities or of values."""
    rows = actor.policy.pack(ANSWERS, 100)
    logprobs, values = actor(rows, actor.below(rows), 4, 0.7)
    (logprobs if what == "logprobs" else values).sum().backward()
    return {
        name: parameter.grad is not None and bool(parameter.grad.any())
        for name, parameter in actor.named_parameters()
        if parameter.requires_grad
    }


def test_a_shared_trunk_learns_from_the_values_too(tiny_model):
    moved = gradients(move(make_actor(tiny_model)), "values")
    assert any(any_moved for name, any_moved in moved.items() if name.startswith("policy."))


def test_a_critic_of_its_own_leaves_the_policy_alone(tiny_model):
    moved = gradients(move(make_actor(tiny_model, critic="separate")), "values")
    assert {name.split(".")[0] for name, any_moved in moved.items() if any_moved} == {"critic"}
    assert any(any_moved for name, any_moved in moved.items() if name.startswith("critic.trunk."))


def test_without_a_critic_there_is_nothing_to_learn_values_with(tiny_model):
    actor = make_actor(tiny_model, critic=None)
    assert not observed(actor)["values"].any()
    assert {name.split(".")[0] for name, p in actor.named_parameters() if p.requires_grad} == {"policy"}


def test_all_weights_means_all_weights(tiny_model):
    actor = make_actor(tiny_model, rank=0)
    assert all(parameter.requires_grad for parameter in actor.policy.parameters())
    assert not any(parameter.requires_grad for parameter in actor.reference.parameters())
    moved = gradients(move(actor), "logprobs")
    assert all(any_moved for name, any_moved in moved.items() if name.startswith("policy."))
