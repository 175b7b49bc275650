"""Tiny models of three kinds, and run directories of fine-tuning, for tests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from policy.methods import EXAMPLES_FILE, FineTuneJob
from rewardmodel.contract import to_spec
from tests.policy.conftest import make_model, make_tokenizer

KINDS = ("llama", "qwen", "gpt2")
FAST: dict[str, Any] = {"dtype": "float32", "device": "cpu", "threads": 1, "max_tokens": 128, "lora_rank": 4}


def make_kind(folder: Path, kind: str) -> Path:
    """A random model of 2 layers of the default's kind, of Qwen's or of GPT-2's; or one whose logits are scaled."""
    if kind == "llama":
        return make_model(folder)
    tokenizer = make_tokenizer()
    end = tokenizer.eos_token_id
    size: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "eos_token_id": end,
        "bos_token_id": None,
        "pad_token_id": None,
    }
    torch.manual_seed(0)
    model: PreTrainedModel
    if kind == "qwen":
        model = Qwen3ForCausalLM(Qwen3Config(**size, head_dim=32, tie_word_embeddings=True))
    elif kind == "scaled":
        model = GraniteForCausalLM(GraniteConfig(**size, logits_scaling=8.0))
    else:
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=len(tokenizer), n_embd=64, n_layer=2, n_head=2, n_positions=256, initializer_range=0.2,
                eos_token_id=end, bos_token_id=end,
            )
        )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def example_row(number: int, **changes: Any) -> dict[str, Any]:
    """A valid row: the words to a question of its own."""
    return {
        "row_id": f"row-{number}",
        "prompt_id": f"p{number}",
        "split": "train",
        "messages": [{"role": "user", "content": f"Say {number}"}],
        "response": f"The answer is {number}.",
        "weight": 1.0,
        "source": "edit",
        **changes,
    }


def examples(train: int, dev: int = 0) -> list[dict[str, Any]]:
    """So many rows of each split."""
    return [example_row(n) for n in range(train)] + [example_row(train + n, split="dev") for n in range(dev)]


def write_job(folder: Path, kind: str, job: FineTuneJob) -> Path:
    """A run directory with a job and no data yet."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "output").mkdir(exist_ok=True)
    (folder / "spec.json").write_text(json.dumps(to_spec(kind, job)))
    return folder


def write_examples(folder: Path, rows: Iterable[dict[str, Any]]) -> None:
    """The rows as ``data/examples.parquet``."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), folder / EXAMPLES_FILE)


def plain_logprob(model: Any, prompt: tuple[int, ...], response: tuple[int, ...], temperature: float = 1.0) -> float:
    """Log-probability of an answer by plain transformers, alone and through the whole head."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + response])).logits[0].double() / temperature
    logprobs = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return float(logprobs.gather(1, torch.tensor(response)[:, None]).sum())


def loaded(folder: Path) -> Any:
    """A model folder as plain transformers loads it."""
    return AutoModelForCausalLM.from_pretrained(folder).eval()
