"""Runs: the list, and one run as it goes."""

from __future__ import annotations

import uuid
from collections import defaultdict
from typing import Any

from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from annotate.access import LEAD, SignedInRequest, get_project, get_run
from annotate.models import Run
from annotate.views.metrics import UNCHARTED, measure_of, place_of, stage_name
from annotate.views.paging import page_of

POINTS_SHOWN = 400
"""A longer series is thinned to about so many points, the last one kept."""


@require_GET
def runs(request: SignedInRequest, slug: str) -> HttpResponse:
    """All runs of a project, the newest first."""
    project = get_project(request, slug, role=LEAD)
    page = page_of(request, project.runs.select_related("requested_by"))
    return render(request, "runs/list.html", {"project": project, "page": page, "tab": "runs"})


@require_GET
def run(request: SignedInRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """One run: what went in, how it goes, what came out."""
    run = get_run(request, slug, pk)
    context = {**_live(run), "job": _flat(run.job), "answers": run.completions.count(), "tab": "runs"}
    return render(request, "runs/page.html", context)


@require_GET
@never_cache
def live(request: SignedInRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """The part of the page that changes while a run goes on."""
    run = get_run(request, slug, pk)
    response = render(request, "runs/live.html", _live(run))
    if not run.active:
        response["HX-Refresh"] = "true"  # what came out is shown by the whole page
    return response


@require_GET
@never_cache
def series(request: SignedInRequest, slug: str, pk: uuid.UUID) -> JsonResponse:
    """The run's metrics for charts: a list of ``{"name", "meaning", "x": [numbers], "y": [numbers]}``."""
    return JsonResponse({"series": _series(get_run(request, slug, pk))})


def _live(run: Run) -> dict[str, Any]:
    charts = _series(run)
    table = [
        {
            "name": chart["name"],
            "meaning": chart["meaning"],
            "first": chart["y"][0],
            "last": chart["y"][-1],
            "lowest": min(chart["y"]),
            "highest": max(chart["y"]),
            "count": len(chart["y"]),
        }
        for chart in charts
    ]
    stage = run.progress.get("stage", "")
    return {
        "project": run.project,
        "run": run,
        "stage": stage_name(stage),
        "update": _update_at_work(run.progress, stage),
        "table": table,
    }


def _update_at_work(progress: dict[str, Any], stage: str) -> int | None:
    """The update of PPO that is being made, from 1; None outside of one."""
    number = progress.get("metrics", {}).get("update")
    return None if number is None or stage == "ppo" else number + 1


def _series(run: Run) -> list[dict[str, Any]]:
    """The numbers of the latest attempt's progress, by stage and name, in the order they came."""
    found: dict[tuple[str, str], tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    events = run.events.filter(attempt=run.attempt).order_by("sequence")
    for stage, done, metrics in events.values_list("stage", "done", "metrics"):
        for name, value in metrics.items():
            if name not in UNCHARTED and isinstance(value, (int, float)) and not isinstance(value, bool):
                xs, ys = found[stage, name]
                xs.append(done)
                ys.append(value)
    return [
        {
            "name": f"{stage_name(stage)} · {measure_of(name).label}",
            "meaning": str(measure_of(name).meaning),
            "x": _thinned(xs),
            "y": _thinned(ys),
        }
        for (stage, name), (xs, ys) in sorted(found.items(), key=lambda entry: place_of(entry[0][1]))
    ]


def _thinned(values: list[float]) -> list[float]:
    step = -(-len(values) // POINTS_SHOWN)
    return values if step <= 1 else [*values[:-1:step], values[-1]]


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level, with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
