"""The policies of a PPO run that are kept: looked at, found to give numbers, and near enough to their parent."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from policy.state import Checkpoint, Metrics, State
from rewardmodel.contract import JobError
from rewardmodel.rundir import CheckpointClock, RunDir, step_of


class Kept:
    """The last policy that was kept, in memory and from time to time in a checkpoint.

    A context: however training ends, the last policy that was kept is in a checkpoint afterwards. The copy in memory
    takes as much as the trained parameters and their moments in float32.
    """

    def __init__(self, run: RunDir, state: State) -> None:
        """Take up the newest checkpoint if there is one."""
        self._run = run
        self._state = state
        self._clock = CheckpointClock(least_seconds=0.0)
        self._last: Checkpoint | None = None
        self._written = 0
        folder = run.latest_checkpoint()
        if folder is not None:
            self._last = Checkpoint.load(folder)
            self._written = step_of(folder)
            state.take_up(self._last, folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write()

    def keep(self, measured: Metrics) -> None:
        """Keep the policy as it stands, and write a checkpoint if that does not take too much of the time.

        :param measured: what was measured of it.
        """
        self._last = self._state.checkpoint(measured)
        if self._clock.due and len(self._last.history) > self._written:
            self._clock.write(self._write)

    def go_back(self, kl: float, limit: float) -> str:
        """Take up the last policy that was kept in place of one that is too far away; what was said of it is final.

        :param kl: of the one that is too far away, nats an answer; ``limit`` likewise.
        :returns: a sentence on what came of it.
        :raises JobError: when none was kept that has learned anything.
        """
        said = (
            f"After update {len(self._state.history)} the policy is {kl:.1f} nats an answer away from its parent, and "
            f"{limit:g} are allowed"
        )
        if self._last is None or not self._last.history:
            raise JobError(f"{said}; no policy before it has learned anything. Lower the learning rate, or allow more.")
        self._state.take_up(self._last, self._run.path)
        return f"{said}: the result is the policy after update {len(self._last.history)}."

    def _write(self) -> None:
        if self._last is not None and len(self._last.history) > self._written:
            self._written = len(self._last.history)
            self._run.publish_checkpoint(self._written, self._last.save)
