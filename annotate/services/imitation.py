"""Answers of a snapshot that are worth imitating: what SFT learns from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from annotate.formats.writing.ranking import Ranking
from annotate.models import Project, Snapshot, Split
from annotate.services.numbering import numbering_of
from annotate.services.rows import cut_off_answers, rankings

SOURCES = ("edit", "completion", "demonstration")
"""Raters' edits; answers that stand above another and below none; imported answers to imitate."""


def examples(snapshot: Snapshot, sources: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows of ``data/examples.parquet``, each answer to a prompt once.

    An answer that a rater edited is not imitated for the same judgement's sake: the edit is. Preferred answers that
    were cut off are told apart, so that training leaves them out and counts them.

    :param sources: which of :data:`SOURCES`.
    """
    seen: set[tuple[str, int, bool]] = set()
    cut_off = _cut_off(snapshot.project)  # before the rows: some of them are read while they are copied
    for _judgement, group in groupby(rankings(snapshot), key=_origin):
        together = list(group)
        edited = {ranking.responses[1] for ranking in together if ranking.kind == "edit"}
        for ranking in together:
            source = source_of(ranking)
            if source not in sources:
                continue
            for number, place in enumerate(ranking.places_to_imitate()):
                text = ranking.responses[place]
                cut = source == "completion" and ranking.provenance["completions"][place] in cut_off
                key = (ranking.prompt_id, hash(text), cut)
                if key in seen or (source == "completion" and text in edited):
                    continue
                seen.add(key)
                yield {
                    "row_id": f"{ranking.row_id}-{number}" if number else ranking.row_id,
                    "prompt_id": ranking.prompt_id,
                    "split": ranking.split,
                    "messages": ranking.messages,
                    "response": text,
                    "weight": ranking.weight,
                    "source": source,
                    "cut_off": cut,
                }


def source_of(ranking: Ranking) -> str:
    """Which of :data:`SOURCES` the answers of a ranking are that are good by themselves."""
    return ranking.kind if ranking.kind in ("edit", "demonstration") else "completion"


def teaches(snapshot: Snapshot, sources: Sequence[str]) -> bool:
    """Whether a snapshot holds a whole answer to a training prompt that is worth imitating."""
    if "demonstration" in sources and snapshot.counts.get("demonstrations_train"):
        return True
    return any(row["split"] == Split.TRAIN and not row["cut_off"] for row in examples(snapshot, sources))


def teaches_but_for_its_end(snapshot: Snapshot, sources: Sequence[str]) -> bool:
    """Whether it holds one that was cut off."""
    return any(row["split"] == Split.TRAIN and row["cut_off"] for row in examples(snapshot, sources))


def _cut_off(project: Project) -> frozenset[int]:
    """Answers that were cut off, by the numbers that a snapshot's rankings give."""
    here, numbering = cut_off_answers(project), numbering_of(project)
    return frozenset(numbering.there("completion", number) for number in here) if numbering else here


def _origin(ranking: Ranking) -> str:
    """What the rankings of one judgement have in common, and no others."""
    revisions = ranking.provenance.get("revisions")
    return f"revisions {revisions}" if revisions else ranking.row_id
