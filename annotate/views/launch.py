"""What a lead's buttons do: start runs, take snapshots, decide on generations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.contrib import messages
from django.db.models import Manager, Model
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from annotate.access import LEAD, SignedInRequest, get_generation, get_project
from annotate.models import BackgroundTask, Generation, Project, Run, Split
from annotate.services import Refused, background, evaluations, promotion, runs, snapshots
from annotate.services.recipe import Recipe
from annotate.views.asked import asked
from annotate.views.background import freeze
from annotate.views.reward_settings import settings_of

Record = TypeVar("Record", bound=Model)

LONGEST_NUMBER = 20
"""Digits; Python refuses to read a number of some thousands."""
SHORT_NUMBER = 10
"""Digits that a generation's number stays below."""


@require_POST
def launch(request: SignedInRequest, slug: str, kind: str) -> HttpResponse:
    """Start a run and go to its page, or come back with the reason why not."""
    project = get_project(request, slug, role=LEAD)
    if kind not in LAUNCHERS:
        raise Http404
    try:
        started = LAUNCHERS[kind](request, project)
    except Refused as refusal:
        messages.error(request, str(refusal))
        return redirect("project", slug=slug)
    return redirect("run" if isinstance(started, Run) else "background_task", slug=slug, pk=started.pk)


def _generate(request: SignedInRequest, project: Project) -> Run:
    splits = [split for split in request.POST.getlist("splits") if split in Split.values]
    if not splits:
        raise Refused(_("Choose at least one part of the prompts."))
    return runs.launch_generate(
        project=project,
        actor=request.user,
        generation=_chosen(request, project.generations, "generation"),
        samples=_number(request, "samples", lowest=1, highest=100),
        splits=splits,
        best_of=_number(request, "best_of", lowest=1, highest=64) or 1,
    )


def _train_reward(request: SignedInRequest, project: Project) -> Run | BackgroundTask:
    settings = settings_of(request.POST)
    snapshot = _chosen(request, project.snapshots, "snapshot", by="pk")
    if snapshot is None and not snapshots.is_quick(project):
        return background.ask(project=project, kind="train_reward", asked={"settings": settings}, actor=request.user)
    return runs.launch_train_reward(project=project, actor=request.user, snapshot=snapshot, settings=settings)


def _evaluate(request: SignedInRequest, project: Project) -> Run:
    return runs.launch_evaluate(
        project=project,
        actor=request.user,
        generation=_chosen(request, project.generations, "generation"),
        planned=_number(request, "planned", lowest=1, highest=1_000_000),
        leads_rate=bool(request.POST.get("leads_rate")),
        begun=bool(request.POST["begun"]) if "begun" in request.POST else None,
    )


@require_GET
@never_cache
def evaluation_terms(request: SignedInRequest, slug: str) -> HttpResponse:
    """What a lead can still state of the comparison of ``?generation=``, the newest where that names none.

    A piece of the form that evaluates it.
    """
    project = get_project(request, slug, role=LEAD)
    number = asked(request, "generation")["generation"]
    compared = project.generations.filter(parent__isnull=False)
    chosen = compared.filter(number=int(number)) if number.isdecimal() and len(number) < SHORT_NUMBER else compared
    generation = chosen.order_by("-number").first()
    if generation is None:
        raise Http404
    return render(request, "project/evaluation_terms.html", terms_of(generation))


def terms_of(generation: Generation) -> dict[str, Any]:
    """What the template of the piece shows."""
    found = evaluations.terms(generation)
    leads = generation.project.memberships.filter(role=LEAD, user__in=found.pool)
    return {
        "terms": found,
        "pool": [rater.username for rater in found.pool],
        "leads_in_pool": leads.exists(),
        "planned_by_itself": evaluations.PLANNED_BY_ITSELF,
    }


LAUNCHERS: dict[str, Callable[[SignedInRequest, Project], Run | BackgroundTask]] = {
    Run.Kind.GENERATE.value: _generate,
    Run.Kind.TRAIN_REWARD.value: _train_reward,
    Run.Kind.EVALUATE.value: _evaluate,
}


@require_POST
def take_snapshot(request: SignedInRequest, slug: str) -> HttpResponse:
    """Freeze the judgements as they are now and go to the snapshot."""
    project = get_project(request, slug, role=LEAD)
    try:
        return freeze(request, project, Recipe())
    except Refused as refusal:
        messages.error(request, str(refusal))
        return redirect("project", slug=slug)


@require_POST
def promote(request: SignedInRequest, slug: str, number: int) -> HttpResponse:
    """Serve a generation to the raters."""
    return _decide(request, slug, number, promotion.promote, _("Generation %(number)d is served from now on."))


@require_POST
def reject(request: SignedInRequest, slug: str, number: int) -> HttpResponse:
    """Decide against a generation, or take its promotion back."""
    return _decide(request, slug, number, promotion.reject, _("Generation %(number)d is rejected."))


def _decide(request: SignedInRequest, slug: str, number: int, decision: Callable[..., None], done: str) -> HttpResponse:
    generation = get_generation(request, slug, number)
    try:
        decision(generation=generation, actor=request.user)
        messages.success(request, done % {"number": number})
    except Refused as refusal:
        messages.error(request, str(refusal))
    return redirect("generation", slug=slug, number=number)


def _chosen(request: SignedInRequest, records: Manager[Record], field: str, by: str = "number") -> Record | None:
    """The record that a form names, or None, for the service's own choice, where the field is empty."""
    number = _number(request, field, lowest=0, highest=2**31 - 1)
    if number is None:
        return None
    found = records.filter(**{by: number}).first()
    if found is None:
        raise Refused(_("There is no %(field)s %(number)d here.") % {"field": field, "number": number}, place=field)
    return found


def _number(request: SignedInRequest, field: str, *, lowest: int, highest: int) -> int | None:
    """A whole number of a form, or None where the field is empty."""
    text = request.POST.get(field, "").strip()
    if not text:
        return None
    if not text.isdecimal() or len(text) > LONGEST_NUMBER or not lowest <= int(text) <= highest:
        raise Refused(
            _("%(field)s must be a whole number from %(lowest)d to %(highest)d.")
            % {"field": field, "lowest": lowest, "highest": highest},
            place=field,
        )
    return int(text)
