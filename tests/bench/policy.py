"""PPO against TRL's last PPO on the same machine and in the same run, and an update against its raw parts.

``HONE_BENCH_PARTS`` takes some of the parts: lora, full. TRL 1.12,
the last that had PPO, is installed into a folder of its own under ``var/peers``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from statistics import fmean
from typing import Any

from tests.bench.bar import Bar
from tests.bench.policy_trainers import PEER, ROOT
from tests.bench.process import peers_environment
from tools.model import unpack_model

UPDATES, PEER_UPDATES = 4, 2
"""Of each trainer; the first warms up."""
TIMES_TRL = {"lora": 3.0, "full": 2.0}
OVERHEAD = 1.25


def run() -> list[Bar]:
    """The figures of the parts asked for."""
    unpack_model()
    install_peer()
    parts = os.environ.get("HONE_BENCH_PARTS", ",".join(TIMES_TRL)).split(",")
    return [bar for part in parts for bar in compare(part)]


def install_peer() -> None:
    """Put TRL 1.12 into a folder of its own, without what it asks for: that is here already."""
    if PEER.is_dir():
        return
    unfinished = PEER.with_suffix(".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(unfinished)]
    subprocess.run([*pip, PEER.name.replace("-", "==")], check=True)
    unfinished.rename(PEER)


def measured(name: str, updates: int) -> dict[str, Any]:
    """Figures of one trainer in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.policy_trainers", name, str(updates)]
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
