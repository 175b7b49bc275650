"""The gate's report: what a lead reads before a generation is promoted or rejected."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from annotate.access import SignedInRequest, get_generation
from annotate.models import Evaluation, EvaluationRater, Generation, User
from annotate.services.comparison import Comparison, compare, may_see
from annotate.services.evaluations import judged_by
from annotate.services.gate import (
    END_RATE_FALL,
    KL_BUDGET,
    LENGTH_BOUND,
    Beside,
    Report,
    Verdict,
    latest_comparison,
    report,
)
from annotate.services.generations import serving
from annotate.stats.estimate import Estimate, Undefined
from annotate.stats.resampling import Floats
from annotate.stats.sequences import Sequence
from annotate.views.asked import asked
from annotate.views.statistics_words import MEASURES, STYLES, verdict_words, why
from annotate.views.whose import kind_shown

ROWS_SHOWN = 12
"""Looks at the sequence that the table has; the chart has all."""


NOTHING = (None, None, 0)
"""A cell without a figure."""


@dataclass(frozen=True)
class Line:
    """A measure of the report."""

    name: str
    meaning: str
    cells: list[tuple[float | None, Any, int]]
    """Older, newer and change, each with its interval and over how many prompts it is; 0 leaves that out."""
    passed: bool | None
    missing: str
    """Why there is nothing; empty where there is."""
    share: bool = False
    otherwise: str = ""
    """What is said where it has not passed and that does not mean that it is out of bounds."""


@require_GET
def gate(request: SignedInRequest, slug: str, number: int) -> HttpResponse:
    """The report on a generation; ``?kind=`` chooses whose comparisons count."""
    generation = _compared(get_generation(request, slug, number))
    kind = kind_shown(request, judged_by(generation))
    found = report(generation, kind=kind)
    progress = _progress(request.user, generation, found.comparison, kind)
    shown = progress["shown"]
    context = {
        **progress,
        "serving": serving(generation.project),
        "kinds": User.Kind.choices,
        "lines": _lines(found),
        "report": found,
        "verdict": verdict_words(found.verdict, kind) if shown else None,
        "by_people": kind == User.Kind.HUMAN,
        "state": found.verdict.value if shown else "hidden",
        "concerns": [MEASURES[name] for name in found.failed],
        "unknown": [name for name, passed in found.checks.items() if passed is None],
        "earlier": _earlier(generation, request.user, kind),
        "is_decided": found.verdict not in (Verdict.NOT_PLANNED, Verdict.TOO_EARLY),
        **(_compared_by(found.comparison) if found.comparison and shown else {}),
    }
    return render(request, "lineage/gate.html", context)


@require_GET
@never_cache
def live(request: SignedInRequest, slug: str, number: int) -> HttpResponse:
    """How far the raters of ``?kind=`` are, without what they say.

    Where that is another stage than ``?stage=``, which the page was made at, the whole page is asked for.
    """
    generation = _compared(get_generation(request, slug, number))
    kind = kind_shown(request, judged_by(generation))
    progress = _progress(request.user, generation, latest_comparison(generation, kind=kind), kind)
    response = render(request, "lineage/gate_progress.html", progress)
    if asked(request, "stage")["stage"] not in ("", progress["stage"]):
        response["HX-Refresh"] = "true"
    return response


def _compared(generation: Generation) -> Generation:
    """The generation, which has a parent to be compared with; the base model has none."""
    if generation.parent is None:
        raise Http404
    return generation


def _progress(user: User, generation: Generation, comparison: Comparison | None, kind: str) -> dict[str, Any]:
    shown = comparison is None or may_see(evaluation=comparison.evaluation, user=user)
    pool = comparison.evaluation.pool.order_by("rater__username") if comparison else EvaluationRater.objects.none()
    return {
        "project": generation.project,
        "tab": "project",
        "generation": generation,
        "comparison": comparison,
        "kind": kind,
        "shown": shown,
        "stage": _stage(comparison, shown) if comparison else "",
        "pool": list(pool.filter(added_at__isnull=True).values_list("rater__username", flat=True)),
        "added": list(pool.filter(added_at__isnull=False).values_list("rater__username", flat=True)),
    }


def _stage(comparison: Comparison, shown: bool) -> str:
    """How far a comparison is, where that changes more of the page than figures; empty where nothing will any more."""
    if not shown:
        return "hidden"
    return "" if comparison.is_over else "complete" if comparison.is_complete else "open"


def _compared_by(comparison: Comparison) -> dict[str, Any]:
    """The result in figures, and its bounds after each prompt for the chart and the table."""
    rate, level = comparison.win_rate(), comparison.at_equal_style()
    n = len(comparison.outcomes)
    bounds = comparison.sequence()
    means = np.cumsum(comparison.outcomes) / np.arange(1, n + 1)
    looks = sorted({*np.linspace(1, n, min(n, ROWS_SHOWN), dtype=int).tolist()}) if n else []
    ends = [ends if fit else None for *ends, fit in zip(bounds.low, bounds.high, bounds.fits, strict=True)]
    return {
        "rate": rate,
        "level": level.rate,
        "level_missing": why(level.rate),
        "level_held": [STYLES[name] for name in level.held],
        "looks": [(look, means[look - 1], ends[look - 1]) for look in looks],
        "points": _points(means, bounds) if n > 1 else "",
    }


def _points(means: Floats, bounds: Sequence) -> str:
    """What the chart draws, as JSON; no bounds where no mean fits."""
    series: dict[str, list[float | None]] = {"y": means.round(4).tolist()}
    for name, values in (("low", bounds.low), ("high", bounds.high)):
        series[name] = [v if fit else None for v, fit in zip(values.round(4).tolist(), bounds.fits, strict=True)]
    return json.dumps({"x": list(range(1, len(means) + 1)), "line": 0.5, "share": True} | series)


def _earlier(generation: Generation, user: User, kind: str) -> list[tuple[Evaluation, Estimate | Undefined | None]]:
    """Comparisons under earlier instructions with their win-rates; None where it is not to be shown."""
    planned = list(generation.evaluations.select_related("guideline"))[:-1]
    return [
        (each, compare(each, kind=kind).win_rate() if may_see(evaluation=each, user=user) else None) for each in planned
    ]


def _lines(found: Report) -> list[Line]:
    def cells(measured: Beside) -> list[tuple[float | None, Any, int]]:
        change = measured.change
        older, newer = ((part.value, part.interval, 0) for part in (measured.older, measured.newer))
        return [older, newer, (change.value, change.interval, change.n)]

    kl = (found.kl.value, found.kl.interval, found.kl.n) if found.kl else NOTHING
    unscored = _("No reward model scored answers of both.") if found.reward.change.value is None else ""
    alone = _("Only one reward model scored these answers: train another one with another seed and evaluate again.")
    return [
        Line(
            _("Reward"),
            _("Mean score by reward model %(number)d; it should rise.") % {"number": found.reward_model.number}
            if found.reward_model
            else "",
            cells(found.reward),
            found.reward.passed,
            unscored,
            otherwise=_("not shown to rise"),
        ),
        Line(
            _("Disagreement of reward models"),
            _("How much higher reward model %(number)d scores than model %(other)d; it should not widen.")
            % {"number": found.reward_model.number, "other": found.other_model.number}
            if found.reward_model and found.other_model
            else "",
            cells(found.disagreement),
            found.disagreement.passed,
            unscored or ("" if found.disagreement.change.value is not None else alone),
        ),
        Line(
            _("KL to the parent"),
            _("Nats an answer at the end of PPO, on the prompts it trained on; at most %(factor)s times its target.")
            % {"factor": KL_BUDGET},
            [NOTHING, kl, NOTHING],
            found.kl_passed,
            "" if found.kl is not None else _("PPO left no figure."),
        ),
        Line(
            _("Length"),
            _("Mean tokens an answer; at most %(factor)s times as long or as short.") % {"factor": LENGTH_BOUND},
            cells(found.length),
            found.length.passed,
            "" if found.length.passed is not None else _("Neither has answered test prompts yet."),
        ),
        Line(
            _("Answers that end"),
            _("Share that ends before the token limit; may fall by %(share)s points.")
            % {"share": int(100 * END_RATE_FALL)},
            cells(found.end_rate),
            found.end_rate.passed,
            "" if found.end_rate.passed is not None else _("Neither has answered test prompts yet."),
            share=True,
        ),
    ]
