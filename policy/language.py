"""A causal language model in training on stored answers, and the log-probabilities that it gives to their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from policy.decoder import Decoder, answer_tokens
from policy.methods import FineTuneJob
from rewardmodel import reading
from rewardmodel.backbone import check_length
from rewardmodel.batching import Row
from rewardmodel.chat import Answer
from rewardmodel.hardware import resolve_device, resolve_dtype


class LanguageModel(nn.Module):
    """A policy that learns from stored answers, at the temperature and within the tokens that its job names."""

    def __init__(self, job: FineTuneJob) -> None:
        """Load the model that training starts from, with fresh adapters, which change nothing yet, or all weights free.

        :raises JobError: when it cannot be loaded or followed, or takes fewer tokens than the job allows.
        """
        super().__init__()
        self.job = job
        device = resolve_device(job.device)
        self.decoder = Decoder(Path(job.policy), dtype=resolve_dtype(job.dtype, device), device=device)
        check_length(self.decoder.model.config, job.max_tokens, job.policy)
        if job.lora_rank:
            self.decoder.add_adapters(job.lora_rank, job.lora_alpha, job.lora_layers, job.seed)
        else:
            self.decoder.model.requires_grad_(True)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.decoder.device

    def pack(self, answers: Sequence[Answer]) -> list[Row]:
        """Lay answers into the rows that this model takes; see :func:`rewardmodel.batching.pack`."""
        return self.decoder.pack(answers, self.job.tokens_per_batch)

    def split(self, sizes: Sequence[int]) -> list[list[int]]:
        """Group items of so many tokens so that each group is one forward pass within the job's budget."""
        return reading.split(sizes, self.job.tokens_per_batch, self.decoder.shares_rows)

    def tokens_of(self, answers: Sequence[Answer]) -> int:
        """Tokens of the rows that answers to one prompt take; where they cannot share one, padding included."""
        return reading.tokens_of(answers, self.decoder.shares_rows)

    def forward(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Log-probability of each token of the answers in some rows, at the job's temperature.

        :returns: float32 [tokens], and the place of each token's answer among those that were packed, int64 [tokens];
            the tokens in the order of the rows, the answers in them and their own.
        """
        tokens, numbers, _steps = answer_tokens(rows)
        places = torch.tensor([place for row in rows for place in row.places])[numbers]
        states = self.decoder.states(rows)
        return self.decoder.logprobs(states, tokens.to(self.device), self.job.temperature), places.to(self.device)

    def publish(self, folder: Path, trained: Mapping[str, Tensor]) -> None:
        """Write the policy as a model folder in the precision of what it started from, with its tokenizer.

        :param trained: values of the trained parameters by name, in float32; adapters hold theirs already.
        """
        self.decoder.publish(folder, {name.removeprefix("decoder."): value for name, value in trained.items()})
