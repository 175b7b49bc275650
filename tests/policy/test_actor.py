"""The actor computes what plain transformers computes, and its merged weights answer as it does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GraniteConfig,
    GraniteForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from policy.actor import Actor, TokenLogProbs
from rewardmodel.batching import pack
from rewardmodel.chat import Answer
from rewardmodel.contract import JobError
from tests.policy.conftest import make_tokenizer

CPU = torch.device("cpu")
ANSWERS = [
    Answer((70, 71, 72), (80, 81, 82, 83)),
    Answer((90, 91, 92, 93, 94), (60,)),
    Answer((70, 71, 72), (84, 85)),
]


def make_actor(folder: Path, dtype: torch.dtype = torch.float32, layers: float = 0.5) -> Actor:
    return Actor(folder, rank=4, alpha=8, layers=layers, dtype=dtype, device=CPU, seed=0)


@pytest.fixture(params=[0.5, 1.0], ids=["upper half", "all layers"])
def actor(request, tiny_model) -> Actor:
    return make_actor(tiny_model, layers=request.param)


@pytest.fixture
def moved(actor) -> Actor:
    """An actor whose adapters and value head are no longer at their start."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in actor.trained().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return actor


def plain_logprobs(model, answer: Answer, temperature: float) -> list[float]:
    """One answer alone through a transformers model, no packing, the whole vocabulary head."""
    with torch.no_grad():
        logits = model(torch.tensor([answer.prompt + answer.response])).logits[0]
    logits = logits[len(answer.prompt) - 1 : -1].double() / temperature
    return logits.log_softmax(-1).gather(1, torch.tensor(answer.response)[:, None])[:, 0].tolist()


def in_order(actor: Actor, temperature: float = 0.7):
    """Log-probabilities and values [answers, 4] in the order of ANSWERS."""
    rows = pack(ANSWERS, True, 100)
    logprobs, values = actor(rows, actor.below(rows), 4, temperature)
    order = torch.tensor([place for row in rows for place in row.places]).argsort()
    return logprobs[order], values[order]


def test_log_probabilities_of_answers_in_one_row_are_those_of_each_alone(actor, tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    logprobs, _ = in_order(actor)
    for row, answer in zip(logprobs.tolist(), ANSWERS, strict=True):
        length = len(answer.response)
        assert row[:length] == pytest.approx(plain_logprobs(model, answer, 0.7), abs=1e-5)
        assert row[length:] == [0.0] * (4 - length)


def test_fresh_adapters_change_nothing_and_the_value_head_starts_at_zero(actor):
    logprobs, values = in_order(actor)
    with actor.as_reference():
        reference, _ = in_order(actor)
    assert torch.equal(logprobs, reference)
    assert not values.any()


def test_the_reference_stays_the_parent_whatever_the_adapters_learn(moved, tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    with moved.as_reference():
        reference, _ = in_order(moved)
    assert reference[0].tolist() == pytest.approx(plain_logprobs(model, ANSWERS[0], 0.7), abs=1e-5)
    assert (in_order(moved)[0][0] - reference[0]).abs().max() > 0.01


def test_values_are_taken_before_each_token_is_drawn(moved):
    """The first value of every answer to a prompt is the same: none of them has begun."""
    _, values = in_order(moved)
    assert values[0, 0].item() == pytest.approx(values[2, 0].item(), abs=1e-6)
    assert values[0, 1].item() != pytest.approx(values[2, 1].item(), abs=1e-3)


@pytest.mark.parametrize("save", ["save_merged", "publish_merged"])
def test_merged_weights_answer_like_the_parent_with_its_adapters(moved, tmp_path, save):
    before = {name: tensor.clone() for name, tensor in moved.state_dict().items()}
    getattr(moved, save)(tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    logprobs, _ = in_order(moved)
    for row, answer in zip(logprobs.tolist(), ANSWERS, strict=True):
        assert row[: len(answer.response)] == pytest.approx(plain_logprobs(merged, answer, 0.7), abs=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in moved.state_dict().items())


def test_a_policy_trained_in_bfloat16_is_published_in_its_parents_precision(tiny_model, tmp_path):
    actor = make_actor(tiny_model, torch.bfloat16)
    actor.publish_merged(tmp_path / "published")
    published = AutoModelForCausalLM.from_pretrained(tmp_path / "published", dtype="auto")
    parent = AutoModelForCausalLM.from_pretrained(tiny_model, dtype="auto")
    for mine, theirs in zip(published.parameters(), parent.parameters(), strict=True):
        assert mine.dtype == torch.float32
        assert torch.equal(mine, theirs)
    assert AutoTokenizer.from_pretrained(tmp_path / "published").chat_template == make_tokenizer().chat_template


def test_adapters_survive_a_file(moved, tiny_model, tmp_path):
    moved.save_adapters(tmp_path / "adapters.safetensors")
    again = make_actor(tiny_model, layers=1.0 if len(moved.adapters) == 14 else 0.5)
    again.load_adapters(tmp_path / "adapters.safetensors")
    for mine, theirs in zip(in_order(again), in_order(moved), strict=True):
        assert torch.equal(mine, theirs)


def test_gradients_through_the_head_are_those_of_log_softmax():
    torch.manual_seed(0)
    states = torch.randn(700, 6, dtype=torch.float64, requires_grad=True)
    head, targets = torch.randn(11, 6, dtype=torch.float64), torch.randint(11, (700,))
    factors = torch.randn(700, dtype=torch.float64)
    logprobs = TokenLogProbs.apply(states, head, targets, 0.7)
    [gradient] = torch.autograd.grad((logprobs * factors).sum(), states)
    expected = (states @ head.T / 0.7).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    [expected_gradient] = torch.autograd.grad((expected * factors).sum(), states)
    assert torch.allclose(logprobs.double(), expected, atol=1e-5)
    assert torch.allclose(gradient, expected_gradient, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        lambda size: GraniteForCausalLM(GraniteConfig(**size, logits_scaling=8.0)),
        lambda size: MistralForCausalLM(MistralConfig(**size, sliding_window=3)),
    ],
    ids=["scaled logits", "sliding window"],
)
def test_a_model_that_the_trainer_would_compute_differently_is_refused(tmp_path, model):
    torch.manual_seed(0)
    size = {
        "vocab_size": 260,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "initializer_range": 0.3,
    }
    model(size).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(
        JobError, match="it needs full attention, a plain stack of layers and a plain linear vocabulary head"
    ):
        make_actor(tmp_path)


def test_bfloat16_leaves_the_rotary_frequencies_alone(tiny_model):
    wide, narrow = make_actor(tiny_model), make_actor(tiny_model, torch.bfloat16)
    frequencies = [dict(actor.model.named_buffers())["model.rotary_emb.inv_freq"] for actor in (wide, narrow)]
    assert torch.equal(*frequencies)
