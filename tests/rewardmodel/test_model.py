"""Scores against plain transformers, one answer at a time and without padding."""

import json
import math

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
)

from rewardmodel import attention
from rewardmodel.chat import load_tokenizer, prompt_ids, response_ids, tokenize_answer
from rewardmodel.contract import JobError
from rewardmodel.hardware import resolve_device, resolve_dtype
from rewardmodel.model import RewardModel, Settings, load_reward_model, new_reward_model
from tests.rewardmodel.conftest import VOCABULARY, byte_tokenizer, save_tiny_model

CPU = torch.device("cpu")


def ask(text):
    return [{"role": "user", "content": text}]


CONVERSATIONS = [
    (ask("How far is the moon?"), "Far."),
    (ask("你好"), "您好！有什么可以帮您？"),
    (ask("How far is the moon?"), "About 384,000 km, or thirty Earths in a row."),
    ([], ""),
    (ask("How far is the moon?"), "Not as far as the sun."),
    ([*ask("Hi"), {"role": "assistant", "content": "Hello."}, *ask("Bye")], "Goodbye!"),
]


def make(folder, dtype=torch.float32, max_tokens=512, seed=0) -> RewardModel:
    settings = Settings(base_model=str(folder), loss="logistic", max_tokens=max_tokens)
    return new_reward_model(load_tokenizer(folder), settings, dtype=dtype, device=CPU, seed=seed)


def reference_scores(model, conversations):
    """Each answer by itself through the bare backbone and head, read at the last position of an unpadded row."""
    scores = []
    for messages, text in conversations:
        ids = prompt_ids(model.tokenizer, messages) + response_ids(model.tokenizer, text)
        with torch.no_grad():
            states = model.backbone.base_model(input_ids=torch.tensor([ids])).last_hidden_state
            scores.append(model.backbone.score(states[0, -1]).item())
    return torch.tensor(scores)


@pytest.fixture(scope="module")
def model(tiny_model):
    return make(tiny_model)


def test_packed_scores_equal_one_row_an_answer(model):
    assert model.settings.shares_prompts
    torch.testing.assert_close(model.score(CONVERSATIONS), reference_scores(model, CONVERSATIONS), atol=1e-5, rtol=1e-5)


def test_long_rows_are_scored_as_short_ones(tiny_model, monkeypatch):
    monkeypatch.setattr(attention, "SHORT_ROW", 60)  # of the rows, one is shorter
    model = make(tiny_model)
    torch.testing.assert_close(model.score(CONVERSATIONS), reference_scores(model, CONVERSATIONS), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tokens_per_batch", [1, 80, 150, 10_000])
@pytest.mark.parametrize("shares_prompts", [True, False])
def test_scores_do_not_depend_on_what_else_is_in_the_batch(tiny_model, tokens_per_batch, shares_prompts):
    model = make(tiny_model)
    model.settings.shares_prompts = shares_prompts
    torch.testing.assert_close(
        model.score(CONVERSATIONS, tokens_per_batch), reference_scores(model, CONVERSATIONS), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_last_token_is_found_although_the_padding_is_the_end_token(tiny_model, side):
    model = make(tiny_model)
    expected = reference_scores(model, CONVERSATIONS)
    model.tokenizer.padding_side = side
    model.tokenizer.pad_token = model.tokenizer.eos_token
    for model.settings.shares_prompts in (True, False):
        torch.testing.assert_close(model.score(CONVERSATIONS), expected, atol=1e-5, rtol=1e-5)


def test_an_answer_matters_to_its_own_score_only(model):
    changed = [CONVERSATIONS[0], (CONVERSATIONS[2][0], "Quite another answer"), CONVERSATIONS[4]]
    before = model.score([CONVERSATIONS[0], CONVERSATIONS[2], CONVERSATIONS[4]])
    after = model.score(changed)
    torch.testing.assert_close(before[[0, 2]], after[[0, 2]], atol=1e-5, rtol=1e-5)
    assert abs(before[1] - after[1]) > 1e-3


def test_a_long_chat_is_scored_by_its_end(tiny_model):
    short = make(tiny_model, max_tokens=40)
    answer = tokenize_answer(short.tokenizer, *CONVERSATIONS[2], 40)
    assert answer.prompt_cut > 0
    with torch.no_grad():
        states = short.backbone.base_model(input_ids=torch.tensor([[*answer.prompt, *answer.response]]))
        expected = short.backbone.score(states.last_hidden_state[0, -1]).item()
    assert short.score(CONVERSATIONS)[2].item() == pytest.approx(expected, abs=1e-5)


def test_a_fresh_head_has_standard_deviation_one_over_root_d_plus_one(tmp_path):
    folder = save_tiny_model(tmp_path, hidden_size=1024, intermediate_size=16, num_hidden_layers=1)
    head = make(folder).backbone.score.weight
    assert head.std().item() == pytest.approx(1 / math.sqrt(1025), rel=0.1)
    assert torch.equal(head, make(folder).backbone.score.weight)
    assert not torch.equal(head, make(folder, seed=1).backbone.score.weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_model_scores_as_before(tiny_model, tmp_path, dtype):
    model = make(tiny_model, dtype)
    model.standardise(model.raw_scores([tokenize_answer(model.tokenizer, *pair, 512) for pair in CONVERSATIONS], 512))
    model.merge()
    model.save(tmp_path)
    loaded = load_reward_model(tmp_path, dtype=dtype, device="cpu")
    torch.testing.assert_close(loaded.score(CONVERSATIONS), model.score(CONVERSATIONS), atol=1e-5, rtol=1e-5)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_plain_transformers_reads_the_same_scores_from_a_padded_batch(tiny_model, tmp_path):
    model = make(tiny_model)
    model.save(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path, use_safetensors=True)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.pad_token != tokenizer.eos_token
    texts = [
        tokenizer.decode(prompt_ids(tokenizer, messages) + response_ids(tokenizer, text))
        for messages, text in CONVERSATIONS
    ]
    inputs = tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        logits = plain(**inputs).logits[:, 0]
    torch.testing.assert_close(logits, model.score(CONVERSATIONS), atol=1e-5, rtol=1e-5)


def test_merged_adapters_score_as_the_separate_ones(tiny_model):
    model = make(tiny_model)
    plain = model.score(CONVERSATIONS)
    model.add_adapters(rank=4, alpha=8, share_of_layers=1.0)
    torch.testing.assert_close(model.score(CONVERSATIONS), plain)  # fresh adapters add nothing
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    adapted = model.score(CONVERSATIONS)
    model.merge()
    assert not torch.allclose(adapted, plain, atol=1e-2)
    torch.testing.assert_close(model.score(CONVERSATIONS), adapted, atol=1e-5, rtol=1e-4)


def test_adapters_on_the_upper_half_leave_the_lower_half_alone(tiny_model):
    model = make(tiny_model, torch.bfloat16)
    model.add_adapters(rank=4, alpha=8, share_of_layers=0.5)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert {parameter.dtype for parameter in model.trunk.parameters()} == {torch.bfloat16}
    assert len(trained) == 7 * 2 + 1  # two matrices for each of the seven linear layers of block 1, and the head
    assert all("layers.1." in name for name in trained if "lora" in name)


def test_absolute_positions_share_prompts_too(tmp_path):
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3)
    model = save_and_make(GPT2LMHeadModel(config), tmp_path)
    assert model.settings.shares_prompts
    torch.testing.assert_close(model.score(CONVERSATIONS), reference_scores(model, CONVERSATIONS), atol=1e-4, rtol=1e-4)


def test_backbones_whose_answers_would_disturb_each_other_get_a_row_an_answer(tmp_path):
    windowed = MistralConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        sliding_window=16,
        initializer_range=0.3,
    )
    without_positions = BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=2, initializer_range=0.3)
    for name, causal in (
        ("windowed", MistralForCausalLM(windowed)),
        ("alibi", BloomForCausalLM(without_positions)),
    ):
        model = save_and_make(causal, tmp_path / name)
        assert not model.settings.shares_prompts
        torch.testing.assert_close(
            model.score(CONVERSATIONS), reference_scores(model, CONVERSATIONS), atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_an_encoder_scores_each_answer_as_by_itself(tmp_path, dtype, tolerance):
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.3,
    )
    model = save_and_make(BertModel(config), tmp_path, dtype)
    expected = torch.cat([model.score([conversation]) for conversation in CONVERSATIONS])
    torch.testing.assert_close(model.score(CONVERSATIONS), expected, atol=tolerance, rtol=0)
    assert len(set(expected.tolist())) == len(expected)


def save_and_make(base_model, folder, dtype=torch.float32) -> RewardModel:
    base_model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return make(folder, dtype)


def test_a_folder_that_is_no_reward_model_is_refused(tiny_model, tmp_path):
    with pytest.raises(JobError, match=r"is not a reward model: it holds no reward\.json"):
        load_reward_model(tiny_model)
    make(tiny_model).save(tmp_path)
    settings = json.loads((tmp_path / "reward.json").read_text())
    (tmp_path / "reward.json").write_text(json.dumps({**settings, "format_version": 99}))
    with pytest.raises(JobError, match="another version"):
        load_reward_model(tmp_path)


def test_pickled_weights_are_never_read(tiny_model, tmp_path):
    make(tiny_model).save(tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(plain.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(JobError, match="cannot be loaded"):
        load_reward_model(tmp_path)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(JobError, match="There is no device 'cuda:77'"):
        resolve_device("cuda:77")
    assert resolve_device("cpu") == CPU
    assert resolve_dtype("float32", CPU) is torch.float32
