"""What a program costs from its start to its end.

Memory is looked at while it runs: the kernel's own figure for an ended child begins with what its parent held.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass

import psutil

SECONDS_BETWEEN_LOOKS = 0.05


def peers_environment() -> dict[str, str]:
    """The environment of a peer's process: without what `rewardmodel` says in it to OpenMP for its own trainings."""
    own = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
    return {name: value for name, value in os.environ.items() if name not in own}


@dataclass(frozen=True)
class Measured:
    """A process from start to end."""

    seconds: float
    peak_mb: float
    """Most memory that it held at once."""


def measure(arguments: list[str]) -> Measured:
    """Run a Python program to its end.

    :raises RuntimeError: when it fails.
    """
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    watched, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
        except psutil.Error:
            break
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if process.wait() != 0:
        raise RuntimeError(f"{arguments[1]} failed with status {process.returncode}.")
    return Measured(time.monotonic() - began, peak / 1e6)
