"""Scoring answers: a few at a time for every job that does it, and on their way into a job's files."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewardmodel.chat import Message
from rewardmodel.contract import JobError
from rewardmodel.rundir import RunDir

if TYPE_CHECKING:
    from policy.rollout import Reward
    from rewardmodel.model import RewardModel

AT_ONCE = 32


def score_in_parts(
    reward: Reward, conversations: Sequence[tuple[Sequence[Message], str]], on_part: Callable[[int], object]
) -> list[float]:
    """The reward of every answer, a few at a time.

    :param on_part: called after each part with the number of answers that are scored; what it raises ends the work.
    """
    scores: list[float] = []
    for start in range(0, len(conversations), AT_ONCE):
        scores += reward(conversations[start : start + AT_ONCE]).tolist()
        on_part(len(scores))
    return scores


def prompts_without_number(scores: Sequence[float], prompt_ids: Sequence[str]) -> list[str]:
    """The prompts of which an answer has a score that is not a finite number, each once.

    :param prompt_ids: of each score.
    """
    rated = zip(scores, prompt_ids, strict=True)
    return list(dict.fromkeys(prompt_id for score, prompt_id in rated if not math.isfinite(score)))


class Scoring:
    """Reward models, each for a column of the answers; they are loaded when they are first needed, and stay.

    :param folders: of the reward models, by the column that their scores go to; None for a column without one.
    :param device: torch device of the reward models; auto is the first GPU, or else the CPU.
    """

    def __init__(self, run: RunDir, folders: Mapping[str, str | None], device: str = "auto") -> None:
        self._run = run
        self._device = device
        self._folders = {column: folder for column, folder in folders.items() if folder is not None}
        self._models: dict[str, RewardModel] = {}
        self.seconds = {"load": 0.0, "score": 0.0}

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._folders)

    def fill(self, rows: Sequence[dict[str, Any]], messages: Mapping[str, list[Message]]) -> None:
        """Fill the rows' scores, a few answers at a time so that progress shows.

        :param messages: chats by the names of prompts.
        :raises JobError: when a score is not a number, naming its prompt.
        """
        self._run.stop_if_asked()
        conversations = [(messages[row["prompt_id"]], row["text"]) for row in rows]
        for place, (column, folder) in enumerate(self._folders.items()):
            if column not in self._models:
                self._models[column] = self._load(folder)
            began = time.monotonic()
            scores = score_in_parts(
                self._models[column].score, conversations, partial(self._tell, place * len(rows), len(rows))
            )
            if bad := prompts_without_number(scores, [row["prompt_id"] for row in rows]):
                raise JobError(
                    f"The reward model in {folder} gives an answer a score that is not a number, on the prompts "
                    f"{', '.join(bad)}."
                )
            for row, score in zip(rows, scores, strict=True):
                row[column] = score
            self.seconds["score"] += time.monotonic() - began

    def _tell(self, before: int, rows: int, done: int) -> None:
        self._run.stop_if_asked()
        self._run.progress("score", before + done, len(self._folders) * rows)

    def _load(self, folder: str) -> RewardModel:
        from rewardmodel.model import load_reward_model

        began = time.monotonic()
        self._run.progress("load", message=f"Loading the reward model {Path(folder).name}")
        model = load_reward_model(Path(folder), dtype="auto", device=self._device)
        self.seconds["load"] += time.monotonic() - began
        return model
