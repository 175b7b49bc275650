"""Setting a project up and changing it, by one form with the rating page beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from annotate.access import LEAD, SignedInRequest, get_creator, get_project
from annotate.models import AuditEvent, Project
from annotate.services import Refused, files, projects
from annotate.services.changing import ChangedMeanwhile, change_project, is_model_fixed, parts_of, stamps
from annotate.services.description import ProjectDescription, describe, read_description
from annotate.services.prompts import add_prompts
from annotate.services.sample import FOLDER
from annotate.views.guidelines import changed_lines
from annotate.views.prompts import sent_prompts
from annotate.views.setup_form import SetupForm, form_of
from annotate.views.setup_overtaken import beside, take
from annotate.views.specimen import instructions, specimen

INVALID = 422
BLANK_KEY = "rowkey0"
"""Key of the row that the page copies for a new one."""


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: SignedInRequest) -> HttpResponse:
    """Make a project; htmx posts the form for its preview alone."""
    get_creator(request)
    form = SetupForm.posted(request.POST) if request.method == "POST" else _first_form()
    if request.headers.get("HX-Request"):
        return _preview(request, form)
    context: dict[str, Any] = {"model_fixed": False}
    if request.method == "POST":
        project, context["bad_lines"] = _create(request, form)
        if project is not None:
            messages.success(request, _("The project is made."))
            return redirect("project", slug=project.slug)
    return _page(request, form, context)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def settings(request: SignedInRequest, slug: str) -> HttpResponse:
    """Change a project; htmx posts the form for its preview alone."""
    project = get_project(request, slug, role=LEAD)
    context: dict[str, Any] = {"project": project, "model_fixed": is_model_fixed(project), "tab": "settings"}
    if request.method != "POST":
        return _page(request, _stored_form(project), {**context, "seen": stamps(parts_of(project))})
    form = SetupForm.posted(request.POST)
    form.values["slug"] = project.slug
    if context["model_fixed"]:
        form.values["base_model"] = project.base_model
    if request.headers.get("HX-Request"):
        return _preview(request, form, project)
    context["seen"] = seen = _seen(request)
    if "take" in request.POST:
        stored = _stored_form(project)
        take(form, request.POST["take"], stored)
        differs = [part for part in request.POST.getlist("differs") if part != request.POST["take"]]
        return _page(request, form, {**context, "overtaken": beside(form, stored, differs)}, status=409)
    description = form.check()
    if description is None:
        return _page(request, form, context)
    try:
        changed = change_project(
            project=project,
            description=description,
            base_model=form.values["base_model"] if context["model_fixed"] else _base_model(form),
            criteria=form.stored_numbers("criteria"),
            norms=form.stored_numbers("norms"),
            must_read=form.values.get("must_read") == "on",
            seen=seen,
            actor=request.user,
        )
    except ChangedMeanwhile as conflict:
        return _both(request, project, form, conflict, context)
    except Refused as refusal:
        form.problem(refusal.place or "name", str(refusal))
        return _page(request, form, context)
    messages.success(request, _("Saved.") if changed else _("Nothing was changed."))
    return redirect("settings", slug=slug)


@require_POST
def pause(request: SignedInRequest, slug: str) -> HttpResponse:
    """Hand out no items any more."""
    project = get_project(request, slug, role=LEAD)
    said = _("The project is paused. Raters finish what they hold and get nothing new.")
    return _switched(request, project, projects.pause, said)


@require_POST
def resume(request: SignedInRequest, slug: str) -> HttpResponse:
    """Hand out items again."""
    project = get_project(request, slug, role=LEAD)
    return _switched(request, project, projects.resume, _("The project goes on: raters get items again."))


def _switched(request: SignedInRequest, project: Project, switch: Callable[..., None], said: str) -> HttpResponse:
    try:
        switch(project=project, actor=request.user)
        messages.success(request, said)
    except Refused as refusal:
        messages.error(request, str(refusal))
    return redirect("settings", slug=project.slug)


def _first_form() -> SetupForm:
    """The form of a new project: defaults, a first criterion and instructions to start from."""
    sample = read_description(FOLDER / "project.json").criteria[0]
    language = get_language() or "en"
    rendering = sample.translations.get(language)
    criterion = (rendering or sample).model_dump(include={"name", "description", "anchors"})
    start = _(
        "## What you see\n\nA prompt and some answers of a language model, in random order.\n\n"
        "## What to do\n\n1. Read the prompt and all answers.\n2. Judge each by what it says, not by its length.\n\n"
        "## When to skip\n\nSkip an item that you cannot judge, and say why. It costs you nothing."
    )
    first = ProjectDescription.model_construct(slug="", name="", instructions=start)
    form = SetupForm.of({**first.model_dump(), "criteria": [{**criterion, "translations": {}}]})
    form.values["model"] = "default"
    return form


def _create(request: SignedInRequest, form: SetupForm) -> tuple[Project | None, list[tuple[int, str]]]:
    """The project, or None with the problems told, and the lines of its prompts that cannot be read."""
    description = form.check()
    rows, bad_lines = sent_prompts(request, form.problem)
    if description is None or form.problems:
        return None, bad_lines
    try:
        with transaction.atomic():
            project = projects.create_project(description=description, base_model=_base_model(form), actor=request.user)
            if rows:
                add_prompts(project=project, rows=rows, actor=request.user)
    except Refused as refusal:
        form.problem(refusal.place or "name", str(refusal))
        return None, []
    return project, []


def _base_model(form: SetupForm) -> str:
    if form.values.get("model") == "folder":
        return form.values.get("base_model", "").strip()
    return files.stored(projects.default_model())


def _seen(request: SignedInRequest) -> dict[str, str]:
    """The stamps that the form was opened with; a form without them has seen nothing."""
    try:
        sent = json.loads(request.POST.get("seen", ""))
    except (ValueError, RecursionError):
        return {}
    return {name: str(stamp) for name, stamp in sent.items()} if isinstance(sent, dict) else {}


def _stored_form(project: Project) -> SetupForm:
    """The form that shows a stored project."""
    form = form_of(project, describe(project))
    form.values["must_read"] = "on"
    form.values["model"] = "default" if project.base_model == files.stored(projects.default_model()) else "folder"
    return form


def _both(
    request: SignedInRequest, project: Project, form: SetupForm, conflict: ChangedMeanwhile, context: dict[str, Any]
) -> HttpResponse:
    """Show what two leads made of the same parts; what only the other one changed is taken over."""
    project.refresh_from_db()
    stored = _stored_form(project)
    untouched = [part for part in conflict.parts if part not in conflict.mine]
    for part in untouched:
        take(form, part, stored)
    context |= {
        "seen": stamps(parts_of(project)),
        "overtaken": beside(form, stored, [part for part in conflict.parts if part in conflict.mine]),
        "taken": beside(form, stored, untouched),
        "last_change": AuditEvent.objects.filter(project=project, action="changed").select_related("actor").last(),
    }
    return _page(request, form, context, status=409)


def _page(request: SignedInRequest, form: SetupForm, context: dict[str, Any], status: int = 200) -> HttpResponse:
    whole = {
        **context,
        **_preview_context(form, context.get("project")),
        "form": form,
        "blank_criterion": form.criterion(BLANK_KEY),
        "blank_norm": form.norm(BLANK_KEY),
        "seen": json.dumps(context.get("seen", {})),
        "default_model": projects.DEFAULT_MODEL,
    }
    return render(request, "setup/page.html", whole, status=INVALID if form.problems else status)


def _preview(request: SignedInRequest, form: SetupForm, project: Project | None = None) -> HttpResponse:
    return render(request, "setup/preview.html", _preview_context(form, project))


def _preview_context(form: SetupForm, project: Project | None) -> dict[str, Any]:
    raw = form.raw()
    newest = project.guidelines.order_by("-number").first() if project else None
    shown = instructions(raw)
    before = newest.in_language("text", get_language() or "en").replace("\r\n", "\n") if newest else shown
    return {"specimen": specimen(raw), "instructions": shown, "changes": changed_lines(before, shown)}
