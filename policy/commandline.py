"""The command line that every policy job has."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from rewardmodel.rundir import RunDir, run_job


def run_from_command_line(program: str, job: Callable[[RunDir], None]) -> int:
    """Run a job that is named on the command line by its run directory.

    :returns: the exit status; see :func:`rewardmodel.rundir.run_job`.
    """
    parser = argparse.ArgumentParser(prog=program)
    parser.add_argument("--run-dir", type=Path, required=True, help="folder with spec.json and data/")
    parser.add_argument("--attempt", type=int, help="number of this attempt; the next free one by default")
    arguments = parser.parse_args()
    return run_job(job, arguments.run_dir, arguments.attempt)
