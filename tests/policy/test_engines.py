"""All engines keep the same promises: seeds, log-probabilities, ends, and new weights in place."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Gemma3Config

from policy.contract import EngineConfig, ImproveJob, Sampling
from policy.engines.base import (
    Request,
    check_length,
    context_tokens,
    decode,
    generate,
    make_request,
    request_seed,
    start_engine,
)
from policy.engines.transformers import draw_tokens
from policy.engines.vllm import visible_gpu
from policy.engines.vllm_worker import memory_share, weights_of
from policy.methods import BestOfNJob
from rewardmodel.chat import Message, load_tokenizer, prompt_ids
from rewardmodel.contract import JobError
from tests.policy.conftest import ROOT, make_model, make_tokenizer
from tests.policy.learners import make_kind


class Chat(NamedTuple):
    """A chat and its token ids."""

    messages: list[Message]
    ids: list[int]


def chat(model_folder: Path, words: str) -> Chat:
    messages: list[Message] = [{"role": "user", "content": words}]
    return Chat(messages, prompt_ids(load_tokenizer(model_folder), messages))


@pytest.fixture(scope="module")
def prompt(tiny_model) -> Chat:
    return chat(tiny_model, "Hello there, engine.")


def requests_for(prompt: Chat, count: int, **changes) -> list[Request]:
    settings = {"temperature": 0.7, "top_p": 1.0, "max_tokens": 20, **changes}
    return [Request(*prompt, seed=seed, **settings) for seed in range(count)]


def reference_scores(model_folder: Path, token_ids: list[int], temperature: float) -> torch.Tensor:
    """Log-probabilities of every next token after each token, float64 [tokens, vocabulary], by plain transformers."""
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float64)
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([token_ids])).logits[0] / temperature, dim=-1)


def reference_logprobs(model_folder: Path, prompt: list[int], answer: list[int], temperature: float) -> list[float]:
    """Log-probabilities of an answer's tokens."""
    scores = reference_scores(model_folder, prompt + answer, temperature)[len(prompt) - 1 : -1]
    return scores.gather(1, torch.tensor(answer)[:, None])[:, 0].tolist()


def test_logprobs_are_those_of_the_model_at_the_sampling_temperature(any_engine, tiny_model, prompt):
    for completion in generate(any_engine, requests_for(prompt, 4)):
        expected = reference_logprobs(tiny_model, prompt.ids, completion.token_ids, temperature=0.7)
        assert completion.logprobs == pytest.approx(expected, abs=2e-4)


def test_equal_seeds_give_equal_answers_and_different_seeds_different_ones(any_engine, prompt):
    first = generate(any_engine, requests_for(prompt, 4))
    again = generate(any_engine, requests_for(prompt, 4))
    assert [c.token_ids for c in again] == [c.token_ids for c in first]
    assert len({tuple(c.token_ids) for c in first}) == 4


def test_answers_come_back_in_the_order_of_their_requests(any_engine, tiny_model):
    mixed = [
        Request(*chat(tiny_model, "x" * i), temperature=0.7, top_p=1.0, max_tokens=1 + i, seed=i) for i in range(12)
    ]
    completions = generate(any_engine, mixed)
    for request, completion in zip(mixed, completions, strict=True):
        expected = reference_logprobs(tiny_model, request.prompt_ids, completion.token_ids, 0.7)
        assert completion.logprobs == pytest.approx(expected, abs=2e-4)
        assert completion.token_count == len(completion.token_ids) <= request.max_tokens


def test_an_answer_ends_with_the_end_token_or_is_reported_as_cut_off(any_engine, tiny_model, prompt):
    end = load_tokenizer(tiny_model).eos_token_id
    completions = generate(any_engine, requests_for(prompt, 200, max_tokens=30))
    assert {c.finish_reason for c in completions} == {"stop", "length"}
    for completion in completions:
        assert (completion.token_ids[-1] == end) == (completion.finish_reason == "stop")
        assert end not in completion.token_ids[:-1]
        assert "<|end|>" not in completion.text
        if completion.finish_reason == "length":
            assert len(completion.token_ids) == 30


def test_first_tokens_follow_the_model_distribution(engine, tiny_model, prompt):
    drawn = [c.token_ids[0] for c in generate(engine, requests_for(prompt, 2000, max_tokens=1))]
    expected = reference_scores(tiny_model, prompt.ids, 0.7)[-1].exp()
    likely = expected.argsort(descending=True)[:5]
    for token in likely.tolist():
        share, deviation = float(expected[token]), math.sqrt(float(expected[token] * (1 - expected[token])) / 2000)
        assert drawn.count(token) / 2000 == pytest.approx(share, abs=4.5 * deviation)


def test_top_p_leaves_only_the_nucleus_and_its_logprobs(any_engine, tiny_model, prompt):
    every = reference_scores(tiny_model, prompt.ids, 0.7)[-1].exp()
    ordered = every.sort(descending=True)
    size = int((ordered.values.cumsum(0) < 0.5).sum()) + 1
    nucleus = set(ordered.indices[:size].tolist())
    total = float(ordered.values[:size].sum())
    for completion in generate(any_engine, requests_for(prompt, 50, max_tokens=1, top_p=0.5)):
        [token] = completion.token_ids
        assert token in nucleus
        assert completion.logprobs[0] == pytest.approx(math.log(float(every[token]) / total), abs=2e-4)


def test_new_weights_answer_at_once_with_nothing_kept_of_the_old(engine, tiny_model, other_tiny_model, prompt):
    long_prompt = Chat(prompt.messages, prompt.ids * 6)
    before = generate(engine, requests_for(long_prompt, 2))
    engine.load_weights(other_tiny_model, 3)
    [other, _] = generate(engine, requests_for(long_prompt, 2))
    assert (before[0].weights_version, other.weights_version) == (0, 3)
    expected = reference_logprobs(other_tiny_model, long_prompt.ids, other.token_ids, 0.7)
    assert other.logprobs == pytest.approx(expected, abs=2e-4)
    engine.load_weights(tiny_model)
    assert [c.token_ids for c in generate(engine, requests_for(long_prompt, 2))] == [c.token_ids for c in before]


def test_samples_of_one_prompt_share_its_prefill_until_the_weights_change(vllm_engine, tiny_model):
    """92 tokens hold two whole blocks of 32, which vLLM's CPU build is told to make; the rest is computed each time."""
    long_prompt = chat(tiny_model, "share " * 15)
    assert len(long_prompt.ids) == 92
    for _weights in range(2):
        assert [c.cached_tokens for c in generate(vllm_engine, requests_for(long_prompt, 4))] == [0, 64, 64, 64]
        vllm_engine.load_weights(tiny_model)


def test_a_gpu_is_asked_for_what_vllm_needs_and_for_no_more_than_there_is():
    """135 million numbers of 2 bytes, a gibibyte of key-value cache and two of room, of 24 gibibytes."""
    gib = 1 << 30
    assert memory_share(135_000_000, 2, gib, 24 * gib) == pytest.approx((0.27e9 / gib + 3) / 24)
    assert memory_share(70_000_000_000, 2, gib, 80 * gib) == 1.0


def test_the_numbers_of_a_models_weights_are_counted_over_its_files(tmp_path):
    save_file({"a": torch.zeros(3, 4), "b": torch.zeros(5)}, tmp_path / "model-1.safetensors")
    save_file({"c": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "model-2.safetensors")
    assert weights_of(tmp_path) == 12 + 5 + 2


@pytest.mark.parametrize(
    ("device", "visible", "given"),
    [
        ("auto", None, {}),
        ("cpu", "0,1", {}),
        ("cuda", "3", {}),
        ("cuda:1", None, {"CUDA_VISIBLE_DEVICES": "1"}),
        ("cuda:1", "2, 5", {"CUDA_VISIBLE_DEVICES": "5"}),
        ("cuda:0", "GPU-8932f937", {"CUDA_VISIBLE_DEVICES": "GPU-8932f937"}),
    ],
)
def test_vllm_is_shown_the_gpu_that_the_job_names(device, visible, given):
    assert visible_gpu(device, visible) == given


def test_a_gpu_that_this_process_does_not_see_is_refused(tiny_model):
    with pytest.raises(JobError, match="There is no device 'cuda:2' on this machine"):
        visible_gpu("cuda:2", "0,1")
    with pytest.raises(JobError, match="There is no device 'cuda:7' on this machine"):
        start_engine(EngineConfig(name="transformers", device="cuda:7"), tiny_model, Path())


def test_the_sampler_is_on_the_device_of_the_training_unless_it_has_one_of_its_own():
    jobs: tuple[type[ImproveJob | BestOfNJob], ...] = (ImproveJob, BestOfNJob)
    for job_of in jobs:
        assert job_of(policy="a", reward_model="b", device="cuda:1").engine.device == "cuda:1"
        apart = job_of(policy="a", reward_model="b", device="cuda:1", engine=EngineConfig(device="cuda:0"))
        assert apart.engine.device == "cuda:0"
        assert job_of(policy="a", reward_model="b").engine == EngineConfig()


def test_an_engine_knows_its_name_and_its_version(any_engine):
    any_engine.wait_until_ready()
    patterns = {
        "vllm": r"\d+\.\d+\.\d+.*",
        "transformers": r"\d+\.\d+\.\d+.*",
        "openai": r"vllm \d+\.\d+\.\d+.*: greedy",
    }
    assert re.fullmatch(patterns[any_engine.name], any_engine.version)


def test_whoever_waits_for_answers_is_called_meanwhile(engine, prompt, monkeypatch):
    monkeypatch.setattr(f"policy.engines.{engine.name}.WAIT_SECONDS", 0.0)
    heard: list[str] = []
    assert len(list(engine.stream(requests_for(prompt, 3), heard.append))) == 3
    assert set(heard) == {""}


def test_whoever_waits_is_called_while_vllm_hangs(vllm_engine, prompt, monkeypatch):
    monkeypatch.setattr("policy.engines.vllm.WAIT_SECONDS", 0.1)
    vllm_engine.wait_until_ready()
    worker = psutil.Process(vllm_engine.pid)
    worker.suspend()
    heard: list[str] = []

    def wake_it_after_a_while(trouble: str) -> None:
        heard.append(trouble)
        if len(heard) == 3:
            worker.resume()

    assert len(list(vllm_engine.stream(requests_for(prompt, 2), wake_it_after_a_while))) == 2
    assert len(heard) >= 3


def test_vllm_takes_no_processor_time_while_it_waits(vllm_engine, prompt):
    generate(vllm_engine, requests_for(prompt, 4))
    worker = psutil.Process(vllm_engine.pid)
    before = worker.cpu_times()
    time.sleep(2)
    after = worker.cpu_times()
    assert after.user + after.system - before.user - before.system < 0.2


def test_the_context_is_the_models_whatever_its_kind_calls_it_and_wherever_it_keeps_it(tmp_path):
    named_otherwise = make_kind(tmp_path / "gpt2", "gpt2")
    nested = tmp_path / "gemma3"
    Gemma3Config(text_config={"max_position_embeddings": 512}, vision_config={}).save_pretrained(nested)
    assert context_tokens(EngineConfig(max_model_tokens=2048), named_otherwise) == 256
    assert context_tokens(EngineConfig(max_model_tokens=2048), nested) == 512
    assert context_tokens(EngineConfig(max_model_tokens=100), nested) == 100


def test_the_engine_transformers_fills_the_context_of_gpt2_and_no_more(tmp_path):
    folder = make_kind(tmp_path / "gpt2", "gpt2")
    config = EngineConfig(name="transformers", dtype="float32")
    long = chat(folder, "x" * 234)
    [request] = requests_for(long, 1, max_tokens=20)
    check_length(config, folder, len(long.ids), request.max_tokens, "long")
    [completion] = generate(start_engine(config, folder, tmp_path / "log.txt"), [request])
    assert completion.logprobs == pytest.approx(
        reference_logprobs(folder, long.ids, completion.token_ids, 0.7), abs=1e-3
    )
    with pytest.raises(
        JobError, match="Prompt long has 236 tokens, and with an answer of 21 it is longer than the 256"
    ):
        check_length(config, folder, len(long.ids), request.max_tokens + 1, "long")


def test_vllm_that_cannot_start_says_so_with_the_end_of_its_log(tmp_path):
    broken = make_model(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    engine = start_engine(EngineConfig(kv_cache_bytes=1 << 26), broken, tmp_path / "vllm.log")
    with pytest.raises(
        JobError, match=r"^vLLM could not start \(exit status 1\): .*Error: .+\nThe end of .*vllm\.log:\n"
    ):
        engine.wait_until_ready()
    with pytest.raises(JobError, match="could not start"):
        engine.wait_until_ready()
    engine.close()


def test_vllm_dies_with_the_process_that_started_it(tiny_model, tmp_path):
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from policy.contract import EngineConfig\n"
        "from policy.engines.vllm import VllmEngine\n"
        f"engine = VllmEngine(EngineConfig(), Path({str(tiny_model)!r}), Path({str(tmp_path / 'log')!r}))\n"
        "print(engine.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_request_seeds_depend_on_every_part_of_the_name_and_on_nothing_else():
    names: list[tuple] = [(0, 1, "a", 0), (1, 1, "a", 0), (0, 2, "a", 0), (0, 1, "b", 0), (0, 1, "a", 1), (0, "1a", 0)]
    seeds = {request_seed(*name) for name in names}
    assert len(seeds) == len(names)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # sha256("7\x1f1\x1fp\x1f0") by coreutils begins with the 16 hexadecimal digits below.
    assert request_seed(7, 1, "p", 0) == int("06a121c1f2987e22", 16) >> 1


def test_a_request_takes_its_settings_from_the_job():
    messages: list[Message] = [{"role": "user", "content": "a"}]
    request = make_request(Sampling(temperature=0.5, max_tokens=9, top_p=0.9, seed=3), messages, [1, 2], "x")
    assert request == Request(messages, [1, 2], 0.5, 0.9, 9, request_seed(3, "x"))


def test_tokens_are_drawn_by_inverting_the_cumulative_distribution():
    logprobs = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log().repeat(5, 1)
    uniforms = torch.tensor([[0.0], [0.49], [0.51], [0.79], [0.81]], dtype=torch.float64)
    drawn, drawn_logprobs = draw_tokens(logprobs, torch.ones(5, 1, dtype=torch.float64), uniforms)
    assert drawn.tolist() == [0, 0, 1, 1, 2]
    assert drawn_logprobs.exp().tolist() == pytest.approx([0.5, 0.5, 0.3, 0.3, 0.2])


def test_a_nucleus_is_the_smallest_set_that_reaches_top_p():
    logprobs = torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64).log().repeat(3, 1)
    top_p = torch.tensor([[0.5], [0.51], [1.0]], dtype=torch.float64)
    drawn, drawn_logprobs = draw_tokens(logprobs, top_p, torch.full((3, 1), 0.999, dtype=torch.float64))
    assert drawn.tolist() == [1, 2, 2]
    assert drawn_logprobs.exp().tolist() == pytest.approx([1.0, 0.3 / 0.8, 0.3])


def test_a_character_that_was_cut_off_in_the_middle_is_left_out():
    tokenizer = make_tokenizer()
    ids = tokenizer.encode("好的", add_special_tokens=False)
    assert [decode(tokenizer, ids[:count]) for count in (6, 5, 4, 3)] == ["好的", "好", "好", "好"]
