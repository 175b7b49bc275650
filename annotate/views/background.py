"""What a worker makes while nobody waits: how far it is, what came of it, and giving it up."""

from __future__ import annotations

import dataclasses
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from annotate.access import SignedInRequest, get_background_task
from annotate.models import BackgroundTask, Project, Split
from annotate.services import Refused, background
from annotate.services.archive import shelf
from annotate.services.export import written
from annotate.services.recipe import Recipe
from annotate.services.reward_reports import report
from annotate.services.snapshots import check_name, create_snapshot, is_quick

TITLES = {
    "snapshot": _("Freezing a snapshot"),
    "export": _("Writing files"),
    "train_reward": _("Freezing judgements to learn from"),
    shelf.KIND: _("Archiving the project"),
    report.KIND: _("Measuring a reward model"),
}
"""By the kinds of tasks."""
STAGES = {
    "choosing": _("Choosing what goes in"),
    "freezing": _("Freezing judgements and pairs"),
    "writing": _("Writing rankings"),
    "converting": _("Converting rows"),
    "rows": _("Writing rows"),
    "weights": _("Copying weights"),
    "measuring": _("Reading what was judged"),
}


@dataclasses.dataclass(frozen=True)
class Shown:
    """A task in words."""

    task: BackgroundTask
    title: str | Promise
    stage: str | Promise

    @property
    def percent(self) -> int | None:
        """How much of the stage at work is done; None where that is not known."""
        return min(100, 100 * self.task.done // self.task.total) if self.task.total else None


@never_cache
@require_GET
def task(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """One task; once it is done, what came of it."""
    found = get_background_task(request, slug, pk)
    if address := _made(found):
        return redirect(address)
    return render(request, "background/page.html", {**_context(found), **_files(found)})


@never_cache
@require_GET
def live(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """The part of the page that changes while a task is worked on."""
    found = get_background_task(request, slug, pk)
    response = render(request, "background/live.html", _context(found))
    if not found.active:
        response["HX-Refresh"] = "true"
    return response


@require_POST
def cancel(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """Give a task up."""
    found = get_background_task(request, slug, pk)
    try:
        background.cancel(task=found, actor=request.user)
    except Refused as refusal:
        messages.error(request, str(refusal))
    return redirect("background_task", slug=slug, pk=pk)


def freeze(request: SignedInRequest, project: Project, recipe: Recipe) -> HttpResponse:
    """Freeze what a recipe takes under the name that a form gives: at once, or by a worker where that takes long.

    :raises Refused: when the name will not do, or what is frozen at once cannot be.
    """
    name = request.POST.get("name", "").strip()
    if is_quick(project):
        made = create_snapshot(project=project, actor=request.user, name=name, recipe=recipe)
        return redirect("snapshot", slug=project.slug, pk=made.pk)
    check_name(name)
    asked = {"name": name, "recipe": dataclasses.asdict(recipe)}
    task = background.ask(project=project, kind="snapshot", asked=asked, actor=request.user)
    return redirect("background_task", slug=project.slug, pk=task.pk)


def at_work(tasks: QuerySet[BackgroundTask]) -> list[Shown]:
    """Those of some tasks that wait or are being made."""
    return [_shown(task) for task in tasks.filter(state__in=background.ACTIVE)]


def _shown(task: BackgroundTask) -> Shown:
    return Shown(task, TITLES.get(task.kind, task.kind), STAGES.get(task.stage, task.stage))


def _context(found: BackgroundTask) -> dict[str, Any]:
    return {"project": found.project, "task": found, "shown": _shown(found), "tab": "project"}


def _made(found: BackgroundTask) -> str:
    """The page of what a task made; empty where there is none."""
    for name in ("snapshot", "run", "reward_model"):
        if name in found.result:
            return reverse(name, args=[found.project.slug, found.result[name]])
    if found.kind == shelf.KIND and found.result:
        return f"{reverse('data', args=[found.project.slug])}#archives"
    return ""


def _files(found: BackgroundTask) -> dict[str, Any]:
    """What the page of an export shows: its snapshot, and the files that were written."""
    if found.kind != "export":
        return {}
    form, file_type = found.asked["form"], found.asked["file_type"]
    snapshot = found.project.snapshots.get(pk=found.asked["snapshot"])
    files = (written(snapshot, form, file_type) or {}) if found.state == BackgroundTask.State.DONE else {}
    rows = [
        (split.label, files[split].rows, files[split].bytes, f"{split}.{file_type}")
        for split in Split
        if split in files
    ]
    return {"snapshot": snapshot, "form": form, "files": rows}
