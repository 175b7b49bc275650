"""Where to compute, and in which arithmetic."""

from __future__ import annotations

import torch

from rewardmodel.contract import Dtype, JobError


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
