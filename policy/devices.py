"""Where the arithmetic is done, and in which precision."""

from __future__ import annotations

import torch

from rewardmodel.contract import Dtype


def resolve_device(name: str) -> torch.device:
    """The torch device of a job; ``auto`` is the first GPU, or else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def resolve_dtype(name: Dtype, device: torch.device) -> torch.dtype:
    """The floating-point type of a job; ``auto`` is bfloat16 where the processor has it in hardware.

    A CPU without bfloat16 instructions emulates them many times slower than it computes in float32.
    """
    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    capabilities = torch.cpu.get_capabilities()
    in_hardware = any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if in_hardware else torch.float32
