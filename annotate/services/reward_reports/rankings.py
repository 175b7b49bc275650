"""The test rankings of a snapshot beside what the model said of them."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from annotate.formats.writing.ranking import Ranking
from annotate.models import JudgementRevision, Prompt, Snapshot, Split
from annotate.services.numbering import numbering_of
from annotate.services.reward_reports.outcomes import Outcomes
from annotate.services.reward_reports.predictions import Predicted
from annotate.services.rows import OnRead, imported_here, judged_here
from annotate.stats.scripts import script_of

Tested = tuple[Ranking, Predicted]
WORST = 20
"""Pairs that are shown."""
EXCERPT = 300
"""Characters of an answer that are kept to show."""
MUCH_LONGER = 1.5
"""Times the length of the other answer."""


def tested(snapshot: Snapshot, predicted: Mapping[str, Predicted], on_read: OnRead | None) -> list[Tested]:
    """The snapshot's test rankings with the model's scores, rows numbered as they are here."""
    numbering = numbering_of(snapshot.project)
    made: Iterator[Ranking] = chain(
        judged_here(snapshot, Counter(), on_read), imported_here(snapshot, Counter(), on_read)
    )
    found = []
    for ranking in made:
        if ranking.split == Split.TEST:
            row = numbering.ranking(ranking).row_id if numbering else ranking.row_id
            if row in predicted:
                found.append((ranking, predicted[row]))
    return found


@dataclass(frozen=True)
class JudgedPairs:
    """Preferences between two answers, several of them of the same two where several raters judged."""

    margins: list[float]
    """The model's score of the preferred answer less that of the other."""
    prompts: list[str]
    pairs: list[int]
    """The number of the two answers that each is of."""


def judged_pairs(rows: Iterable[Tested]) -> JudgedPairs:
    """All preferences, by what they are of."""
    numbers: dict[tuple[int, int], int] = {}
    found = JudgedPairs([], [], [])
    for ranking, prediction in rows:
        answers = ranking.provenance["completions"]
        for better, worse in prediction.pairs():
            one, other = sorted((answers[better], answers[worse]))
            found.margins.append(prediction.scores[better] - prediction.scores[worse])
            found.prompts.append(ranking.prompt_id)
            found.pairs.append(numbers.setdefault((one, other), len(numbers)))
    return found


def scores_by_completion(rows: Iterable[Tested]) -> dict[int, float]:
    """The model's score of each completion."""
    return {
        completion: score
        for ranking, prediction in rows
        for completion, score in zip(ranking.provenance["completions"], prediction.scores, strict=True)
    }


def slice_up(rows: list[Tested], outcomes: Outcomes) -> None:
    """Count the pairs that are ordered rightly, by what is known of each ranking and pair."""
    prompts = {int(ranking.prompt_id) for ranking, _prediction in rows}
    tags = dict(Prompt.objects.filter(pk__in=prompts).values_list("pk", "tags"))
    for ranking, prediction in rows:
        places = [(by, key) for by, key in _places(ranking) if key != ""]
        places += [("tag", tag) for tag in tags.get(int(ranking.prompt_id), [])]
        for better, worse in prediction.pairs():
            margin = prediction.scores[better] - prediction.scores[worse]
            outcome = _right(margin)
            longer = prediction.characters[better] - prediction.characters[worse]
            outcomes.add("length", "rater", _right(longer), ranking.prompt_id)
            if longer:
                higher = _right(margin if longer > 0 else -margin)
                outcomes.add("length", "model", higher, ranking.prompt_id)
            for by, key in chain(places, _places_of_pair(ranking, prediction, better, worse)):
                outcomes.add(by, key, outcome, ranking.prompt_id)


def _right(margin: float) -> float:
    return (margin > 0) + 0.5 * (margin == 0)


def _places(ranking: Ranking) -> Iterator[tuple[str, str | int]]:
    known = ranking.provenance
    yield "kind", ranking.kind
    yield "source", ranking.source
    yield "script", script_of(" ".join(ranking.responses))
    if len(known.get("raters", [])) == 1:
        yield "rater", known["raters"][0]
    if "norm" in known:
        yield "norm", int(known["norm"])
    if ranking.strength is not None and ranking.origin != "imported":
        yield "strength", int(ranking.strength)


def _places_of_pair(
    ranking: Ranking, prediction: Predicted, better: int, worse: int
) -> Iterator[tuple[str, str | int]]:
    upper, lower = prediction.characters[better], prediction.characters[worse]
    if upper > MUCH_LONGER * lower:
        yield "lengths", "preferred much longer"
    elif lower > MUCH_LONGER * upper:
        yield "lengths", "preferred much shorter"
    else:
        yield "lengths", "of like length"
    shown = ranking.provenance.get("shown") or []
    if shown and shown[better] is not None and shown[worse] is not None:
        yield "position", "first" if shown[better] < shown[worse] else "later"


def most_wrong(rows: list[Tested], confidence: Callable[[float], float]) -> list[dict[str, Any]]:
    """The pairs that the model orders most surely the other way round.

    :param confidence: in a score difference, from ½ to 1.
    """
    wrong = (
        (prediction.scores[better] - prediction.scores[worse], number, better, worse)
        for number, (_ranking, prediction) in enumerate(rows)
        for better, worse in prediction.pairs()
        if prediction.scores[better] < prediction.scores[worse]
    )
    worst = heapq.nsmallest(WORST, wrong)
    revisions = {pk for _m, number, _b, _w in worst for pk in rows[number][0].provenance.get("revisions", [])}
    judgements = dict(JudgementRevision.objects.filter(pk__in=revisions).values_list("pk", "judgement_id"))
    return [
        {
            "prompt": int(rows[number][0].prompt_id),
            "judgements": [judgements[pk] for pk in rows[number][0].provenance.get("revisions", [])],
            "kind": rows[number][0].kind,
            "source": rows[number][0].source,
            "preferred": rows[number][0].responses[better][:EXCERPT],
            "other": rows[number][0].responses[worse][:EXCERPT],
            "scores": [rows[number][1].scores[better], rows[number][1].scores[worse]],
            "confidence": confidence(margin),
        }
        for margin, number, better, worse in worst
    ]


def answers_by_author(rows: Iterable[Tested]) -> dict[str, tuple[list[float], list[str]]]:
    """Scores and prompts of all different answers, by what wrote them."""
    found: dict[str, dict[int, tuple[float, str]]] = defaultdict(dict)
    for ranking, prediction in rows:
        answers = zip(ranking.provenance["completions"], ranking.models, prediction.scores, strict=True)
        for completion, author, score in answers:
            found[author][completion] = (score, ranking.prompt_id)
    return {
        author: ([score for score, _p in own.values()], [prompt for _s, prompt in own.values()])
        for author, own in sorted(found.items())
    }
