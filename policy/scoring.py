"""Reward models that score answers on their way into a job's files."""

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

AT_ONCE = 32


class Scoring:
    """Reward models, each for a column of the answers; they are loaded when they are first needed, and stay.

    :param folders: of the reward models, by the column that their scores go to; None for a column without one.
    """

    def __init__(self, run: RunDir, folders: Mapping[str, str | None]) -> None:
        self._run = run
        self._folders = {column: folder for column, folder in folders.items() if folder is not None}
        self._models: dict[str, RewardModel] = {}
        self.seconds = {"load": 0.0, "score": 0.0}

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._folders)

    def fill(self, rows: Sequence[dict[str, Any]], messages: Mapping[str, list[Message]]) -> None:
        """Fill the rows' scores, a few answers at a time so that progress shows.

        :param messages: chats by the names of prompts.
        :raises JobError: when a score is not a number.
        """
        for place, (column, folder) in enumerate(self._folders.items()):
            if column not in self._models:
                self._models[column] = self._load(folder)
            began = time.monotonic()
            for start in range(0, len(rows), AT_ONCE):
                self._run.stop_if_asked()
                part = rows[start : start + AT_ONCE]
                scores = self._models[column].score([(messages[row["prompt_id"]], row["text"]) for row in part])
                for row, score in zip(part, scores.tolist(), strict=True):
                    if not math.isfinite(score):
                        raise JobError(f"The reward model in {folder} gives an answer a score that is not a number.")
                    row[column] = score
                self._run.progress("score", place * len(rows) + start + len(part), len(self._folders) * len(rows))
            self.seconds["score"] += time.monotonic() - began

    def _load(self, folder: str) -> RewardModel:
        from rewardmodel.model import load_reward_model

        began = time.monotonic()
        self._run.progress("load", message=f"Loading the reward model {Path(folder).name}")
        model = load_reward_model(Path(folder), dtype="auto", device="auto")
        self.seconds["load"] += time.monotonic() - began
        return model
