"""A causal language model in training on stored answers, and the log-probabilities that it gives to their tokens.

Any decoder of transformers: answers to one prompt share a row, and only positions that predict an answer's token go
through the vocabulary head, a few at a time, wherever a trial shows that this gives what the model itself gives; others
are read answer by answer through the whole model. Dropout is off: a preference is a difference of two passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from policy.methods import FineTuneJob
from policy.modules import TokenLogProbs
from rewardmodel import reading
from rewardmodel.adapters import add_adapters, merge_adapters
from rewardmodel.backbone import check_length
from rewardmodel.batching import Flat, Row, collate, pack
from rewardmodel.chat import Answer, load_tokenizer
from rewardmodel.contract import JobError
from rewardmodel.hardware import resolve_device, resolve_dtype

HEAD_CHUNK = 512
"""Positions whose logits are in memory at once where the head is trained."""


class LanguageModel(nn.Module):
    """A policy that learns from stored answers; see the module's description."""

    def __init__(self, job: FineTuneJob) -> None:
        """Load the model that training starts from, with fresh adapters, which change nothing yet, or all weights free.

        :raises JobError: when it cannot be loaded, or takes fewer tokens than the job allows.
        """
        super().__init__()
        self.job = job
        self.tokenizer = load_tokenizer(job.policy)
        self.model = load_causal(Path(job.policy), torch.float32)
        check_length(self.model.config, job.max_tokens, job.policy)
        self.shares_rows = reading.shares_rows(self.model, self._trunk, self.tokenizer.eos_token_id)
        self.plain_head = self._head_is_plain()
        device = resolve_device(job.device)
        dtype = resolve_dtype(job.dtype, device)
        for parameter in self.model.parameters():
            parameter.data = parameter.data.to(dtype)  # not .to() of the module: rotary frequencies stay float32
        if job.lora_rank:
            self.model.requires_grad_(False)
            torch.manual_seed(job.seed)
            add_adapters(self.model, job.lora_rank, job.lora_alpha, job.lora_layers)
        self.to(device).eval()

    @property
    def _trunk(self) -> Any:
        return getattr(self.model, self.model.base_model_prefix)

    @property
    def _head(self) -> Tensor:
        """The vocabulary head's matrix, [vocabulary, hidden size]."""
        return self.model.get_output_embeddings().weight

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self._head.device

    def pack(self, answers: Sequence[Answer]) -> list[Row]:
        """Lay answers into the rows that this model takes; see :func:`rewardmodel.batching.pack`."""
        return pack(answers, self.shares_rows, self.job.tokens_per_batch)

    def split(self, sizes: Sequence[int]) -> list[list[int]]:
        """Group items of so many tokens so that each group is one forward pass within the job's budget."""
        return reading.split(sizes, self.job.tokens_per_batch, self.shares_rows)

    def tokens_of(self, answers: Sequence[Answer]) -> int:
        """Tokens of the rows that answers to one prompt take; where they cannot share one, padding included."""
        return reading.tokens_of(answers, self.shares_rows)

    def forward(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Log-probability of each token of the answers in some rows, at the job's temperature.

        :returns: float32 [tokens], and the place of each token's answer among those that were packed, int64 [tokens];
            the tokens in the order of the rows, the answers in them and their own.
        """
        targets = torch.tensor([token for row in rows for response in row.responses for token in response])
        places = torch.tensor(
            [p for row in rows for p, response in zip(row.places, row.responses, strict=True) for _ in response]
        )
        targets, places = targets.to(self.device), places.to(self.device)
        if self.plain_head:
            states = self._states_before(rows)
            return token_logprobs(states, self._head, targets, self.job.temperature), places
        logits = self._logits_before(rows).float() / self.job.temperature
        return logits.log_softmax(-1).gather(1, targets[:, None])[:, 0], places

    def _states_before(self, rows: Sequence[Row]) -> Tensor:
        """The state that predicts each token of the answers, [tokens, hidden size]."""
        if self.shares_rows:
            states, flat = reading.flat_states(self._trunk, rows, self._head.dtype, self.device)
            return states[torch.tensor(places_before(flat), device=self.device)]
        states, _batch = reading.padded_states(self._trunk, rows, self.tokenizer.eos_token_id, self.device)
        return states[columns_before(rows, self.device)]

    def _logits_before(self, rows: Sequence[Row]) -> Tensor:
        """What the whole model gives before each token of the answers, one answer a row, [tokens, vocabulary]."""
        batch = collate(rows, self.tokenizer.eos_token_id, self.device)
        return self.model(**reading.inputs_of(self.model, batch)).logits[columns_before(rows, self.device)]

    @torch.inference_mode()
    def _head_is_plain(self) -> bool:
        """Whether the model's logits are its trunk's states times one matrix; it is tried on a short row.

        Where they are not (scaled logits, a bias), answers do not share rows either.
        """
        ids = [number % self.model.config.get_text_config().vocab_size for number in range(3, 15)]
        rows = pack([Answer(tuple(ids[:6]), tuple(ids[6:]))], self.shares_rows, len(ids))
        head = self.model.get_output_embeddings()
        if isinstance(head, nn.Linear) and head.bias is None:
            by_head = self._states_before(rows) @ head.weight.T
            if torch.allclose(by_head, self._logits_before(rows), atol=1e-4, rtol=1e-4):
                return True
        if self.shares_rows:
            self.model.set_attn_implementation("sdpa")
            self.shares_rows = False
        return False

    @torch.no_grad()
    def publish(self, folder: Path, trained: Mapping[str, Tensor]) -> None:
        """Write the policy as a model folder in the precision of what it started from, with its tokenizer.

        :param trained: values of the trained parameters by name, in float32.
        """
        whole = load_causal(Path(self.job.policy), "auto")
        if self.job.lora_rank:
            add_adapters(whole, self.job.lora_rank, self.job.lora_alpha, self.job.lora_layers)
        for name, value in trained.items():
            whole.get_parameter(name.removeprefix("model.")).copy_(value)
        merge_adapters(whole)
        whole.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def load_causal(folder: Path, dtype: torch.dtype | str) -> Any:
    """Load a model folder as a causal language model, offline and from safetensors only.

    :raises JobError: when transformers cannot.
    """
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=dtype, use_safetensors=True, local_files_only=True
        ).eval()
    except (ValueError, OSError, RuntimeError) as problem:
        raise JobError(f"The model in {folder} cannot be loaded as a language model: {problem}") from None


def token_logprobs(states: Tensor, head: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """log softmax(head·state / temperature) at given tokens; logits of a few positions are in memory at once.

    :param states: [positions, hidden size].
    :param head: [vocabulary, hidden size]; where it is trained, its logits are computed again in the backward pass.
    :param targets: int64 [positions].
    :returns: float32 [positions].
    """
    if not (head.requires_grad and torch.is_grad_enabled()):
        return TokenLogProbs.apply(states, head, targets, temperature)
    parts = zip(states.split(HEAD_CHUNK), targets.split(HEAD_CHUNK), strict=True)
    return torch.cat([checkpoint(_chunk_logprobs, s, head, t, temperature, use_reentrant=False) for s, t in parts])


def _chunk_logprobs(states: Tensor, head: Tensor, targets: Tensor, temperature: float) -> Tensor:
    logits = (states @ head.T).float() / temperature
    return logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(dim=1)


def places_before(flat: Flat) -> list[int]:
    """The place that each token of the answers follows, among the tokens of rows that lie end to end."""
    places: list[int] = []
    start = flat.common
    for prompt, *answers in flat.sizes:
        last_of_prompt = start + prompt - 1 if prompt else flat.common - 1
        start += prompt
        for length in answers:
            places += [last_of_prompt, *range(start, start + length - 1)]
            start += length
    return places


def columns_before(rows: Sequence[Row], device: torch.device) -> tuple[Tensor, Tensor]:
    """The same in rows of one answer each: row and column of each place, int64 [tokens] each."""
    lengths = [(len(row.prompt), len(row.responses[0])) for row in rows]
    row_numbers = [number for number, (_prompt, length) in enumerate(lengths) for _token in range(length)]
    columns = [column for prompt, length in lengths for column in range(prompt - 1, prompt + length - 1)]
    return torch.tensor(row_numbers, device=device), torch.tensor(columns, device=device)
