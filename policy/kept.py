"""The policies of a PPO run that are kept: looked at, found to give numbers, and near enough to their parent."""

from __future__ import annotations

import shutil

from policy.state import State, load_checkpoint, save_checkpoint
from rewardmodel.contract import JobError
from rewardmodel.rundir import CheckpointClock, RunDir, checkpoints, step_of

MEASURED = {
    *("samples", "reward", "kl", "kl_by_prompt", "kl_base", "kl_coefficient"),
    *("entropy", "mismatch_kl", "length", "end_rate"),
}
"""What is measured of a policy before anything is learned from its answers."""


class Kept:
    """A run's checkpoints, and the state that goes into them."""

    def __init__(self, run: RunDir, state: State) -> None:
        """Take up the newest checkpoint if there is one."""
        self._run = run
        self._state = state
        self._clock = CheckpointClock(least_seconds=0.0)
        checkpoint = run.latest_checkpoint()
        if checkpoint is not None:
            load_checkpoint(checkpoint, state)

    def when_due(self) -> None:
        """Write a checkpoint if the state is newer than the last one, and that does not take too much of the time."""
        if self._is_newer and self._clock.due:
            self._clock.write(self.at_once)

    def at_once(self) -> None:
        """Write a checkpoint if the state is newer than the last one."""
        if self._is_newer:
            self._run.publish_checkpoint(len(self._state.history), lambda folder: save_checkpoint(folder, self._state))

    @property
    def _is_newer(self) -> bool:
        return len(self._state.history) > max(map(step_of, checkpoints(self._run.path)), default=0)

    def go_back(self, kl: float, limit: float) -> str:
        """Take up the newest checkpoint in place of a policy that is too far away; what was said of it is final.

        A checkpoint of the policy that is too far away, which a stop may have left, is deleted: nobody is to go on from
        it.

        :param kl: of that policy, nats an answer; ``limit`` likewise.
        :returns: a sentence on what came of it.
        :raises JobError: when there is no checkpoint.
        """
        made = self._state.history
        for folder in checkpoints(self._run.path):
            if step_of(folder) >= len(made):
                shutil.rmtree(folder)
        said = (
            f"After update {len(made)} the policy is {kl:.1f} nats an answer away from its parent, and {limit:g} are "
            "allowed"
        )
        checkpoint = self._run.latest_checkpoint()
        if checkpoint is None:
            raise JobError(f"{said}; no policy within the limit was saved. Lower the learning rate, or allow more.")
        load_checkpoint(checkpoint, self._state)
        kept = len(self._state.history)
        self._state.final = {name: value for name, value in made[kept].items() if name in MEASURED}
        return f"{said}: the result is the policy after update {kept}."
