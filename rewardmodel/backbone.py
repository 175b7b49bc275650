"""Backbones of reward models: loading, padding, and what a backbone can do."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rewardmodel.contract import JobError


def load_backbone(folder: Path, dtype: torch.dtype) -> Any:
    """Load a model folder as a sequence classifier with one output, offline and from safetensors only.

    :raises JobError: when transformers cannot, or a weight is no number.
    """
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    verbosity, progress_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # its table of "missing" weights is the head that we draw ourselves
    logging.disable_progress_bar()
    try:
        backbone = AutoModelForSequenceClassification.from_pretrained(
            str(folder), num_labels=1, dtype=dtype, use_safetensors=True, local_files_only=True
        )
    except (ValueError, OSError, RuntimeError) as problem:
        raise JobError(f"The model in {folder} cannot be loaded as a reward model: {problem}") from None
    finally:
        logging.set_verbosity(verbosity)
        if progress_bar:
            logging.enable_progress_bar()
    for name, parameter in backbone.named_parameters():
        if not math.isfinite(parameter.detach().float().sum()) and not torch.isfinite(parameter).all():
            raise JobError(f"The weights {name} of {folder} hold values that are no numbers.")
    return backbone


def check_length(config: Any, max_tokens: int, name: str) -> None:
    """Refuse texts longer than the model's positions.

    :raises JobError: when it takes fewer than `max_tokens`.
    """
    longest = getattr(config.get_text_config(), "max_position_embeddings", None)
    if longest is not None and max_tokens > longest:
        raise JobError(f"max_tokens is {max_tokens}, but {name} takes at most {longest} tokens.")


def set_padding(tokenizer: Any, backbone: Any) -> None:
    """Pad with another token than the end token where there is one.

    Plain transformers finds a sequence's last token by comparing with the padding id, and would
    read the score one token too early if answers ended with it. Nor would the end token's embedding
    learn anything while it is the one that pads.
    """
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        others = [token for token in tokenizer.all_special_tokens if token != tokenizer.eos_token]
        tokenizer.pad_token = next(
            (t for t in (tokenizer.unk_token, *others[::-1]) if t in others), tokenizer.eos_token
        )
    backbone.config.pad_token_id = tokenizer.pad_token_id
    backbone.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    backbone.get_input_embeddings().padding_idx = None


def takes_positions(backbone: Any) -> bool:
    """Whether a backbone can be told each token's position."""
    return "position_ids" in inspect.signature(backbone.forward).parameters


def may_share_rows(backbone: Any) -> bool:
    """Whether nothing in a decoder's configuration keeps answers in one row from being scored as by themselves.

    Recurrent layers, windows narrower than a row, attention of a kind of its own, and positions that cannot be set do.
    """
    config = backbone.config.get_text_config()
    layer_types = getattr(config, "layer_types", None) or []
    if layer_types:
        full = all(kind == "full_attention" for kind in layer_types)
    else:
        full = not getattr(config, "sliding_window", None)
    return full and takes_positions(backbone) and backbone.config._attn_implementation == "sdpa"


def blocks_of(trunk: nn.Module, count: int) -> tuple[str, nn.ModuleList]:
    """A trunk's list of blocks with its name, such as ``layers`` or ``encoder.layer``.

    :param count: how many blocks it has.
    :raises JobError: when there is no such list.
    """
    for name, module in trunk.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name, module
    raise JobError("The backbone is not one stack of blocks, so its upper ones cannot be trained by themselves.")


def block_number(module_name: str) -> int:
    """The number in a name such as ``layers.7.mlp.up_proj``; -1 outside the blocks."""
    return next((int(part) for part in module_name.split(".") if part.isdigit()), -1)
