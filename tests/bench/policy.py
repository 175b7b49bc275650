"""PPO against TRL's last PPO on the same machine and in the same run, and an update against its raw parts.

``HONE_BENCH_PARTS`` takes some of the parts: lora, full, gpu. TRL 1.12, the last that had PPO, is installed into a
folder of its own under ``var/peers``. The part gpu has PPO alone, with the engine transformers, where torch sees a GPU.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from statistics import fmean
from typing import Any

import torch

from tests.bench.bar import Bar
from tests.bench.policy_trainers import PEER, ROOT
from tests.bench.process import peers_environment
from tools.model import unpack_model

UPDATES, PEER_UPDATES = 4, 2
"""Of each trainer; the first warms up."""
TIMES_TRL = {"lora": 3.0, "full": 2.0}
OVERHEAD = 1.25
GPU = "gpu"


def run() -> list[Bar]:
    """The figures of the parts asked for."""
    unpack_model()
    parts = os.environ.get("HONE_BENCH_PARTS", ",".join([*TIMES_TRL, GPU])).split(",")
    if parts != [GPU]:
        install_peer()
    return [bar for part in parts for bar in (on_gpu() if part == GPU else compare(part))]


def install_peer() -> None:
    """Put TRL 1.12 into a folder of its own, without what it asks for: that is here already."""
    if PEER.is_dir():
        return
    unfinished = PEER.with_suffix(".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(unfinished)]
    subprocess.run([*pip, PEER.name.replace("-", "==")], check=True)
    unfinished.rename(PEER)


def measured(name: str, updates: int, program: str = "policy_trainers") -> dict[str, Any]:
    """Figures of one trainer, or on one device, in a process of its own."""
    command = [sys.executable, "-m", f"tests.bench.{program}", name, str(updates)]
    environment = peers_environment() | {"PYTHONPATH": str(PEER)} if name.startswith("trl") else None
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{name}: {json.dumps(figures)}", flush=True)
    return figures


def compare(part: str) -> list[Bar]:
    """Samples a second, just before and just after TRL's, beside TRL's; and an update beside its raw parts."""
    before = measured(part, UPDATES)
    peer = measured(f"trl-{part}", PEER_UPDATES)
    after = measured(part, UPDATES)
    ours = fmean(figures["samples_per_second"] for figures in (before, after))
    overheads = [min(figures["seconds"]) / sum(figures["parts"].values()) for figures in (before, after)]
    what = {"lora": "low-rank adapters", "full": "all weights, one trunk for policy and values"}[part]
    return [
        Bar(f"samples a second, {what}", ours, "a second"),
        Bar(
            f"samples a second, {what}, to TRL's", ours / peer["samples_per_second"], "times", at_least=TIMES_TRL[part]
        ),
        Bar(f"wall time of an update, {what}, to its raw parts", max(overheads), "times", at_most=OVERHEAD),
    ]


def on_gpu() -> list[Bar]:
    """PPO on the first GPU: how fast, and what share of its peak the models' own operations are."""
    what = "all weights, engine transformers, on a GPU"
    named = {
        "samples_per_second": (f"samples a second, {what}", "a second", 1.0),
        "tokens_per_second": (f"tokens of answers a second, {what}", "a second", 1.0),
        "peak_tflops": ("matrix products in bfloat16 on the same GPU", "TFLOP/s", 1.0),
        "share_of_peak": (f"an update's operations to that peak, {what}", "%", 100.0),
        "share_of_peak_in_training": (f"its training passes' operations to that peak, {what}", "%", 100.0),
    }
    if not torch.cuda.is_available():
        return [Bar(name, None, unit, missing="no GPU: not measured") for name, unit, _scale in named.values()]
    figures = measured("cuda", UPDATES, "policy_gpu")
    return [Bar(name, scale * figures[key], unit) for key, (name, unit, scale) in named.items()]
