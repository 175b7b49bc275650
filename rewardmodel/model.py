"""The reward model: a sequence-classification backbone with one output, read at an answer's end.

Works with any ``AutoModelForSequenceClassification`` that puts one linear layer named ``score`` on
a decoder's states, and with encoders whose tokenizer has a chat template. Left out: quantised
weights, encoder–decoders.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rewardmodel.batching import Row, collate, pack, split_by_tokens, tree_mask
from rewardmodel.chat import Answer, Message, load_tokenizer, tokenize_answer
from rewardmodel.contract import Dtype, JobError

SETTINGS_FILE = "reward.json"
FORMAT_VERSION = 1


@dataclass
class Settings:
    """What a checkpoint holds beside weights and tokenizer."""

    base_model: str
    """Where the backbone came from."""
    loss: str
    """The loss it was trained with."""
    max_tokens: int
    """Longest prompt plus response in tokens."""
    shares_prompts: bool = False
    """Whether the backbone scores answers to one prompt equally well in one row."""
    mean: float = 0.0
    """Mean of the raw scores of the training answers."""
    scale: float = 1.0
    """One over their standard deviation."""
    format_version: int = FORMAT_VERSION
    """Version of this file's layout."""


def resolve_device(name: str | torch.device) -> torch.device:
    """The torch device that a job's ``device`` names; ``auto`` is the first GPU, or else the CPU.

    :raises JobError: when torch finds no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):
        raise JobError(f"There is no device {name!r} on this machine.") from None


def resolve_dtype(name: Dtype | torch.dtype, device: torch.device) -> torch.dtype:
    """The arithmetic that a job's ``dtype`` names; ``auto`` is bfloat16 where the processor has it."""
    if isinstance(name, torch.dtype):
        return name
    if name != "auto":
        return {"bfloat16": torch.bfloat16, "float32": torch.float32}[name]
    in_hardware = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if in_hardware else torch.float32


class RewardModel(nn.Module):
    """Scores answers; made by :func:`new_reward_model` or :func:`load_reward_model`."""

    def __init__(self, backbone: Any, tokenizer: Any, settings: Settings) -> None:
        super().__init__()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.settings = settings
        self.is_decoder = isinstance(getattr(backbone, "score", None), nn.Linear)

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
            return nn.functional.linear(self._last_states(rows).float(), self.head.weight.float())[:, 0]
        batch = collate(rows, self.tokenizer.pad_token_id, self.device)
        logits = self.backbone(input_ids=batch.input_ids, attention_mask=batch.segments.ge(0).long()).logits
        return logits[:, 0].float()

    def _last_states(self, rows: Sequence[Row]) -> Tensor:
        """A decoder's state at the last token of each answer, [answers, hidden size]."""
        batch = collate(rows, self.tokenizer.pad_token_id, self.device)
        one_answer_each = all(len(row.responses) == 1 for row in rows)
        mask = batch.segments.ge(0).long() if one_answer_each else tree_mask(batch.segments)
        positions = {"position_ids": batch.position_ids} if self._takes_positions() else {}
        output = self.trunk(input_ids=batch.input_ids, attention_mask=mask, use_cache=False, **positions)
        return output.last_hidden_state[batch.last_row, batch.last_column]

    def _takes_positions(self) -> bool:
        return "position_ids" in inspect.signature(self.backbone.forward).parameters

    def can_share_prompts(self) -> bool:
        """Whether rows of several answers give the states of separate rows, tried on a short one in float32.

        Recurrent layers, windows narrower than a row and positions that cannot be set make them differ.
        """
        config = self.backbone.config.get_text_config()
        layer_types = getattr(config, "layer_types", None) or []
        if not self.is_decoder or not self._takes_positions():
            return False
        if any(kind != "full_attention" for kind in layer_types):
            return False
        if not layer_types and getattr(config, "sliding_window", None):
            return False
        ids = [number % config.vocab_size for number in range(3, 17)]
        answers = [Answer(tuple(ids[:6]), tuple(ids[6:9])), Answer(tuple(ids[:6]), tuple(ids[9:]))]
        self.eval()
        with torch.inference_mode():
            shared = self._last_states(pack(answers, True, len(ids)))
            separate = self._last_states(pack(answers, False, len(ids)))
        return bool((shared - separate).norm() <= 1e-4 * separate.norm())

    def add_adapters(self, rank: int, alpha: int, share_of_layers: float) -> None:
        """Freeze the trunk and put low-rank adapters on the linear layers of its upper blocks.

        Blocks below the lowest adapter need no backward pass.

        Source: Hu et al. 2021, "LoRA: Low-rank adaptation of large language models".

        :param share_of_layers: share of the blocks, counted from the top, above 0 and at most 1.
        """
        from peft import LoraConfig, get_peft_model
        from transformers.pytorch_utils import Conv1D

        blocks = self.backbone.config.get_text_config().num_hidden_layers
        lowest = blocks - math.ceil(share_of_layers * blocks)
        names = [
            name
            for name, module in self.trunk.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and _block_number(name) >= lowest
        ]
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=names)
        self._set_trunk(get_peft_model(self.trunk, config, autocast_adapter_dtype=False))

    def merge(self) -> None:
        """Add the adapters, where there are any, to the weights: what :meth:`save` writes has none."""
        from peft import PeftModel

        if isinstance(self.trunk, PeftModel):
            self._set_trunk(self.trunk.merge_and_unload())

    def _set_trunk(self, trunk: Any) -> None:
        setattr(self.backbone, self.backbone.base_model_prefix, trunk)

    @torch.inference_mode()
    def raw_scores(self, answers: Sequence[Answer], tokens_per_batch: int) -> Tensor:
        """Raw scores of tokenised answers, without gradients.

        :param tokens_per_batch: most tokens of one forward pass, padding included.
        :returns: [n] float32 on the CPU, in the order of `answers`.
        """
        rows = pack(answers, self.settings.shares_prompts, tokens_per_batch)
        scores = torch.empty(len(answers))
        was_training = self.training
        self.eval()
        for group in split_by_tokens([row.tokens for row in rows], tokens_per_batch):
            chosen = [rows[index] for index in group]
            scores[[place for row in chosen for place in row.places]] = self(chosen).cpu()
        self.train(was_training)
        return scores

    def score(self, conversations: Sequence[tuple[Sequence[Message], str]], tokens_per_batch: int = 4096) -> Tensor:
        """Scores of answers to chats, on a scale where the training answers have mean 0 and standard deviation 1.

        :param conversations: pairs of a chat, which may be empty, and an answer to it. Chats too
            long for the model lose their beginning.
        :param tokens_per_batch: most tokens of one forward pass, padding included.
        :returns: [n] float32 on the CPU, in the order given.
        """
        answers = [tokenize_answer(self.tokenizer, *pair, self.settings.max_tokens) for pair in conversations]
        return (self.raw_scores(answers, tokens_per_batch) - self.settings.mean) * self.settings.scale

    def save(self, folder: Path) -> None:
        """Write a folder that plain transformers loads, and beside it mean and scale in ``reward.json``."""
        self.backbone.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / SETTINGS_FILE).write_text(json.dumps(asdict(self.settings), ensure_ascii=False, indent=1))


def _block_number(module_name: str) -> int:
    """The number in a name such as ``layers.7.mlp.up_proj``; -1 outside the blocks."""
    return next((int(part) for part in module_name.split(".") if part.isdigit()), -1)


def new_reward_model(
    tokenizer: Any, settings: Settings, *, dtype: torch.dtype, device: torch.device, seed: int
) -> RewardModel:
    """Put a fresh head, drawn with standard deviation 1/√(d+1), on a language model's backbone.

    Source: Stiennon et al. 2020, "Learning to summarize from human feedback", appendix B.1.

    :param tokenizer: that of ``settings.base_model``; its padding token may be changed.
    :param dtype: of the weights.
    :raises JobError: when the base model cannot carry such a head.
    """
    backbone = _load_backbone(Path(settings.base_model), torch.float32)
    _set_padding(tokenizer, backbone.config)
    longest = getattr(backbone.config.get_text_config(), "max_position_embeddings", None)
    if longest is not None and settings.max_tokens > longest:
        raise JobError(
            f"max_tokens is {settings.max_tokens}, but {settings.base_model} takes at most {longest} tokens."
        )
    model = RewardModel(backbone, tokenizer, settings)
    if not isinstance(model.head, nn.Linear):
        raise JobError(f"The model in {settings.base_model} has no linear layer named score or classifier as its head.")
    settings.shares_prompts = model.can_share_prompts()
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
    backbone = _load_backbone(folder, dtype).to(device)
    return RewardModel(backbone, load_tokenizer(folder), Settings(**values)).eval().requires_grad_(False)


def _load_backbone(folder: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    verbosity, progress_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # its table of "missing" weights is the head that we draw ourselves
    logging.disable_progress_bar()
    try:
        return AutoModelForSequenceClassification.from_pretrained(
            str(folder), num_labels=1, dtype=dtype, use_safetensors=True, local_files_only=True
        )
    except (ValueError, OSError, RuntimeError) as problem:
        raise JobError(f"The model in {folder} cannot be loaded as a reward model: {problem}") from None
    finally:
        logging.set_verbosity(verbosity)
        if progress_bar:
            logging.enable_progress_bar()


def _set_padding(tokenizer: Any, config: Any) -> None:
    """Pad with another token than the end token where there is one.

    Plain transformers finds a sequence's last token by comparing with the padding id, and would
    read the score one token too early if answers ended with it.
    """
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        others = [token for token in tokenizer.all_special_tokens if token != tokenizer.eos_token]
        tokenizer.pad_token = next(
            (t for t in (tokenizer.unk_token, *others[::-1]) if t in others), tokenizer.eos_token
        )
    config.pad_token_id = tokenizer.pad_token_id
    config.get_text_config().pad_token_id = tokenizer.pad_token_id
