"""What tells that a policy exploits its reward instead of getting better.

PPO's own loop knows one reward. :class:`Watch` stands in its place, hands it on, and tells beside it what the same
answers score with a second reward model and how much they repeat themselves: a line of stage ``watch`` for each policy
that answers, the parent's being the first. What only watches ends no run: of an update in which the second model gives
an answer no number, the line has ``other_reward_missing``, how many such answers, in place of its mean score.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from policy.contract import ImproveJob
from rewardmodel.chat import Message
from rewardmodel.rundir import RunDir, step_of

if TYPE_CHECKING:
    from torch import Tensor

    from policy.rollout import Reward

CHINESE = "\u3400-\u4dbf\u4e00-\u9fff"
WORD = re.compile(f"[{CHINESE}]|[^\\W_{CHINESE}]+")
GRAM = 4


class Watch:
    """A reward that tells of the answers that it scores."""

    def __init__(self, run: RunDir, job: ImproveJob, prompts: int, reward: Reward) -> None:
        """Stand in for a reward.

        :param prompts: how many there are to practise on.
        """
        self.other: Reward | None = None
        """Scores the same answers and trains nothing."""
        self._run = run
        self._reward = reward
        self._policies = job.updates + 1  # the last one's answers are scored, too
        self._answers = min(prompts, job.prompts_per_update) * job.samples_per_prompt
        checkpoint = run.latest_checkpoint()
        self._made = 0 if checkpoint is None else step_of(checkpoint)
        self._texts: list[str] = []
        self._scores: list[float] = []

    def __call__(self, conversations: Sequence[tuple[Sequence[Message], str]]) -> Tensor:
        """The scores of the reward; once an update's answers are whole, a line of progress."""
        scores = self._reward(conversations)
        self._texts += [text for _messages, text in conversations]
        if self.other is not None:
            self._scores += self.other(conversations).tolist()
        if len(self._texts) >= self._answers:
            self._tell()
        return scores

    def _tell(self) -> None:
        self._made += 1
        measured: dict[str, Any] = {"repetition": repetition(self._texts)}
        if without := sum(not math.isfinite(score) for score in self._scores):
            measured["other_reward_missing"] = without
        elif self._scores:
            measured["other_reward"] = fmean(self._scores)
        self._run.progress("watch", self._made, self._policies, **measured)
        self._texts, self._scores = [], []


def repetition(texts: Sequence[str]) -> float:
    """Share of an answer's sequences of four words that occurred before in it, mean over the answers.

    A word is a run of letters or digits, or one Chinese character. An answer of fewer than four words repeats nothing.

    :returns: from 0 to 1; 0 for no answers.

    Source: Welleck et al. 2020, "Neural text generation with unlikelihood training", section 6 (seq-rep-4).
    """
    shares = [_repetition(text) for text in texts]
    return sum(shares) / len(shares) if shares else 0.0


def _repetition(text: str) -> float:
    words = [word.lower() for word in WORD.findall(text)]
    grams = [tuple(words[start : start + GRAM]) for start in range(len(words) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
