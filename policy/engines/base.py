"""What every engine offers: seeded requests in, completions with log-probabilities out.

An engine that holds the weights is given token ids and gives token ids, so that a trainer never has
to guess how a text was split; a server of others is given the chat, since it alone knows its model's
template. What an engine cannot report it declares, and who needs it refuses the engine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from rewardmodel.chat import Message
from rewardmodel.contract import JobError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from policy.contract import EngineConfig, Sampling

WAIT_SECONDS = 2.0

FinishReason = Literal["stop", "length"]

OnWait = Callable[[str], None]
"""Called every :data:`WAIT_SECONDS` of waiting with a sentence on what is in the way, empty where nothing is."""


@dataclass(frozen=True)
class Request:
    """One answer to draw."""

    messages: Sequence[Message]
    """The chat to answer."""
    prompt_ids: list[int]
    """Its token ids, chat template included."""
    temperature: float
    """Softmax temperature, above 0."""
    top_p: float
    """Nucleus sampling threshold in (0, 1]."""
    max_tokens: int
    """Most tokens to generate, the end token included."""
    seed: int
    """Seed of this answer, 0 to 2**63 - 1."""


@dataclass(frozen=True)
class Completion:
    """One answer drawn."""

    text: str
    """The answer without special tokens."""
    token_count: int
    """Tokens generated, the end token included where one came."""
    finish_reason: FinishReason
    """``stop`` after an end token, ``length`` where the answer was cut off."""
    token_ids: list[int]
    """The tokens themselves; empty where the engine does not report them."""
    logprobs: list[float]
    """Natural logarithm of the probability with which each token was drawn, temperature and top-p applied; empty where
    the engine does not report it."""
    weights_version: int = 0
    """Version of the weights that drew it, as :meth:`Engine.load_weights` was told; 0 for those loaded first."""
    cached_tokens: int = 0
    """Tokens of the prompt that were not computed for this answer, since an earlier one to a prompt that begins alike
    had left them in a cache; 0 where the engine has none or does not tell."""


@dataclass(frozen=True)
class Capabilities:
    """What an engine reports of its completions."""

    token_ids: bool
    """Whether the completions' token ids are those drawn, not a second tokenisation of the text."""
    logprobs: bool
    """Whether log-probabilities are those of the distribution that was sampled."""
    swaps_weights: bool
    """Whether other weights of the same architecture can be taken in place."""


class Engine(Protocol):
    """A language model that answers."""

    name: str
    version: str
    """Known once the engine is ready."""
    capabilities: Capabilities
    """Known once the engine is ready; before, what it has in any case."""

    def wait_until_ready(self, on_wait: OnWait | None = None) -> None:
        """Block until the model is loaded.

        :raises JobError: when the model cannot be loaded.
        """

    def stream(self, requests: Sequence[Request], on_wait: OnWait | None = None) -> Iterator[tuple[int, Completion]]:
        """Draw answers and yield each with the index of its request as soon as it is whole.

        The iterator must be run to its end before the next call; an exception out of `on_wait` ends it, and then the
        engine can only be closed.
        """

    def load_weights(self, folder: Path, version: int = 0) -> None:
        """Take the weights of another model folder of the same architecture.

        :param version: what the completions that these weights draw are marked with.
        """

    def close(self) -> None:
        """Free the engine's process and memory; the engine is of no use afterwards."""


def generate(
    engine: Engine,
    requests: Sequence[Request],
    on_done: Callable[[int], object] | None = None,
    on_wait: OnWait | None = None,
) -> list[Completion]:
    """Draw answers and return them in the order of their requests.

    :param on_done: called after each answer with the number of answers that are whole.
    :param on_wait: called while none becomes whole; may raise, see :meth:`Engine.stream`.
    """
    done: dict[int, Completion] = {}
    for index, completion in engine.stream(requests, on_wait):
        done[index] = completion
        if on_done is not None:
            on_done(len(done))
    return [done[index] for index in range(len(requests))]


def decode(tokenizer: PreTrainedTokenizerBase, token_ids: list[int]) -> str:
    """The text of an answer, without special tokens."""
    return whole_characters(str(tokenizer.decode(token_ids, skip_special_tokens=True)))


def whole_characters(text: str) -> str:
    """A text without a last character of which only some bytes were drawn."""
    return text.removesuffix("\N{REPLACEMENT CHARACTER}")


def end_token_ids(model: Path, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end an answer: the tokenizer's, and any that the model's generation settings add."""
    path = model / "generation_config.json"
    declared = json.loads(path.read_text()).get("eos_token_id") if path.is_file() else None
    extra = declared if isinstance(declared, list) else [] if declared is None else [declared]
    return sorted({tokenizer.eos_token_id, *extra})


def request_seed(sampling_seed: int, *parts: str | int) -> int:
    """Seed of one request: equal for equal arguments on every machine, unrelated for different ones.

    :param parts: what names the answer, such as generation, prompt id and sample number.
    :returns: an integer of 63 bits.
    """
    name = "\x1f".join(str(part) for part in (sampling_seed, *parts))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def make_request(sampling: Sampling, messages: Sequence[Message], prompt_ids: list[int], *name: str | int) -> Request:
    """A request drawn as a job asks, with the seed that its name gives; see :func:`request_seed`."""
    return Request(
        messages=messages,
        prompt_ids=prompt_ids,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=request_seed(sampling.seed, *name),
    )


def start_engine(config: EngineConfig, model: Path, log: Path) -> Engine:
    """Begin to load a model into the engine that a job names, without waiting for it.

    :param log: file that takes what the engine's own process prints, or what went wrong on the way to its server.
    :raises JobError: when the engine is not installed.
    """
    if config.name == "openai":
        from policy.engines.openai import OpenAIEngine

        return OpenAIEngine(config, log)
    if config.name == "vllm":
        from policy.engines.vllm import VllmEngine

        return VllmEngine(config, model, log)
    from policy.engines.transformers import TransformersEngine

    return TransformersEngine(config, model)


def check_for_ppo(engine: Engine) -> None:
    """Refuse an engine that PPO cannot learn from.

    :raises JobError: naming what it lacks.
    """
    offered = {
        "token ids": engine.capabilities.token_ids,
        "log-probabilities of the distribution sampled": engine.capabilities.logprobs,
        "a change of weights after each update": engine.capabilities.swaps_weights,
    }
    lacking = [what for what, there in offered.items() if not there]
    if lacking:
        raise JobError(
            f"PPO cannot learn from the engine {engine.name}, which does not offer {', nor '.join(lacking)}: "
            "use the engine vllm or transformers."
        )


def context_tokens(config: EngineConfig, model: Path) -> int:
    """Longest prompt plus answer that a model in an engine can take, tokens."""
    return min(config.max_model_tokens, _declared_context(model) or config.max_model_tokens)


@cache
def _declared_context(model: Path) -> int | None:
    """What a model's configuration says of its context, under the name that its kind gives it; asked once a prompt."""
    from transformers import AutoConfig

    declared = getattr(AutoConfig.from_pretrained(model).get_text_config(), "max_position_embeddings", None)
    return declared if isinstance(declared, int) else None


def check_length(config: EngineConfig, model: Path, prompt_tokens: int, max_tokens: int, prompt_id: str) -> None:
    """Refuse a prompt that leaves no room for its answer.

    :raises JobError: naming the prompt and the lengths.
    """
    context = context_tokens(config, model)
    if prompt_tokens + max_tokens > context:
        raise JobError(
            f"Prompt {prompt_id} has {prompt_tokens} tokens, and with an answer of {max_tokens} "
            f"it is longer than the {context} that the model can read."
        )
