"""Progress at a steady pace: never silent for long, never a line for every token; and a job that heeds a stop."""

from __future__ import annotations

import time
from typing import Any

from rewardmodel.rundir import RunDir

SECONDS_BETWEEN = 2.0


class Reporter:
    """Writes progress of steps that come faster than anybody reads."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._reported = time.monotonic()

    def step(self, stage: str, done: float, total: float, **metrics: Any) -> None:
        """Report a step if the last report is old enough or the step is the last.

        See :meth:`rewardmodel.rundir.RunDir.progress` for the arguments.

        :raises Stopped: instead of reporting, when the supervisor asked for an end.
        """
        now = time.monotonic()
        if now - self._reported < SECONDS_BETWEEN and done < total:
            return
        self._reported = now
        self._run.stop_if_asked()
        self._run.progress(stage, done, total, **metrics)

    def wait(self, _in_the_way: str = "") -> None:
        """Heed a stop while nothing is done that could be reported.

        :raises Stopped: when the supervisor asked for an end.
        """
        self._run.stop_if_asked()
