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
from annotate.models import Project, Split, User
from annotate.services import strengths
from annotate.services.measure import last_kl
from annotate.services.strengths import Compared, Value
from annotate.stats.bradley_terry import Strengths
from annotate.stats.estimate import Undefined
from annotate.views.asked import asked
from annotate.views.statistics_words import METRICS, why


@dataclass(frozen=True)
class Measured:
    """A row of what was measured of each generation alone."""

    name: str
    meaning: str
    cells: list[Value | float | None]


@require_GET
def generations(request: SignedInRequest, slug: str) -> HttpResponse:
    """The page; ``?kind=`` chooses whose judgements count, ``?instructions=`` under which version."""
    project = get_project(request, slug, role=LEAD)
    chosen = asked(request, "kind", "instructions")
    kind = chosen["kind"] if chosen["kind"] in User.Kind.values else User.Kind.HUMAN.value
    version = int(chosen["instructions"]) if chosen["instructions"].isdecimal() else None
    compared = strengths.compared(project, kind=kind, viewer=request.user, instructions=version)
    numbers = list(project.generations.order_by("number").values_list("number", flat=True))
    context = {
        "project": project,
        "tab": "project",
        "kind": kind,
        "kinds": User.Kind.choices,
        "compared": compared,
        "apart": sorted((number, n) for number, n in compared.judged_under.items() if number != compared.instructions),
        "numbers": numbers,
        "has_references": project.prompts.filter(split=Split.TEST, reference__isnull=False).exists(),
        "measured": _measured(project, numbers, kind, compared.instructions),
        **_ladder(compared),
    }
    return render(request, "lineage/generations.html", context)


def _ladder(compared: Compared) -> dict[str, Any]:
    """Strengths with their chart, or why there are none; the matrix of win-rates."""
    found = compared.found.strengths
    matrix = list(zip(compared.numbers, compared.found.win_rates, strict=True))
    if isinstance(found, Undefined):
        groups = [" · ".join(str(compared.numbers[place]) for place in group) for group in found.groups]
        return {"missing": why(found), "groups": groups, "matrix": matrix if compared.judgements else []}
    rows = list(zip(compared.numbers, found.models, strict=True))
    return {"rows": rows, "points": _points(compared, found), "matrix": matrix}


def _points(compared: Compared, found: Strengths) -> str:
    """What the chart draws, as JSON; without intervals their ends are the strengths themselves."""
    ends = [estimate.interval or [estimate.value, estimate.value] for estimate in found.models]
    return json.dumps(
        {
            "x": compared.numbers,
            "y": [round(estimate.value, 2) for estimate in found.models],
            "low": [round(low, 2) for low, _high in ends],
            "high": [round(high, 2) for _low, high in ends],
            "line": 0,
            "share": False,
        }
    )


def _measured(project: Project, numbers: list[int], kind: str, instructions: int | None) -> list[Measured]:
    def row(name: str, meaning: str, values: Mapping[int, Value]) -> Measured:
        return Measured(name, meaning, [values.get(number) for number in numbers])

    language = get_language() or "en"
    rows = [
        row(
            criterion.in_language("name", language),
            _("Mean score from 1 to 5, with an interval over prompts and raters."),
            by_number,
        )
        for criterion, by_number in strengths.scores(project, kind=kind, instructions=instructions).items()
    ]
    model, rewards = strengths.rewards(project)
    if model is not None:
        meaning = _("On test prompts, by reward model %(number)d.") % {"number": model.number}
        rows.append(row(_("Reward"), meaning, rewards))
    metrics = strengths.task_metrics(project)
    for name in next(iter(metrics.values()), {}):
        label, what = METRICS[name]
        rows.append(row(str(label), str(what), {number: found[name] for number, found in metrics.items()}))
    kls = {generation.number: last_kl(generation) for generation in project.generations.all()}
    if any(kl is not None for kl in kls.values()):
        rows.append(Measured(_("KL to the parent"), _("Nats an answer, at the end of PPO."), [kls[n] for n in numbers]))
    return rows
