"""All generations side by side: strengths from blind comparisons, and what was measured of each alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from annotate.access import LEAD, SignedInRequest, get_project
from annotate.models import Aggregate, Project, Split, User
from annotate.services import strengths
from annotate.services.strengths import Compared, Value, by_number
from annotate.stats.estimate import Estimate, Undefined
from annotate.stats.resampling import LEAST_RATERS
from annotate.views.asked import asked
from annotate.views.awaited import statistics_or_page
from annotate.views.statistics_words import METRICS, why
from annotate.views.whose import kind_shown


@dataclass(frozen=True)
class Measured:
    """A row of what was measured of each generation alone."""

    name: str
    meaning: str
    cells: list[Estimate | float | str | None]
    """By generation; words where a figure cannot be had."""


@require_GET
def generations(request: SignedInRequest, slug: str) -> HttpResponse:
    """The page; ``?kind=`` chooses whose judgements count, ``?instructions=`` under which version."""
    project = get_project(request, slug, role=LEAD)
    chosen = asked(request, "instructions")
    version = int(chosen["instructions"]) if chosen["instructions"].isdecimal() else None
    taken = statistics_or_page(request, project, Aggregate.Name.GENERATIONS, _("How generations compare"))
    if isinstance(taken, HttpResponse):
        return taken
    kind = kind_shown(request, strengths.judged_by(taken.data))
    compared = strengths.compared(taken.data, kind=kind, viewer=request.user, instructions=version)
    numbers = list(project.generations.order_by("number").values_list("number", flat=True))
    context = {
        "project": project,
        "tab": "project",
        "kind": kind,
        "kinds": User.Kind.choices,
        "at": taken.at,
        "compared": compared,
        "few_raters": compared.raters < LEAST_RATERS,
        "apart": sorted((v, n) for v, n in compared.judged_under.items() if v != compared.instructions),
        "numbers": numbers,
        "has_references": project.prompts.filter(split=Split.TEST, reference__isnull=False).exists(),
        "measured": _measured(project, numbers, compared, taken.data["alone"]),
        **_ladder(compared, numbers),
    }
    return render(request, "lineage/generations.html", context)


def _ladder(compared: Compared, numbers: list[int]) -> dict[str, Any]:
    """Strengths with their chart, or why there are none; the matrix of win-rates."""
    found = compared.strengths
    matrix = list(zip(compared.numbers, compared.win_rates, strict=True))
    if not compared.judgements:
        return {"missing": _not_compared(numbers), "groups": [], "matrix": []}
    if isinstance(found, Undefined):
        groups = [" · ".join(str(compared.numbers[place]) for place in group) for group in found.groups]
        return {"missing": why(found), "groups": groups, "matrix": matrix}
    rows = list(zip(compared.numbers, found, strict=True))
    return {"rows": rows, "points": _points(compared, found), "matrix": matrix}


def _not_compared(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return _("There is only one model: improve it, and the generation that comes of it is compared with it here.")
    return _("Nothing is compared yet by these raters: evaluate a generation, and its pairs are offered to them.")


def _points(compared: Compared, found: list[Value]) -> str:
    """What the chart draws, as JSON; no ends where there is no interval."""
    known = [estimate for estimate in found if isinstance(estimate, Estimate)]

    def ends(side: int) -> list[float | None]:
        return [None if estimate.interval is None else round(estimate.interval[side], 2) for estimate in known]

    return json.dumps(
        {
            "x": compared.numbers,
            "y": [round(estimate.value, 2) for estimate in known],
            "low": ends(0),
            "high": ends(1),
            "line": 0,
            "share": False,
        }
    )


def _measured(project: Project, numbers: list[int], compared: Compared, alone: dict[str, Any]) -> list[Measured]:
    def row(name: str, meaning: str, values: Mapping[int, Value | float]) -> Measured:
        cells = [values.get(number) for number in numbers]
        return Measured(name, meaning, [why(cell) if isinstance(cell, Undefined) else cell for cell in cells])

    language = get_language() or "en"
    rows = [
        row(
            criterion.in_language("name", language),
            _(
                "Mean score from 1 to 5 on test prompts; the interval is over prompts and raters, and over prompts "
                "alone where fewer than three raters scored."
            ),
            compared.scores[criterion.pk],
        )
        for criterion in project.criteria.order_by("position")
        if criterion.pk in compared.scores
    ]
    if alone["reward_model"] is not None:
        meaning = _("On test prompts, by reward model %(number)d.") % {"number": alone["reward_model"]}
        rows.append(row(_("Reward"), meaning, by_number(alone["rewards"])))
    if alone["perplexities"]:
        meaning = _("Of its own answers to test prompts, as it drew them: lower is surer of itself, not better.")
        rows.append(row(_("Perplexity"), meaning, by_number(alone["perplexities"])))
    for name in next(iter(alone["metrics"].values()), {}):
        label, what = METRICS[name]
        values = by_number({number: found[name] for number, found in alone["metrics"].items()})
        rows.append(row(str(label), str(what), values))
    if alone["kls"]:
        meaning = _("Nats an answer, at the end of PPO, over prompts that it trained on.")
        rows.append(row(_("KL to the parent"), meaning, by_number(alone["kls"])))
    return rows
