"""Measuring a reward model: all figures of its report, and keeping them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from django.db.models.functions import Now
from django.utils.translation import gettext as _
from scipy.special import expit

from annotate.models import Project, RewardModel, RewardModelReport, Split, User
from annotate.services import Refused
from annotate.services.heartbeat import OnProgress
from annotate.services.reward_reports import people, predictions, rankings
from annotate.services.reward_reports.curve import learning_curve
from annotate.services.reward_reports.outcomes import Outcomes, Plain, plain
from annotate.services.reward_reports.predictions import Predicted, margins_of
from annotate.stats.calibration import temperature as fitted_temperature
from annotate.stats.estimate import Undefined
from annotate.stats.intervals import clustered_mean
from annotate.stats.reward_models import (
    Group,
    best_threshold,
    classification,
    reliability,
    right,
    right_by_disagreement,
    score_by_length,
)

KIND = "reward_report"
"""Of the background task that makes one."""
SLICES = ("rater", "criterion", "norm", "kind", "source", "strength", "lengths", "position", "script", "tag")
MOST_OF_A_KIND = 30
"""Places of one kind that are kept, those with most pairs."""
WITH_PEOPLE = (
    "model with rater",
    "rater with rater",
    "model with majority of others",
    "rater with majority of others",
)
"""What is said of how far the model, and raters, agree with raters."""
BINS = 20
"""Of a distribution of scores."""
Figures = dict[str, Any]


def make_report(*, reward_model: RewardModel, on_progress: OnProgress | None = None) -> RewardModelReport:
    """Measure a reward model on the test rankings of its snapshot and keep what is found in place of an earlier report.

    :raises Refused: when the predictions that its training left are not on this machine.
    """
    began = time.monotonic()
    predicted = predictions.read(reward_model.run)
    if predicted is None:
        raise Refused(
            _(
                "What this reward model said of the test answers is not on this machine (it was restored, or trained "
                "by an earlier version): train it again to have it measured."
            )
        )
    figures = _figures(reward_model, predicted, on_progress)
    report, _new = RewardModelReport.objects.update_or_create(
        reward_model=reward_model,
        defaults={"figures": figures, "seconds": round(time.monotonic() - began, 3), "at": Now()},
    )
    report.refresh_from_db(fields=["at"])  # by the database's clock
    return report


def make(project: Project, asked: dict[str, Any], _actor: User | None, on_progress: OnProgress) -> dict[str, Any]:
    """A report: asked for by ``reward_model``, the number of the model, under which it also comes."""
    reward_model = project.reward_models.select_related("run", "snapshot").get(number=asked["reward_model"])
    make_report(reward_model=reward_model, on_progress=on_progress)
    return {"reward_model": reward_model.number}


def _figures(reward_model: RewardModel, predicted: Mapping[str, Predicted], on_progress: OnProgress | None) -> Figures:
    read = 0

    def on_read(more: int) -> None:
        nonlocal read
        read += more
        if on_progress:
            on_progress("measuring", read, 0)

    rows = rankings.tested(reward_model.snapshot, predicted, on_read)
    test = [ranking for ranking in predicted.values() if ranking.split == Split.TEST]
    dev = [ranking for ranking in predicted.values() if ranking.split == Split.DEV]
    outcomes = Outcomes()
    rankings.slice_up(rows, outcomes)
    people.compare(reward_model.snapshot, rankings.scores_by_completion(rows), outcomes)
    margins, prompts = margins_of(test)
    for value, prompt in zip(right(margins), prompts, strict=True):
        outcomes.add("model", "", float(value), prompt)
    dev_margins, _dev_prompts = margins_of(dev)
    temperature = fitted_temperature(dev_margins, np.ones(len(dev_margins)))
    scale = temperature if isinstance(temperature, float) else 1.0
    return {
        "prompts": len(set(prompts)),
        "accuracy": {
            "model": outcomes.share("model", ""),
            "length": outcomes.share("length", "rater"),
            **{name: outcomes.share("people", name) for name in WITH_PEOPLE},
        },
        "classification": _classification(dev, test),
        "calibration": _calibration(rankings.judged_pairs(rows), temperature),
        "disagreement": _disagreement(test, prompts),
        "curve": learning_curve(reward_model, predicted),
        "slices": {by: outcomes.of(by)[:MOST_OF_A_KIND] for by in SLICES},
        "wrong": rankings.most_wrong(rows, lambda margin: float(expit(abs(margin) / scale))),
        "length": {**_length(test), "longer": outcomes.share("length", "model")},
        "authors": _authors(rows),
    }


def _classification(dev: list[Predicted], test: list[Predicted]) -> Figures:
    of_dev = [labelled for ranking in dev for labelled in ranking.labelled()]
    threshold = best_threshold([score for score, _good in of_dev], [good for _score, good in of_dev])
    if isinstance(threshold, Undefined):
        return plain(threshold)
    labelled = [(*found, ranking.prompt) for ranking in test for found in ranking.labelled()]
    scores, good, prompts = ([row[place] for row in labelled] for place in range(3))
    found = classification(scores, good, prompts, threshold=threshold)
    if isinstance(found, Undefined):
        return plain(found)
    figures = {name: plain(figure) for name, figure in vars(found).items()}
    return {"threshold": threshold, "n": len(labelled), **figures}


def _calibration(judged: rankings.JudgedPairs, temperature: float | Undefined) -> Figures:
    if isinstance(temperature, Undefined):
        return {"temperature": plain(temperature), "before": _reliability(judged, 1.0), "after": None}
    return {
        "temperature": {"value": temperature},
        "before": _reliability(judged, 1.0),
        "after": _reliability(judged, temperature),
    }


def _reliability(judged: rankings.JudgedPairs, temperature: float) -> Figures:
    found = reliability(judged.margins, judged.prompts, pairs=judged.pairs, temperature=temperature)
    if isinstance(found, Undefined):
        return plain(found)
    bins = zip(found.confidence, found.share_right, strict=True)
    return {
        "error": found.error,
        "by_chance": found.by_chance,
        "n": found.n,
        "bins": [{"confidence": confidence, **plain(share)} for confidence, share in bins],
    }


def _length(test: list[Predicted]) -> Figures:
    scores = [score for ranking in test for score in ranking.scores]
    lengths = [length for ranking in test for length in ranking.characters]
    prompts = [ranking.prompt for ranking in test for _score in ranking.scores]
    return {"groups": _groups(score_by_length(scores, lengths, prompts))}


def _disagreement(test: list[Predicted], prompts: list[str]) -> list[Figures]:
    margins = [own for ranking in test for own in ranking.margins_of_members()]
    return _groups(right_by_disagreement(margins, prompts))


def _groups(groups: list[Group]) -> list[Figures]:
    return [{"middle": group.middle, **plain(group.figure)} for group in groups]


def _authors(rows: list[rankings.Tested]) -> Figures:
    """How the scores of what each generation wrote are distributed, over common bins."""
    found = rankings.answers_by_author(rows)
    everything: list[float] = [score for scores, _prompts in found.values() for score in scores]
    if not everything:
        return {"edges": [], "rows": []}
    low, high = min(everything), max(everything)
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    entries = []
    for author, (scores, prompts) in found.items():
        counts, _edges = np.histogram(scores, edges)
        quartiles = np.quantile(scores, [0.25, 0.5, 0.75]).tolist()
        mean: Plain = plain(clustered_mean(scores, prompts))
        entries.append(
            {"author": author, "mean": mean, "quartiles": quartiles, "shares": (counts / len(scores)).tolist()}
        )
    return {"edges": edges.tolist(), "rows": entries}
