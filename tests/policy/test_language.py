"""A model in fine-tuning says of stored answers what plain transformers says of each by itself."""

from __future__ import annotations

import pytest
import torch

from policy.language import LanguageModel
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


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    return make_kind(tmp_path_factory.mktemp("kinds") / request.param, request.param)


def language_model(folder, **changes) -> LanguageModel:
    return LanguageModel(
        FineTuneJob(**{"policy": str(folder), "learning_rate": 1e-4, "temperature": 0.7, **FAST, **changes})
    )


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


def test_known_kinds_share_rows_and_scaled_logits_are_refused(tmp_path):
    for kind in KINDS:
        assert language_model(make_kind(tmp_path / kind, kind)).decoder.shares_rows
    with pytest.raises(JobError, match="computes its answers in a way that cannot be followed here"):
        language_model(make_kind(tmp_path / "scaled", "scaled"))


def test_gradients_reach_adapters_alone_or_every_weight_and_are_those_of_plain_transformers(folder):
    plain = loaded(folder)
    answer = ANSWERS[0]
    logits = plain(torch.tensor([answer.prompt + answer.response])).logits[0, len(answer.prompt) - 1 : -1] / 0.7
    logits.log_softmax(-1).gather(1, torch.tensor(answer.response)[:, None]).sum().backward()
    whole = language_model(folder, lora_rank=0)
    logprobs, _places = whole(whole.pack([answer]))
    logprobs.sum().backward()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(whole.decoder.model.get_parameter(name).grad, parameter.grad, atol=1e-4, rtol=1e-3)
    adapted = language_model(folder)
    adapted(adapted.pack([answer]))[0].sum().backward()
    trained = {name for name, p in adapted.named_parameters() if p.grad is not None}
    assert trained
    assert all(".adapters." in name for name in trained)


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
    weights.load([exact[name.removeprefix("decoder.model.")] for name in weights.names])
    model.publish(tmp_path / "published", weights.by_name())
    for name, value in loaded(tmp_path / "published").named_parameters():
        assert value.dtype == torch.float32
        assert torch.equal(value, exact[name])


def test_rows_longer_than_the_model_reads_are_refused_before_training(tmp_path):
    folder = make_kind(tmp_path / "gpt2", "gpt2")
    with pytest.raises(JobError, match=r"max_tokens is 1024, but .* takes at most 256 tokens"):
        language_model(folder, max_tokens=1024)
