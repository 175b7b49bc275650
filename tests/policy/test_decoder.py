"""Decoders of several families compute what plain transformers computes, and what they write answers as they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from policy.decoder import Decoder, answer_tokens
from rewardmodel.chat import Answer
from rewardmodel.contract import JobError
from tests.policy.conftest import make_model, make_tokenizer

CPU = torch.device("cpu")
ANSWERS = [
    Answer((7, 70, 71, 72), (80, 81, 82, 83)),
    Answer((7, 90, 91, 92, 93, 94), (60,)),
    Answer((7, 70, 71, 72), (84, 85)),
]
SIZE: dict[str, Any] = {
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "initializer_range": 0.3,
}
KINDS = {
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZE)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZE, head_dim=16)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=260, n_embd=32, n_layer=4, n_head=2, n_positions=64, initializer_range=0.3)
    ),
    "sliding window": lambda: MistralForCausalLM(MistralConfig(**SIZE, sliding_window=3)),
}
SHARING = {"llama": True, "qwen2": True, "qwen3": True, "gpt2": True, "sliding window": False}


def save_kind(folder: Path, kind: str) -> Path:
    if kind == "llama":
        return make_model(folder, num_hidden_layers=4)
    torch.manual_seed(0)
    KINDS[kind]().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=list(SHARING))
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory) -> Path:
    return save_kind(tmp_path_factory.mktemp("kinds") / "model", kind)


@pytest.fixture(params=["adapters above", "adapters everywhere", "all weights"])
def decoder(request, folder) -> Decoder:
    """A decoder that has learned something."""
    decoder = Decoder(folder, dtype=torch.float32, device=CPU)
    if request.param == "all weights":
        decoder.model.requires_grad_(True)
    else:
        decoder.add_adapters(4, 8, 0.5 if request.param == "adapters above" else 1.0, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return decoder


def plain_logprobs(model, answer: Answer, temperature: float) -> list[float]:
    """One answer alone through a transformers model, no packing, the whole vocabulary head."""
    with torch.no_grad():
        logits = model(torch.tensor([answer.prompt + answer.response])).logits[0]
    logits = logits[len(answer.prompt) - 1 : -1].double() / temperature
    return logits.log_softmax(-1).gather(1, torch.tensor(answer.response)[:, None])[:, 0].tolist()


def in_order(decoder: Decoder, temperature: float = 0.7) -> list[list[float]]:
    """Log-probabilities of the tokens of each of ANSWERS."""
    rows = decoder.pack(ANSWERS, 100)
    tokens, answers, _steps = answer_tokens(rows)
    found = decoder.logprobs(decoder.states(rows, decoder.below(rows)), tokens, temperature)
    places = [place for row in rows for place in row.places]
    by_place = {place: found[answers == number].tolist() for number, place in enumerate(places)}
    return [by_place[place] for place in range(len(ANSWERS))]


def test_answers_share_a_row_where_the_model_allows_it(folder, kind):
    decoder = Decoder(folder, dtype=torch.float32, device=CPU)
    assert decoder.shares_rows == SHARING[kind]
    assert len(decoder.pack(ANSWERS, 100)) == (2 if SHARING[kind] else 3)


def test_log_probabilities_are_those_of_each_answer_alone(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    decoder = Decoder(folder, dtype=torch.float32, device=CPU)
    decoder.add_adapters(4, 8, 0.5, seed=0)
    for found, answer in zip(in_order(decoder), ANSWERS, strict=True):
        assert found == pytest.approx(plain_logprobs(model, answer, 0.7), abs=1e-5)


def test_what_never_changes_is_computed_once(folder, kind):
    decoder = Decoder(folder, dtype=torch.float32, device=CPU)
    rows = decoder.pack(ANSWERS, 100)
    assert decoder.below(rows) is None
    decoder.add_adapters(4, 8, 0.5, seed=0)
    below = decoder.below(rows)
    if not SHARING[kind]:
        assert below is None
        return
    assert [tuple(states.shape) for states in below] == [(row.tokens, decoder.hidden_size) for row in rows]
    changed = [torch.zeros_like(states) for states in below]
    assert not torch.allclose(decoder.states(rows, below), decoder.states(rows, changed))


@pytest.mark.parametrize("write", ["save", "publish"])
def test_what_is_written_answers_as_what_was_trained(decoder, tmp_path, write):
    before = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    expected = in_order(decoder)
    if write == "save":
        decoder.save(tmp_path / "written")
    else:
        decoder.publish(tmp_path / "written", {n: p.data for n, p in decoder.named_parameters() if p.requires_grad})
        assert AutoTokenizer.from_pretrained(tmp_path / "written").chat_template == make_tokenizer().chat_template
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "written")
    for found, answer in zip(expected, ANSWERS, strict=True):
        assert found == pytest.approx(plain_logprobs(written, answer, 0.7), abs=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in decoder.state_dict().items())


def test_without_its_adapters_a_model_is_what_it_was(folder):
    model = AutoModelForCausalLM.from_pretrained(folder)
    decoder = Decoder(folder, dtype=torch.float32, device=CPU)
    decoder.add_adapters(4, 8, 0.5, seed=0)
    with torch.no_grad():
        for adapter in decoder.adapters:
            adapter.b.normal_(generator=torch.Generator().manual_seed(0))
    with decoder.without_adapters():
        assert in_order(decoder)[0] == pytest.approx(plain_logprobs(model, ANSWERS[0], 0.7), abs=1e-5)
    assert in_order(decoder)[0] != pytest.approx(plain_logprobs(model, ANSWERS[0], 0.7), abs=1e-2)


def test_gradients_in_shared_rows_are_those_of_separate_rows(tiny_model):
    """The same answers with one row for each, adapters on all blocks."""
    gradients = []
    for shares in (True, False):
        decoder = Decoder(tiny_model, dtype=torch.float32, device=CPU)
        decoder.add_adapters(4, 8, 1.0, seed=0)
        with torch.no_grad():
            for adapter in decoder.adapters:
                adapter.b.normal_(generator=torch.Generator().manual_seed(0))
        if not shares:
            decoder.shares_rows = False
            decoder.model.set_attn_implementation("sdpa")
        rows = decoder.pack(ANSWERS, 100)
        decoder.logprobs(decoder.states(rows), answer_tokens(rows)[0], 0.7).sum().backward()
        gradients.append([p.grad for p in decoder.adapters.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_a_policy_trained_in_bfloat16_is_published_in_its_parents_precision(tiny_model, tmp_path):
    decoder = Decoder(tiny_model, dtype=torch.bfloat16, device=CPU)
    decoder.add_adapters(4, 8, 0.5, seed=0)
    decoder.publish(tmp_path / "published", {})
    published = AutoModelForCausalLM.from_pretrained(tmp_path / "published", dtype="auto")
    parent = AutoModelForCausalLM.from_pretrained(tiny_model, dtype="auto")
    for mine, theirs in zip(published.parameters(), parent.parameters(), strict=True):
        assert mine.dtype == torch.float32
        assert torch.equal(mine, theirs)


def test_bfloat16_leaves_the_rotary_frequencies_alone(tiny_model):
    wide, narrow = (Decoder(tiny_model, dtype=dtype, device=CPU) for dtype in (torch.float32, torch.bfloat16))
    frequencies = [dict(decoder.model.named_buffers())["model.rotary_emb.inv_freq"] for decoder in (wide, narrow)]
    assert torch.equal(*frequencies)


def test_a_model_whose_logits_are_more_than_a_product_is_refused(tmp_path):
    torch.manual_seed(0)
    GraniteForCausalLM(GraniteConfig(**SIZE, logits_scaling=8.0)).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(JobError, match="it needs a plain linear vocabulary head on the states of one stack of blocks"):
        Decoder(tmp_path, dtype=torch.float32, device=CPU)


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path):
    folder = make_model(tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(JobError, match=r"The weights model\.norm\.weight of .*broken hold values that are no numbers"):
        Decoder(folder, dtype=torch.float32, device=CPU)
