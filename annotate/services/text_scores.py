"""Scoring texts that nobody judges: somebody enters or brings answers and gets a reward model's scores of them.

The answers are the run's input files and the scores its output files; nothing of them enters the database.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq
from django.db import transaction
from django.utils.translation import gettext as _

from annotate.formats.reading.opening import records
from annotate.formats.reading.problems import LeftOut, Unreadable, Wrong
from annotate.formats.reading.rows import Messages, answer_of, prompt_of
from annotate.models import RewardModel, Run, User
from annotate.services import Refused
from annotate.services.files import run_folder
from annotate.services.inputs import write_answers
from annotate.services.runs import launch_score_texts
from rewardmodel.contract import ANSWERS_FILE

MOST_ANSWERS = 100_000
"""Of one run."""


@dataclass(frozen=True)
class Texts:
    """Answers to one prompt."""

    messages: Messages
    responses: list[str]


@dataclass(frozen=True)
class Scored:
    """Answers to one prompt with their scores."""

    messages: Messages
    responses: list[str]
    scores: list[float]
    deviations: list[float | None]
    """Of the scores of an ensemble's members."""

    @property
    def answers(self) -> list[tuple[str, float, float | None]]:
        """Each answer with its score and the deviation."""
        return list(zip(self.responses, self.scores, self.deviations, strict=True))


def texts_of(prompt: Any, responses: Sequence[Any]) -> Texts:
    """Answers as somebody entered them.

    :raises Refused: when there are none, or one of them cannot be scored.
    """
    if not responses:
        raise Refused(_("Enter at least one answer to score."), place="responses")
    try:
        return Texts(prompt_of(prompt), [answer_of(response, _("an answer")) for response in responses])
    except (Wrong, LeftOut) as problem:
        raise Refused(_("It cannot be scored: %(problem)s.") % {"problem": problem}) from problem


def read_texts(source: Path | BinaryIO) -> list[Texts]:
    """Answers of a file in JSON lines, JSON, CSV or Parquet.

    Each record has ``prompt``, text or a chat, and ``responses``, a list, or one ``response`` or ``completion``.

    :raises Refused: naming the line and what is wrong with it, or that there is nothing.
    """
    found: list[Texts] = []
    answers = 0
    try:
        for record in records(source):
            value = record.value
            if record.problem or not isinstance(value, dict):
                raise Refused(
                    _("Line %(line)d cannot be read: %(problem)s.")
                    % {"line": record.line, "problem": record.problem or _("it is no record with names")}
                )
            one = value.get("response", value.get("completion"))
            responses = value["responses"] if isinstance(value.get("responses"), list) else [] if one is None else [one]
            try:
                found.append(texts_of(value.get("prompt", []), responses))
            except Refused as refusal:
                raise Refused(_("Line %(line)d: %(problem)s") % {"line": record.line, "problem": refusal}) from refusal
            answers += len(responses)
            if answers > MOST_ANSWERS:
                raise Refused(_("At most %(most)d answers are scored at once.") % {"most": MOST_ANSWERS})
    except Unreadable as problem:
        raise Refused(str(problem)) from problem
    if not found:
        raise Refused(_("There is nothing to score in it."))
    return found


def score(*, reward_model: RewardModel, texts: Sequence[Texts], actor: User | None, ring: bool = True) -> Run:
    """Ask for a reward model's scores of answers.

    :param ring: whether to call a worker; False leaves the run to the caller.
    """
    with transaction.atomic():
        run = launch_score_texts(reward_model=reward_model, count=len(texts), actor=actor, ring=ring)
        write_answers(
            run,
            [
                {"row_id": str(number), "messages": each.messages, "responses": each.responses}
                for number, each in enumerate(texts)
            ],
        )
    return run


def scored(run: Run) -> Iterator[Scored]:
    """What a run that ended well scored, in the order in which it was given."""
    folder = run_folder(run)
    shards = sorted((run.result or {}).get("shards", {}))
    scores = (row for name in shards for row in pq.read_table(folder / name).to_pylist())
    for batch in pq.ParquetFile(folder / ANSWERS_FILE).iter_batches(batch_size=1000):
        for row in batch.to_pylist():
            own = [next(scores) for _response in row["responses"]]
            yield Scored(
                row["messages"],
                row["responses"],
                [entry["score"] for entry in own],
                [None if entry["variance"] is None else math.sqrt(entry["variance"]) for entry in own],
            )
