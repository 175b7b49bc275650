"""Runs: the list, one run as it goes, stopping it and going on with it."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from annotate.access import LEAD, SignedInRequest, get_project, get_run
from annotate.models import Run
from annotate.services import Refused, control, watching
from annotate.services.files import resume_step
from annotate.services.methods import method_of
from annotate.views.metrics import UNCHARTED, measure_of, place_of, stage_name
from annotate.views.paging import page_of
from annotate.views.scores import first_scores

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
    answers = run.completions.count()
    context = {**_live(run), "job": _flat(run.job), "answers": answers, "scored": first_scores(run), "tab": "runs"}
    return render(request, "runs/page.html", context)


@require_GET
@never_cache
def live(request: SignedInRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """The part of the page that changes while a run goes on."""
    run = get_run(request, slug, pk)
    response = render(request, "runs/polled.html", _live(run))
    if not run.active:
        response["HX-Refresh"] = "true"  # what came out is shown by the whole page
    return response


@require_POST
def cancel(request: SignedInRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Stop a run in order."""
    return _control(request, get_run(request, slug, pk), control.cancel)


@require_POST
def resume(request: SignedInRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Go on with a run that ended early."""
    return _control(request, get_run(request, slug, pk), control.resume)


@require_POST
def settle(request: SignedInRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Take what a training that ended early has saved last as its result."""
    return _control(request, get_run(request, slug, pk), control.settle)


def _control(request: SignedInRequest, run: Run, change: Callable[..., Run]) -> HttpResponse:
    try:
        change(run=run, actor=request.user)
    except Refused as refusal:
        messages.error(request, str(refusal))
    return redirect("run", slug=run.project.slug, pk=run.pk)


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
        "resumes_at": resume_step(run),
        **_watched(run),
        "can_settle": run.ended_early and control.can_settle(run),
        "table": table,
    }


def _watched(run: Run) -> dict[str, Any]:
    """What only a run that improves the policy shows."""
    if run.kind != Run.Kind.IMPROVE:
        return {}
    updates = watching.updates_of(run)
    return {
        "method": method_of(run).label,
        "warnings": watching.warnings(run, updates),
        "shares": [
            (measure_of(part.stage).label, part)
            for part in sorted(watching.shares(updates), key=lambda part: place_of(part.stage))
        ],
        "shown": watching.shown(run, updates),
    }


def _update_at_work(progress: dict[str, Any], stage: str) -> int | None:
    """The update of PPO that is being made, from 1; None outside of one."""
    number = progress.get("metrics", {}).get("update")
    return None if number is None or stage == "ppo" else number + 1


def _series(run: Run) -> list[dict[str, Any]]:
    """The numbers of the progress, by stage and name; where an attempt went over the same ground, its own."""
    found: dict[tuple[str, str], tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    events = run.events.order_by("attempt", "sequence")
    begun: set[tuple[int, str, str]] = set()
    for attempt, stage, done, metrics in events.values_list("attempt", "stage", "done", "metrics"):
        for name, value in metrics.items():
            if name not in UNCHARTED and isinstance(value, (int, float)) and not isinstance(value, bool):
                xs, ys = found[stage, name]
                if (attempt, stage, name) not in begun:
                    begun.add((attempt, stage, name))
                    kept = sum(x < done for x in xs)
                    del xs[kept:], ys[kept:]
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
