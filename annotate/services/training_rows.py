"""What a reward model is trained on: a snapshot's rankings with how strong a preference is and what the answers score.

A *margin* is a third of the strength that a rater gave a preference: ⅓ for slightly, ⅔ for clearly, 1 for much better,
the small margins of Touvron and others (2023), "Llama 2", section 3.2.2. Strengths of imported pairs are in units of
their own and give none.

*Ratings* are an answer's mean score over criteria and raters. Scores of different sources are on different scales and
are never put together: judgements' scores go in, or where there are none those of the first imported source that has
some.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from statistics import mean
from typing import Any

from annotate.formats.writing.ranking import Ranking
from annotate.models import Score, Snapshot
from annotate.services.numbering import numbering_of
from annotate.services.rows import CHUNK, cut_off_answers, imported_here, judged_here

STRONGEST = 3
"""The greatest strength of a judgement."""


def training_rows(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    """The rows of ``data/rankings.parquet``; demonstrations, which rank nothing, are left out.

    :returns: of each ranking its fields, ``margin`` and ``ratings``, None where there is none, and ``cut_off``.
    """
    numbering = numbering_of(snapshot.project)
    cut_off = cut_off_answers(snapshot.project)

    def row(ranking: Ranking, margin: float | None, ratings: list[float | None] | None) -> dict[str, Any]:
        made = numbering.ranking(ranking) if numbering else ranking
        cut = [number in cut_off for number in ranking.provenance["completions"]]
        return {**vars(made), "margin": margin, "ratings": ratings, "cut_off": cut}

    scale = ""
    judged = judged_here(snapshot, Counter())
    while chunk := list(islice(judged, CHUNK)):
        scores = _scores_of(chunk)
        for ranking in chunk:
            ratings = _ratings(ranking, scores)
            scale = scale or ("judgements" if ratings else "")
            yield row(ranking, _margin(ranking), ratings)
    for ranking in imported_here(snapshot, Counter()):
        if ranking.kind == "demonstration":
            continue
        rated = len(ranking.scores) == len(ranking.responses)
        scale = scale or (f"imported {ranking.source}" if rated else "")
        yield row(ranking, None, [*ranking.scores] if rated and scale == f"imported {ranking.source}" else None)


def _margin(ranking: Ranking) -> float | None:
    return None if ranking.strength is None else ranking.strength / STRONGEST


def _ratings(ranking: Ranking, scores: dict[tuple[int, int], list[int]]) -> list[float | None] | None:
    """Of an item's own answers alone: verdicts on norms and edits are further rows about answers rated already."""
    if ranking.kind not in ("order", "both bad"):
        return None
    given = [
        [value for revision in ranking.provenance["revisions"] for value in scores.get((revision, completion), [])]
        for completion in ranking.provenance["completions"]
    ]
    return [mean(values) if values else None for values in given] if any(given) else None


def _scores_of(rankings: Iterable[Ranking]) -> dict[tuple[int, int], list[int]]:
    """All scores by revision and completion."""
    revisions = {pk for ranking in rankings for pk in ranking.provenance["revisions"]}
    found: dict[tuple[int, int], list[int]] = defaultdict(list)
    rows = Score.objects.filter(revision__in=revisions).values_list("revision_id", "completion_id", "value")
    for revision, completion, value in rows:
        found[revision, completion].append(value)
    return found
