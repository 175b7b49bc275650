"""The default model in a checkout's own folder: for benchmarks, studies and pages that show its numbers."""

from __future__ import annotations

from pathlib import Path

from policy.defaultmodel import unpack

MODEL = Path(__file__).resolve().parents[1] / "var" / "models" / "SmolLM2-135M-Instruct"


def unpack_model() -> None:
    """Have the model in :data:`MODEL`; where it is whole already, a second goes by."""
    unpack(MODEL)
