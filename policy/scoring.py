"""Scores of answers by a reward model that is loaded when the first answers are whole."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewardmodel.chat import Message
from rewardmodel.contract import JobError
from rewardmodel.rundir import RunDir

if TYPE_CHECKING:
    from rewardmodel.model import RewardModel

SCORES_AT_ONCE = 32


class Scorer:
    """Fills in the scores of rows of completions."""

    def __init__(self, run: RunDir, messages: Mapping[str, Sequence[Message]], folder: str | None) -> None:
        """Note what to score with.

        :param messages: chats by prompt id.
        :param folder: of the reward model; None scores nothing.
        """
        self._run = run
        self._messages = messages
        self._folder = folder
        self._model: RewardModel | None = None
        self.seconds = 0.0
        """Spent on scoring."""
        self.load_seconds = 0.0
        """Spent on loading the reward model."""

    def fill(self, rows: Sequence[dict[str, Any]]) -> None:
        """Set each row's ``score``, a few answers at a time so that progress shows.

        :raises JobError: when a score is not a number.
        """
        if self._folder is None:
            return
        model = self._loaded(self._folder)
        began = time.monotonic()
        for start in range(0, len(rows), SCORES_AT_ONCE):
            self._run.stop_if_asked()
            part = rows[start : start + SCORES_AT_ONCE]
            scores = model.score([(self._messages[row["prompt_id"]], row["text"]) for row in part])
            for row, score in zip(part, scores.tolist(), strict=True):
                if not math.isfinite(score):
                    raise JobError(f"The reward model in {self._folder} gives an answer a score that is not a number.")
                row["score"] = score
            self._run.progress("score", start + len(part), len(rows))
        self.seconds += time.monotonic() - began

    def _loaded(self, folder: str) -> RewardModel:
        if self._model is None:
            from rewardmodel.model import load_reward_model

            began = time.monotonic()
            self._run.progress("load", message="Loading the reward model")
            self._model = load_reward_model(Path(folder), dtype="auto", device="auto")
            self.load_seconds += time.monotonic() - began
        return self._model
