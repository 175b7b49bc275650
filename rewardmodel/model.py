"""The reward model: a sequence-classification backbone with one output, read at an answer's end.

Works with any ``AutoModelForSequenceClassification`` that puts one linear layer named ``score`` on
a decoder's states, and with encoders whose tokenizer has a chat template. A model may hold further
*members* trained with other seeds (:mod:`rewardmodel.ensemble`); the plain folder is the first. Left
out: quantised weights, encoder–decoders.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rewardmodel import attention, ensemble
from rewardmodel.adapters import add_adapters, merge_adapters
from rewardmodel.backbone import check_length, load_backbone, set_padding
from rewardmodel.batching import Row, collate, pack
from rewardmodel.chat import Answer, Message, load_tokenizer, tokenize_answer
from rewardmodel.contract import Dtype, JobError
from rewardmodel.hardware import resolve_device, resolve_dtype
from rewardmodel.reading import flat_states, padded_states, shares_rows, split, tokens_of
from rewardmodel.settings import FORMAT_VERSION, SETTINGS_FILE, Settings


class RewardModel(nn.Module):
    """Scores answers; made by :func:`new_reward_model` or :func:`load_reward_model`."""

    def __init__(self, backbone: Any, tokenizer: Any, settings: Settings) -> None:
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.settings = settings
        self.is_decoder = isinstance(getattr(backbone, "score", None), nn.Linear)
        self.members: list[dict[str, Tensor]] = []
        """Of each further member the backbone's weights in which it differs, by name."""
        if settings.shares_prompts:
            backbone.set_attn_implementation(attention.IMPLEMENTATION)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.backbone.parameters()).device

    @property
    def trunk(self) -> Any:
        """The backbone without its head."""
        return getattr(self.backbone, self.backbone.base_model_prefix)

    @property
    def head(self) -> Any:
        """The linear layer that makes a score of a state."""
        return self.backbone.score if self.is_decoder else getattr(self.backbone, "classifier", None)

    def forward(self, rows: Sequence[Row]) -> Tensor:
        """Raw scores of the answers in some rows.

        :returns: [answers] float32, in the order of the rows and of the answers in them.
        """
        if self.is_decoder:
            if self.settings.shares_prompts:
                all_states, flat = flat_states(self.trunk, rows, self.head.weight.dtype, self.device)
                states = all_states[flat.last]
            else:
                all_states, batch = padded_states(self.trunk, rows, self.tokenizer.pad_token_id, self.device)
                states = all_states[batch.last_row, batch.last_column]
            return nn.functional.linear(states.float(), self.head.weight.float())[:, 0]
        batch = collate(rows, self.tokenizer.pad_token_id, self.device)
        logits = self.backbone(input_ids=batch.input_ids, attention_mask=batch.segments.ge(0).long()).logits
        return logits[:, 0].float()

    def share_prompts(self) -> None:
        """Score answers to one prompt in one row from now on, if that gives the states of separate rows."""
        self.eval()
        self.settings.shares_prompts = self.is_decoder and shares_rows(
            self.backbone, self.trunk, self.tokenizer.pad_token_id
        )

    def pack(self, answers: Sequence[Answer], max_row_tokens: int) -> list[Row]:
        """Lay answers into the rows that this model takes; see :func:`rewardmodel.batching.pack`."""
        return pack(answers, self.settings.shares_prompts, max_row_tokens)

    def tokens_of(self, answers: Sequence[Answer]) -> int:
        """Tokens of the rows that answers to one prompt take; where they cannot share one, padding included."""
        return tokens_of(answers, self.settings.shares_prompts)

    def split(self, sizes: Sequence[int], budget: int) -> list[list[int]]:
        """Group items so that each group is one forward pass within a budget of tokens, padding included."""
        return split(sizes, budget, self.settings.shares_prompts)

    def add_adapters(self, rank: int, alpha: int, share_of_layers: float) -> None:
        """Train low-rank adapters on the upper blocks alone; see :func:`rewardmodel.adapters.add_adapters`."""
        add_adapters(self.backbone, rank, alpha, share_of_layers)

    def merge(self) -> None:
        """Add the adapters, where there are any, to the weights: what :meth:`save` writes has none."""
        merge_adapters(self.backbone)

    @torch.inference_mode()
    def raw_scores(self, answers: Sequence[Answer], tokens_per_batch: int) -> Tensor:
        """Raw scores of tokenised answers by the first member, without gradients.

        :param tokens_per_batch: most tokens of one forward pass, padding included.
        :returns: [n] float32 on the CPU, in the order of `answers`.
        """
        return self._in_batches(answers, tokens_per_batch, lambda rows: self(rows)[:, None])[:, 0]

    @torch.inference_mode()
    def member_scores(self, answers: Sequence[Answer], tokens_per_batch: int) -> Tensor:
        """Scores of tokenised answers by every member, each on its scale, without gradients.

        :returns: [n, members] float32 on the CPU, in the order of `answers` and of the seeds.
        """
        scores = self._in_batches(answers, tokens_per_batch, lambda rows: ensemble.forward_members(self, rows))
        return (scores - torch.tensor([self.settings.mean, *self.settings.member_means])) * self.settings.scale

    def _in_batches(
        self, answers: Sequence[Answer], tokens_per_batch: int, forward: Callable[[Sequence[Row]], Tensor]
    ) -> Tensor:
        rows = self.pack(answers, tokens_per_batch)
        scores = torch.empty(len(answers), 1 + len(self.members))
        was_training = self.training
        self.eval()
        for group in self.split([row.tokens for row in rows], tokens_per_batch):
            chosen = [rows[index] for index in group]
            scores[[place for row in chosen for place in row.places]] = forward(chosen).cpu()
        self.train(was_training)
        return scores

    def score_with_variance(
        self, conversations: Sequence[tuple[Sequence[Message], str]], tokens_per_batch: int = 4096
    ) -> tuple[Tensor, Tensor]:
        """Mean score of answers to chats over the members, and the variance between them.

        :param conversations: pairs of a chat, which may be empty, and an answer to it. Chats too
            long for the model lose their beginning.
        :param tokens_per_batch: most tokens of one forward pass, padding included.
        :returns: mean and variance, [n] float32 on the CPU each, in the order given; a single model's variance is 0.
        """
        answers = [tokenize_answer(self.tokenizer, *pair, self.settings.max_tokens) for pair in conversations]
        return ensemble.mean_and_variance(self.member_scores(answers, tokens_per_batch))

    def score(self, conversations: Sequence[tuple[Sequence[Message], str]], tokens_per_batch: int = 4096) -> Tensor:
        """Scores of answers to chats, on a scale where the training answers have mean 0 and standard deviation 1.

        Of an ensemble it is the conservative score, mean − λ·variance with the λ of its settings.

        :returns: [n] float32 on the CPU, in the order given; arguments as in :meth:`score_with_variance`.
        """
        mean, variance = self.score_with_variance(conversations, tokens_per_batch)
        return ensemble.conservative(mean, variance, self.settings.variance_penalty)

    @torch.no_grad()
    def standardise(self, raw_scores: Tensor) -> float:
        """Bring scores to mean 0 and deviation 1: the deviation goes into the head, the mean into the settings.

        :param raw_scores: [n] float, of answers of the training split.
        :returns: the factor that went into the head.
        """
        deviation = raw_scores.double().std(correction=0).item()
        factor = 1 / deviation if deviation > 0 else 1.0
        for parameter in self.head.parameters():
            parameter.mul_(factor)
        self.settings.mean = raw_scores.double().mean().item() * factor
        return factor

    def save(self, folder: Path) -> None:
        """Write a folder that plain transformers and TRL load, and beside it what they do not know.

        Plain transformers gives the first member's scores up to the constant ``mean`` of ``reward.json``.
        """
        self.backbone.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        for number, weights in enumerate(self.members, start=1):
            save_file(weights, folder / ensemble.member_file(number))
        (folder / SETTINGS_FILE).write_text(json.dumps(asdict(self.settings), ensure_ascii=False, indent=1))


def new_reward_model(
    tokenizer: Any, settings: Settings, *, dtype: torch.dtype, device: torch.device, seed: int
) -> RewardModel:
    """Put a fresh head, drawn with standard deviation 1/√(d+1), on a language model's backbone.

    Source: Stiennon et al. 2020, "Learning to summarize from human feedback", appendix B.1.

    :param tokenizer: that of ``settings.base_model``; its padding token may be changed.
    :param dtype: of the weights.
    :raises JobError: when the base model cannot carry such a head.
    """
    backbone = load_backbone(Path(settings.base_model), torch.float32)
    set_padding(tokenizer, backbone)
    check_length(backbone.config, settings.max_tokens, settings.base_model)
    model = RewardModel(backbone, tokenizer, settings)
    if not isinstance(model.head, nn.Linear):
        raise JobError(f"The model in {settings.base_model} has no linear layer named score or classifier as its head.")
    model.share_prompts()
    for parameter in backbone.parameters():
        parameter.data = parameter.data.to(dtype)  # not .to() of the module: rotary frequencies stay float32
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        drawn = torch.randn(model.head.weight.shape, generator=generator)
        model.head.weight.copy_(drawn / math.sqrt(model.head.in_features + 1))
    return model.to(device)


def load_reward_model(
    folder: Path, *, dtype: Dtype | torch.dtype = "auto", device: str | torch.device = "auto"
) -> RewardModel:
    """Load a published reward model for scoring.

    :param dtype: arithmetic of the backbone, by a job's name for it or torch's.
    :param device: where to compute, by a job's name for it or torch's.
    :raises JobError: when the folder holds no reward model, or one of another version.
    """
    try:
        values = json.loads((folder / SETTINGS_FILE).read_text())
    except FileNotFoundError:
        raise JobError(f"{folder} is not a reward model: it holds no {SETTINGS_FILE}.") from None
    if values.get("format_version") != FORMAT_VERSION:
        raise JobError(f"{folder} is a reward model of another version than {FORMAT_VERSION}.")
    device = resolve_device(device)
    dtype = resolve_dtype(dtype, device)
    backbone = load_backbone(folder, dtype).to(device)
    model = RewardModel(backbone, load_tokenizer(folder), Settings(**values)).eval().requires_grad_(False)
    model.members = ensemble.load_members(folder, len(model.settings.member_means), dtype, device)
    return model
