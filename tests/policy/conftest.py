"""Tiny models that every policy test can afford, and one vLLM and one vLLM server for the whole session."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from policy.contract import PROMPTS_FILE, EngineConfig
from policy.engines.base import Engine, start_engine
from rewardmodel.contract import to_spec
from tests.policy.servers import ScriptedServer, vllm_server

ROOT = Path(__file__).parents[2]
END = "<|end|>"
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_tokenizer():
    """Bytes as tokens, an end token and a token for each role: 256 + 4 tokens."""
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = [END, "<|system|>", "<|user|>", "<|assistant|>"]
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=END,
        additional_special_tokens=special[1:],
        chat_template=TEMPLATE,
    )


def make_model(folder: Path, seed: int = 0, **changes) -> Path:
    """A random Llama of 2 layers with a head size that vLLM's CPU build takes."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer()
    config = LlamaConfig(
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "max_position_embeddings": 256,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": None,
            "initializer_range": 0.2,
            **changes,
        }
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_run(folder: Path, kind: str, job, prompts: list[tuple[str, str, str]]) -> Path:
    """A run directory with a job and prompts given as (id, split, user's words)."""
    (folder / "data").mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps(to_spec(kind, job)))
    rows = [
        {"prompt_id": name, "split": split, "messages": [{"role": "user", "content": words}]}
        for name, split, words in prompts
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / PROMPTS_FILE)
    return folder


def progress_of(run_dir: Path, attempt: int = 1) -> list[dict]:
    """The lines of progress that a job wrote."""
    lines = (run_dir / f"attempt-{attempt}" / "progress.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny models are slower on several threads than on one, here and in the jobs that tests start."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def other_tiny_model(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "other", seed=1)


@pytest.fixture(scope="session")
def vllm_engine(tiny_model, tmp_path_factory) -> Iterator[Engine]:
    config = EngineConfig(name="vllm", dtype="float32", kv_cache_bytes=1 << 26, max_sequences=16)
    engine = start_engine(config, tiny_model, tmp_path_factory.mktemp("vllm") / "vllm.log")
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def transformers_engine(tiny_model, tmp_path_factory) -> Iterator[Engine]:
    config = EngineConfig(name="transformers", dtype="float32", max_sequences=16)
    engine = start_engine(config, tiny_model, tmp_path_factory.mktemp("transformers") / "log.txt")
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def openai_engine(tiny_model, tmp_path_factory) -> Iterator[Engine]:
    """vLLM's own server on loopback, whose model's folder would have it sample greedily."""
    folder = tmp_path_factory.mktemp("openai")
    served = folder / "greedy"
    shutil.copytree(tiny_model, served)
    settings = json.loads((served / "generation_config.json").read_text())
    (served / "generation_config.json").write_text(json.dumps({**settings, "top_k": 1, "repetition_penalty": 1.5}))
    with vllm_server(served, folder / "server.log", "session-key") as base_url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HONE_OPENAI_BASE_URL", base_url)
        patch.setenv("HONE_OPENAI_API_KEY", "session-key")
        config = EngineConfig(name="openai", base_url=base_url, served_model="greedy", max_sequences=16)
        yield start_engine(config, tiny_model, folder / "openai.log")


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """A server of OpenAI's protocol that answers as a test has it."""
    with ScriptedServer() as server:
        yield server


@pytest.fixture(params=["transformers", "vllm", "openai"])
def any_engine(request) -> Engine:
    """Each engine in turn, with the tiny model."""
    return request.getfixturevalue(f"{request.param}_engine")


@pytest.fixture(params=["transformers", "vllm"])
def engine(request, tiny_model) -> Iterator[Engine]:
    """Each engine that takes new weights in turn, with those of the tiny model."""
    engine = request.getfixturevalue(f"{request.param}_engine")
    yield engine
    engine.load_weights(tiny_model)
