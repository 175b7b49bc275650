"""Plain transformers: portable, deterministic, slower; the engine that the others are checked against."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import transformers

from policy.contract import EngineConfig
from policy.engines.base import (
    WAIT_SECONDS,
    Capabilities,
    Completion,
    FinishReason,
    OnWait,
    Request,
    decode,
    end_token_ids,
)
from rewardmodel.chat import load_tokenizer
from rewardmodel.hardware import resolve_device, resolve_dtype


class TransformersEngine:
    """A causal language model sampled in this process, batches of similar length after each other.

    Each answer draws its tokens with its own generator by inverting the cumulative distribution, so
    it does not depend on which answers share its batch, save for the rounding of sums.
    """

    name = "transformers"
    version = transformers.__version__
    capabilities = Capabilities(token_ids=True, logprobs=True, swaps_weights=True)

    def __init__(self, config: EngineConfig, model: Path) -> None:
        self._config = config
        self._folder = model
        self._tokenizer = load_tokenizer(model)
        self._end_token_ids = set(end_token_ids(model, self._tokenizer))
        self._device = resolve_device(config.device)
        self._dtype = resolve_dtype(config.dtype, self._device)
        self._model: transformers.PreTrainedModel | None = None
        self._weights_version = 0

    def wait_until_ready(self, on_wait: OnWait | None = None) -> None:
        """Load the model; see :meth:`policy.engines.base.Engine.wait_until_ready`."""
        if self._model is None:
            self.load_weights(self._folder)

    def stream(self, requests: Sequence[Request], on_wait: OnWait | None = None) -> Iterator[tuple[int, Completion]]:
        """Draw answers; see :meth:`policy.engines.base.Engine.stream`."""
        self.wait_until_ready()
        by_length = sorted(range(len(requests)), key=lambda i: len(requests[i].prompt_ids))
        size = self._config.max_sequences
        for start in range(0, len(by_length), size):
            indices = by_length[start : start + size]
            for position, completion in self._stream_batch([requests[i] for i in indices], on_wait):
                yield indices[position], completion

    def load_weights(self, folder: Path, version: int = 0) -> None:
        """Load a model folder in place of the one before."""
        self._model = None
        self._weights_version = version
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=self._dtype, device_map=self._device, use_safetensors=True
        )
        self._model = model.eval()

    def close(self) -> None:
        """Let go of the model."""
        self._model = None

    @torch.inference_mode()
    def _stream_batch(self, requests: list[Request], on_wait: OnWait | None) -> Iterator[tuple[int, Completion]]:
        """Sample a batch, prompts padded on the left, until every answer has ended."""
        assert self._model is not None
        device, end_ids = self._device, self._end_token_ids
        longest = max(len(request.prompt_ids) for request in requests)
        input_ids = torch.zeros(len(requests), longest, dtype=torch.long, device=device)
        mask = torch.zeros_like(input_ids)
        for row, request in enumerate(requests):
            input_ids[row, longest - len(request.prompt_ids) :] = torch.tensor(request.prompt_ids)
            mask[row, longest - len(request.prompt_ids) :] = 1
        position_ids = (mask.cumsum(1) - 1).clamp(min=0)
        temperature = torch.tensor([r.temperature for r in requests], device=device)[:, None]
        top_p = torch.tensor([r.top_p for r in requests], dtype=torch.float64, device=device)[:, None]
        uniforms = torch.stack([_uniforms(r.seed, r.max_tokens, max(q.max_tokens for q in requests)) for r in requests])

        token_ids: list[list[int]] = [[] for _ in requests]
        logprobs: list[list[float]] = [[] for _ in requests]
        unfinished = set(range(len(requests)))
        cache = None
        told = time.monotonic()
        for step in range(uniforms.shape[1]):
            if on_wait is not None and time.monotonic() - told > WAIT_SECONDS:
                told = time.monotonic()
                on_wait("")
            output = self._model(
                input_ids=input_ids,
                attention_mask=mask,
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            scores = torch.log_softmax(output.logits[:, -1].float() / temperature, dim=-1).double()
            drawn, drawn_logprobs = draw_tokens(scores, top_p, uniforms[:, step : step + 1].to(device))
            for row in sorted(unfinished):
                token = int(drawn[row])
                token_ids[row].append(token)
                logprobs[row].append(float(drawn_logprobs[row]))
                ended = token in end_ids
                if ended or len(token_ids[row]) == requests[row].max_tokens:
                    unfinished.discard(row)
                    ids, text = token_ids[row], decode(self._tokenizer, token_ids[row])
                    reason: FinishReason = "stop" if ended else "length"
                    yield row, Completion(text, len(ids), reason, ids, logprobs[row], self._weights_version)
            if not unfinished:
                return
            input_ids = drawn[:, None]
            mask = torch.cat([mask, mask.new_ones(len(requests), 1)], dim=1)
            position_ids = position_ids[:, -1:] + 1


def _uniforms(seed: int, count: int, width: int) -> torch.Tensor:
    """Uniform numbers in [0, 1) of one answer, float64 [width], the first `count` drawn."""
    numbers = torch.zeros(width, dtype=torch.float64)
    numbers[:count] = torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return numbers


def draw_tokens(
    logprobs: torch.Tensor, top_p: torch.Tensor, uniforms: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one token a row by inverting the cumulative distribution, restricted to the nucleus.

    The nucleus is the smallest set of most probable tokens whose probability reaches top-p
    (Holtzman et al. 2020, section 3.1).

    :param logprobs: float64 [rows, vocabulary], natural logarithms, each row a distribution.
    :param top_p: float64 [rows, 1] in (0, 1].
    :param uniforms: float64 [rows, 1] in [0, 1).
    :returns: token ids int64 [rows] and their log-probabilities within the nucleus float64 [rows].
    """
    probabilities = logprobs.exp()
    if bool((top_p < 1).any()):
        ordered, order = probabilities.sort(dim=-1, descending=True)
        outside = ordered.cumsum(-1) - ordered >= top_p
        probabilities = probabilities.scatter(-1, order, ordered.masked_fill(outside, 0.0))
    cumulative = probabilities.cumsum(-1)
    total = cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, uniforms * total, right=True).clamp(max=logprobs.shape[-1] - 1)
    return drawn[:, 0], (probabilities.gather(1, drawn) / total).log()[:, 0]
