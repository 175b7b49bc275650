"""OpenAI's chat completions as they go over the wire: a request's body, and what is read of the answer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from policy.engines.base import Completion, Request, whole_characters
from rewardmodel.chat import turns

EXACTLY = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
"""What vLLM would otherwise take from the generation settings in the model's folder."""


class _Message(BaseModel):
    content: str | None = None


class _Token(BaseModel):
    logprob: float


class _Logprobs(BaseModel):
    content: list[_Token] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: Literal["stop", "length", "content_filter"]
    token_ids: list[int] | None = None
    """An addition of vLLM's."""
    logprobs: _Logprobs | None = None


class _Usage(BaseModel):
    completion_tokens: int = Field(ge=0)


class _Answer(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage


def body(request: Request, model: str, *, is_vllm: bool, logprobs: bool) -> dict[str, Any]:
    """What to post for a request, with exactly the sampling that it names.

    :param model: name of the model at the server.
    :param is_vllm: whether the server knows vLLM's additions; most others refuse what they do not know.
    :param logprobs: whether to ask for the log-probabilities of the tokens drawn.
    """
    asked: dict[str, Any] = {
        "model": model,
        "messages": turns(request.messages),
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
        "seed": request.seed,
    }
    return asked | EXACTLY | {"return_token_ids": True, "logprobs": logprobs} if is_vllm else asked


def completion(answer: Any) -> Completion:
    """Read the JSON of an answer.

    A ``content_filter`` cut the answer off before its end, so it counts as ``length``.

    :raises ValueError: when it is no chat completion with a count of its tokens.
    """
    try:
        read = _Answer.model_validate(answer)
    except ValidationError as problem:
        first = problem.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    choice = read.choices[0]
    return Completion(
        text=whole_characters(choice.message.content or ""),
        token_count=read.usage.completion_tokens,
        finish_reason="stop" if choice.finish_reason == "stop" else "length",
        token_ids=choice.token_ids or [],
        logprobs=[token.logprob for token in (choice.logprobs and choice.logprobs.content) or []],
    )
