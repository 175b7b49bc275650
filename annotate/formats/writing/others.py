"""Forms beside TRL's: ranked lists, HH transcripts, UltraFeedback's and Arena's rows, and full provenance."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from annotate.formats.writing.prompts import answer, plain, transcript
from annotate.formats.writing.ranking import Ranking

Rows = Iterator[dict[str, Any]]


def ranked(ranking: Ranking) -> Rows:
    """Whole rankings, ties and unranked answers included, as the reward model of Hone reads them."""
    if ranking.kind == "demonstration":
        return
    yield {
        "messages": ranking.messages,
        "responses": ranking.responses,
        "ranks": ranking.ranks,
        "split": ranking.split,
        "source": ranking.source,
        "strength": ranking.strength,
        "weight": ranking.weight,
    }


def hh(ranking: Ranking) -> Rows:
    """Pairs of transcripts as in Anthropic's HH data (Bai et al. 2022)."""
    beginning = transcript(ranking.messages)
    for better, worse in ranking.pairs():
        yield {
            "chosen": f"{beginning}\n\nAssistant: {better}",
            "rejected": f"{beginning}\n\nAssistant: {worse}",
            "split": ranking.split,
            "source": ranking.source,
        }


def ultrafeedback(ranking: Ranking) -> Rows:
    """An instruction with its scored completions, like UltraFeedback's rows (Cui et al. 2023).

    `overall_score` is what the source gave. Where it gave none, it is 1 for the worst place and grows by 1 with each
    better one; unranked completions have none.
    """
    if ranking.kind == "demonstration":
        return
    lowest = max((rank for rank in ranking.ranks if rank is not None), default=0) + 1
    by_place = [None if rank is None else float(lowest - rank) for rank in ranking.ranks]
    yield {
        "source": ranking.source,
        "instruction": plain(ranking.messages),
        "models": ranking.models,
        "completions": [
            {"model": model, "response": text, "overall_score": score}
            for model, text, score in zip(ranking.models, ranking.responses, ranking.scores or by_place, strict=True)
        ],
        "split": ranking.split,
    }


def arena(ranking: Ranking) -> Rows:
    """Battles of two answers with a winner, ties and both-bad included, as in Chatbot Arena's data."""
    for number, (a, b) in enumerate(combinations(range(len(ranking.responses)), 2)):
        first, second = ranking.ranks[a], ranking.ranks[b]
        if first is None or second is None:
            continue
        winner = "model_a" if first < second else "model_b" if second < first else "tie"
        yield {
            "question_id": f"{ranking.row_id}-{number}",
            "model_a": ranking.models[a],
            "model_b": ranking.models[b],
            "winner": "tie (bothbad)" if ranking.kind == "both bad" else winner,
            "judge": ranking.source,
            "conversation_a": ranking.messages + answer(ranking.responses[a]),
            "conversation_b": ranking.messages + answer(ranking.responses[b]),
            "turn": sum(message["role"] == "user" for message in ranking.messages),
            "split": ranking.split,
        }


def provenance(ranking: Ranking) -> Rows:
    """Whole rankings with everything that is known of where they come from."""
    yield {**vars(ranking), "provenance": {**NOTHING_KNOWN, **ranking.provenance}}


NOTHING_KNOWN: dict[str, Any] = {
    "revisions": [],
    "raters": [],
    "guidelines": [],
    "completions": [],
    "shown": [],
    "norm": None,
    "comparison": None,
    "ranking": None,
    "demonstration": None,
    "batch": None,
}
"""The keys of a row's provenance: numbers of revisions, raters, versions of the instructions, completions, and of what
was imported; the place at which each answer was shown; name and version of a norm; the import."""
