"""Low-rank adapters on the upper blocks of a model's trunk.

Source: Hu et al. 2021, "LoRA: Low-rank adaptation of large language models".
"""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from rewardmodel.backbone import block_number


def add_adapters(model: Any, rank: int, alpha: int, share_of_layers: float) -> None:
    """Freeze a model's trunk and put adapters on the linear layers of its upper blocks.

    Blocks below the lowest adapter need no backward pass.

    :param model: with a trunk under its ``base_model_prefix``; what lies outside it is left as it is.
    :param share_of_layers: share of the blocks, counted from the top, above 0 and at most 1.
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    blocks = model.config.get_text_config().num_hidden_layers
    lowest = blocks - math.ceil(share_of_layers * blocks)
    trunk = getattr(model, model.base_model_prefix)
    names = [
        name
        for name, module in trunk.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and block_number(name) >= lowest
    ]
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=names)
    setattr(model, model.base_model_prefix, get_peft_model(trunk, config, autocast_adapter_dtype=False))


def merge_adapters(model: Any) -> None:
    """Add the adapters, where there are any, to the weights of a model's trunk."""
    from peft import PeftModel

    trunk = getattr(model, model.base_model_prefix)
    if isinstance(trunk, PeftModel):
        setattr(model, model.base_model_prefix, trunk.merge_and_unload())
