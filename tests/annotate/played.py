"""Processes of runs that do as a test tells them, so that a fault comes when it is wanted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from annotate.models import Run

Play = Callable[[str], None]
"""Sets the body of the process's main function, where ``run`` is its run directory."""
Work = Callable[[Run], threading.Thread]
"""Carries a run out in a thread, as a worker does."""

JOB = """
import sys, time, pathlib
from rewardmodel.rundir import run_job
def main(run):
    {body}
sys.exit(run_job(main, pathlib.Path(sys.argv[sys.argv.index("--run-dir") + 1]), int(sys.argv[-1])))
"""

STAYS = "run.progress('load')\n    while True: time.sleep(0.05); run.stop_if_asked()"
DEAF = "run.progress('load'); time.sleep(60)"
DIES = "import os, signal; run.progress('load'); os.kill(os.getpid(), signal.SIGKILL)"


def anew(record: Run) -> Run:
    return Run.objects.get(pk=record.pk)


def once(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
