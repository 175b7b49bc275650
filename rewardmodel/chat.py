"""Chats as token ids: the one place where a prompt and an answer are put together.

Reward model, sampler and trainer must see the same tokens for the same text, so all of them come
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from rewardmodel.contract import JobError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


PLAIN_TEMPLATE = (
    "{% for turn in messages %}{{ turn['role'] | capitalize }}: {{ turn['content'] }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""The chat template of a model that comes without one: ``User: …``, ``Assistant: …`` with empty lines between."""


class Message(TypedDict):
    """One turn of a chat."""

    role: str
    content: str


@dataclass(frozen=True)
class Answer:
    """Token ids of a chat and of one answer to it."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    """Closed by the end token."""
    prompt_cut: int = 0
    """Tokens that the prompt lost at its beginning."""
    response_cut: int = 0
    """Tokens that the answer lost before its end token."""


def load_tokenizer(folder: Path | str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model folder and check that it can do what training needs.

    One without a chat template gets :data:`PLAIN_TEMPLATE`, which is saved with what is trained.

    :raises JobError: when the folder is no model folder, or lacks an end token.
    """
    from transformers import AutoTokenizer

    if not (Path(folder) / "config.json").is_file():
        raise JobError(f"{folder} is not a model folder: it holds no config.json.")
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    tokenizer.chat_template = tokenizer.chat_template or PLAIN_TEMPLATE
    if tokenizer.eos_token_id is None:
        raise JobError(f"The tokenizer in {folder} has no end token, so its answers would never end.")
    return tokenizer


def turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    """A chat as it is put to a model: chat templates refuse an empty one, which becomes an empty turn of the user."""
    return [{"role": turn["role"], "content": turn["content"]} for turn in messages] or [
        {"role": "user", "content": ""}
    ]


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Token ids of a chat up to where the assistant's answer begins."""
    rendered = tokenizer.apply_chat_template(turns(messages), add_generation_prompt=True, tokenize=False)
    return tokenizer(str(rendered), add_special_tokens=False)["input_ids"]


def response_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of an answer, closed by the end token."""
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def tokenize_answer(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], text: str, max_tokens: int
) -> Answer:
    """Token ids of a chat and an answer, together at most `max_tokens`.

    The prompt gives way from its beginning; only an answer that is too long by itself is cut, and
    keeps its end token.
    """
    prompt, response = prompt_ids(tokenizer, messages), response_ids(tokenizer, text)
    response_cut = max(0, len(response) - max_tokens)
    if response_cut:
        response = [*response[: max_tokens - 1], response[-1]]
    prompt_cut = max(0, len(prompt) + len(response) - max_tokens)
    return Answer(tuple(prompt[prompt_cut:]), tuple(response), prompt_cut, response_cut)
