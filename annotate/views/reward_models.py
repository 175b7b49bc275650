"""A reward model, for a lead to decide with: what it learned from, how good it is, and having that measured."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from annotate.access import SignedInRequest, get_reward_model
from annotate.models import Project, Prompt, RewardModelReport
from annotate.services.reward_reports import asking, report
from annotate.views.background import at_work
from annotate.views.metrics import side_by_side
from annotate.views.report_words import ACCURACY, CLASSIFICATION, REASONS, SLICES, author_name, names_of
from annotate.views.scores import FORM_ANSWERS

TRAINING_FACTS = ("steps", "best_step", "tokens_per_second", "score_mean", "score_scale")


@require_GET
def reward_model(request: SignedInRequest, slug: str, number: int) -> HttpResponse:
    """A reward model with its report."""
    reward_model = get_reward_model(request, slug, number)
    metrics = reward_model.metrics
    trained = {**metrics.get("training", {}), **metrics}
    found = RewardModelReport.objects.filter(reward_model=reward_model).first()
    tasks = reward_model.project.background_tasks.filter(kind=report.KIND, asked__reward_model=number)
    context = {
        "project": reward_model.project,
        "reward_model": reward_model,
        "runs": reward_model.runs.select_related("made_generation"),
        "measured": side_by_side({_("Test"): metrics.get("test"), _("Dev"): metrics.get("dev")}),
        "training": side_by_side({_("Value"): {name: trained[name] for name in TRAINING_FACTS if name in trained}}),
        "at_work": at_work(tasks),
        "form_answers": FORM_ANSWERS,
        "report": found,
        "shown": shown(found.figures, reward_model.project) if found else None,
    }
    return render(request, "reward_models/page.html", context)


@require_POST
def measure(request: SignedInRequest, slug: str, number: int) -> HttpResponse:
    """Have the report made, or made again."""
    reward_model = get_reward_model(request, slug, number)
    task = asking.ask(reward_model=reward_model, actor=request.user)
    return redirect("background_task", slug=slug, pk=task.pk)


def shown(figures: dict[str, Any], project: Project) -> dict[str, Any]:
    """A report's figures with words, as the page shows them."""
    classified, calibrated = figures["classification"], figures["calibration"]
    return {
        "prompts": figures["prompts"],
        "accuracy": [
            (*words, _figure(figures["accuracy"][name]))
            for name, words in ACCURACY.items()
            if name in figures["accuracy"]  # an earlier report lacks what is measured since
        ],
        "ceiling": figures["accuracy"]["rater with rater"].get("value"),
        "classification": [(*words, _figure(classified[name])) for name, words in CLASSIFICATION.items()]
        if "threshold" in classified
        else None,
        "classified": _figure(classified),
        "temperature": _figure(calibrated["temperature"]),
        "calibration": [
            (name, _figure(part), [_figure(bin_) for bin_ in part.get("bins", [])])
            for name, part in ((_("Before"), calibrated["before"]), (_("After"), calibrated["after"]))
            if part is not None
        ],
        "disagreement": [_figure(group) for group in figures["disagreement"]],
        "curve": [
            {**point, "accuracy": _figure(point["accuracy"]), "ahead": _figure(point["ahead"])}
            for point in figures["curve"]
        ],
        "slices": [
            (title, _named(by, figures["slices"][by], project))
            for by, title in SLICES.items()
            if figures["slices"].get(by)
        ],
        "wrong": _wrong(figures["wrong"]),
        "longer": _figure(figures["length"]["longer"]),
        "longer_preferred": _figure(figures["accuracy"]["length"]),
        "lengths": [_figure(group) for group in figures["length"]["groups"]],
        "authors": [{**row, "name": author_name(row["author"])} for row in figures["authors"]["rows"]],
        "distribution": _distribution(figures["authors"]),
    }


def _figure(figure: dict[str, Any] | None) -> dict[str, Any] | None:
    """A figure, where it is undefined with the reason in words."""
    if figure is None or "reason" not in figure:
        return figure
    return {**figure, "reason": REASONS.get(figure["reason"], figure["reason"])}


def _named(by: str, places: list[dict[str, Any]], project: Project) -> list[tuple[Any, dict[str, Any] | None]]:
    names = names_of(by, [place["key"] for place in places], project)
    return [(names.get(place["key"], place["key"]), _figure(place)) for place in places]


def _wrong(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    prompts = Prompt.objects.in_bulk({pair["prompt"] for pair in pairs})
    return [{**pair, "prompt": prompts[pair["prompt"]]} for pair in pairs]


def _distribution(authors: dict[str, Any]) -> list[tuple[float, float, float, list[float]]]:
    """Lower end, middle and upper end of each bin, and each author's share of answers in it."""
    shares = [row["shares"] for row in authors["rows"]]
    return [
        (low, (low + high) / 2, high, [own[place] for own in shares])
        for place, (low, high) in enumerate(pairwise(authors["edges"]))
    ]
