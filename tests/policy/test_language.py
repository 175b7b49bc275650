"""A model in fine-tuning says of stored answers what plain transformers says of each by itself."""

from __future__ import annotations

import pytest
import torch

from policy.language import LanguageModel, token_logprobs
from policy.methods import FineTuneJob
from rewardmodel.chat import Answer
from rewardmodel.contract import JobError
from rewardmodel.state import MasterWeights
from tests.policy.learners import FAST, KINDS, loaded, make_kind, plain_logprob

ANSWERS = [
    Answer((70, 71, 72), (80, 81, 82, 83)),
    Answer((70, 71, 90, 93, 94), (60,)),
    Answer((70, 71, 72), (84, 85)),
    Answer((70, 71), (72, 73, 74)),
]
"""Two to one prompt, and a prompt that begins all others."""


@pytest.fixture(scope="module", params=[*KINDS, "scaled"])
def folder(request, tmp_path_factory):
    return make_kind(tmp_path_factory.mktemp("kinds") / request.param, request.param)


def language_model(folder, **changes) -> LanguageModel:
    return LanguageModel(FineTuneJob(**{"policy": str(folder), "temperature": 0.7, **FAST, **changes}))


def sums(model: LanguageModel, answers=ANSWERS) -> list[float]:
    """Log-probability of each answer."""
    logprobs, places = model(model.pack(answers))
    return torch.zeros(len(answers)).index_add(0, places, logprobs).tolist()


@pytest.mark.parametrize("rank", [0, 4], ids=["all weights", "adapters"])
def test_log_probabilities_are_those_of_plain_transformers_for_each_answer_alone(folder, rank):
    model = language_model(folder, lora_rank=rank)
    plain = loaded(folder)
    expected = [plain_logprob(plain, a.prompt, a.response, 0.7) for a in ANSWERS]
    with torch.no_grad():
        assert sums(model) == pytest.approx(expected, abs=1e-4)


def test_known_kinds_share_rows_and_scaled_logits_are_read_through_the_whole_model(tmp_path):
    for kind in (*KINDS, "scaled"):
        model = language_model(make_kind(tmp_path / kind, kind))
        assert (model.shares_rows, model.plain_head) == ((False, False) if kind == "scaled" else (True, True))


def test_gradients_reach_adapters_alone_or_every_weight_and_are_those_of_plain_transformers(folder):
    plain = loaded(folder)
    answer = ANSWERS[0]
    logits = plain(torch.tensor([answer.prompt + answer.response])).logits[0, len(answer.prompt) - 1 : -1] / 0.7
    logits.log_softmax(-1).gather(1, torch.tensor(answer.response)[:, None]).sum().backward()
    whole = language_model(folder, lora_rank=0)
    logprobs, _places = whole(whole.pack([answer]))
    logprobs.sum().backward()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(whole.model.get_parameter(name).grad, parameter.grad, atol=1e-4, rtol=1e-3)
    adapted = language_model(folder)
    adapted(adapted.pack([answer]))[0].sum().backward()
    trained = {name for name, p in adapted.named_parameters() if p.grad is not None}
    assert trained
    assert all("lora_" in name for name in trained)


@pytest.mark.parametrize("rank", [0, 4], ids=["all weights", "adapters"])
def test_what_is_published_answers_as_the_trained_model_does(folder, tmp_path, rank):
    model = language_model(folder, lora_rank=rank)
    generator = torch.Generator().manual_seed(1)
    weights = MasterWeights(model, model.job)
    weights.load([m + 0.05 * torch.randn(m.shape, generator=generator) for m in weights.masters])
    model.publish(tmp_path / "published", weights.by_name())
    published = loaded(tmp_path / "published")
    with torch.no_grad():
        mine = sums(model)
    assert mine == pytest.approx([plain_logprob(published, a.prompt, a.response, 0.7) for a in ANSWERS], abs=1e-3)
    parent = loaded(folder)
    assert mine[0] != pytest.approx(plain_logprob(parent, ANSWERS[0].prompt, ANSWERS[0].response, 0.7), abs=0.1)


def test_a_policy_trained_in_bfloat16_is_published_in_its_parents_precision(tmp_path):
    folder = make_kind(tmp_path / "parent", "llama")
    model = language_model(folder, dtype="bfloat16", lora_rank=0)
    weights = MasterWeights(model, model.job)
    exact = {name: value.clone() for name, value in loaded(folder).named_parameters()}
    weights.load([exact[name.removeprefix("model.")] for name in weights.names])
    model.publish(tmp_path / "published", weights.by_name())
    for name, value in loaded(tmp_path / "published").named_parameters():
        assert value.dtype == torch.float32
        assert torch.equal(value, exact[name])


def test_a_trained_head_gives_the_values_and_gradients_of_log_softmax():
    torch.manual_seed(0)
    states = torch.randn(700, 6, requires_grad=True)
    head = torch.randn(11, 6, requires_grad=True)
    targets, factors = torch.randint(11, (700,)), torch.randn(700)
    expected = (states @ head.T / 0.7).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    wanted = torch.autograd.grad((expected * factors).sum(), [states, head])
    found = token_logprobs(states, head, targets, 0.7)
    torch.testing.assert_close(found, expected)
    for mine, theirs in zip(torch.autograd.grad((found * factors).sum(), [states, head]), wanted, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_rows_longer_than_the_model_reads_are_refused_before_training(tmp_path):
    folder = make_kind(tmp_path / "gpt2", "gpt2")
    with pytest.raises(JobError, match=r"max_tokens is 1024, but .* takes at most 256 tokens"):
        language_model(folder, max_tokens=1024)
