"""The data set types of TRL, each for chats and for plain text (TRL 1.16, ``trl/data_utils.py``).

A row is one answer or one pair, so a ranking of four makes up to six rows of preferences. ``split``, ``source``,
``strength`` and ``weight`` stand beside TRL's own columns, which its trainers leave unread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from annotate.formats.writing.prompts import answer, plain
from annotate.formats.writing.ranking import Ranking

Rows = Iterator[dict[str, Any]]


def preference(ranking: Ranking) -> Rows:
    """Pairs with the prompt apart: ``prompt``, ``chosen``, ``rejected`` (RewardTrainer, DPOTrainer)."""
    for better, worse, origin in _pairs(ranking):
        yield {"prompt": ranking.messages, "chosen": answer(better), "rejected": answer(worse), **origin}


def preference_plain(ranking: Ranking) -> Rows:
    """The same as text."""
    prompt = plain(ranking.messages)
    for better, worse, origin in _pairs(ranking):
        yield {"prompt": prompt, "chosen": better, "rejected": worse, **origin}


def implicit(ranking: Ranking) -> Rows:
    """Pairs of whole chats, of which the prompt is the common beginning: ``chosen``, ``rejected``."""
    for better, worse, origin in _pairs(ranking):
        chosen, rejected = ranking.messages + answer(better), ranking.messages + answer(worse)
        yield {"chosen": chosen, "rejected": rejected, **origin}


def implicit_plain(ranking: Ranking) -> Rows:
    """The same as text; a line end parts a bare prompt from its answer, a space one that asks for the next turn."""
    prompt = plain(ranking.messages)
    joint = "" if not prompt else " " if prompt.endswith("\n\nAssistant:") else "\n"
    for better, worse, origin in _pairs(ranking):
        yield {"chosen": prompt + joint + better, "rejected": prompt + joint + worse, **origin}


def unpaired(ranking: Ranking) -> Rows:
    """Answers called good or bad: ``prompt``, ``completion``, ``label`` (KTOTrainer); see :meth:`Ranking.labels`."""
    for text, label in _labelled(ranking):
        yield {"prompt": ranking.messages, "completion": answer(text), "label": label, **_origin(ranking)}


def unpaired_plain(ranking: Ranking) -> Rows:
    """The same as text."""
    prompt = plain(ranking.messages)
    for text, label in _labelled(ranking):
        yield {"prompt": prompt, "completion": text, "label": label, **_origin(ranking)}


def prompt_completion(ranking: Ranking) -> Rows:
    """Answers to imitate: the best of each ranking, edits above all, and demonstrations (SFTTrainer)."""
    for text in ranking.to_imitate():
        yield {"prompt": ranking.messages, "completion": answer(text), **_origin(ranking)}


def prompt_completion_plain(ranking: Ranking) -> Rows:
    """The same as text."""
    prompt = plain(ranking.messages)
    for text in ranking.to_imitate():
        yield {"prompt": prompt, "completion": text, **_origin(ranking)}


def prompt_only(ranking: Ranking) -> Rows:
    """The prompt alone, to be answered in training."""
    yield {"prompt": ranking.messages, "split": ranking.split}


def prompt_only_plain(ranking: Ranking) -> Rows:
    """The same as text."""
    yield {"prompt": plain(ranking.messages), "split": ranking.split}


def _labelled(ranking: Ranking) -> Iterator[tuple[str, bool]]:
    for text, label in zip(ranking.responses, ranking.labels(), strict=True):
        if label is not None:
            yield text, label


def _pairs(ranking: Ranking) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each pair's better and worse answer, with where it comes from."""
    origin = _origin(ranking)
    for better, worse in ranking.places():
        if ranking.scores:
            origin = {**origin, "strength": ranking.strength_of(better, worse)}
        yield ranking.responses[better], ranking.responses[worse], origin


def _origin(ranking: Ranking) -> dict[str, Any]:
    return {
        "split": ranking.split,
        "source": ranking.source,
        "strength": ranking.strength,
        "weight": ranking.weight,
    }
