"""Bringing data: upload, a look at what is in it, confirmation, and the history of all imports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import LEAD, SignedInRequest, get_import, get_project
from annotate.formats.reading.catalogue import BY_NAME, CATALOGUE
from annotate.models import Import, Split
from annotate.services import NoRoom, Refused, importing, imports
from annotate.services.archive import shelf
from annotate.services.import_stages import project_has_made_something_of
from annotate.uploads import was_cut_short
from annotate.views.background import at_work
from annotate.views.paging import page_of

INVALID, INSUFFICIENT_STORAGE = 422, 507


@require_http_methods(["GET", "HEAD", "POST"])
def data(request: SignedInRequest, slug: str) -> HttpResponse:
    """The imports of a project, a form to bring another file, and its archives."""
    project = get_project(request, slug, role=LEAD)
    problems: dict[str, str] = {}
    status = 200
    typed = {name: request.POST.get(name, "").replace("\x00", "").strip() for name in ("source", "licence")}
    if request.method == "POST":
        upload = request.FILES.get("file")
        try:
            if was_cut_short(request):
                raise NoRoom(_("The disk of this site is full: nothing of the file was kept."), place="file")
            if upload is None:
                raise Refused(_("Choose a file."), place="file")
            made = imports.receive(project=project, upload=upload, actor=request.user, **typed)
            return redirect("import", slug=slug, pk=made.pk)
        except Refused as refusal:
            problems[refusal.place or "file"] = str(refusal)
            status = INSUFFICIENT_STORAGE if isinstance(refusal, NoRoom) else INVALID
    context = {
        "project": project,
        "page": page_of(request, project.imports.select_related("created_by")),
        "problems": problems,
        "typed": typed,
        "formats": CATALOGUE,
        "archives": shelf.kept(project),
        "archives_kept_days": shelf.KEPT_DAYS,
        "at_work": at_work(project.background_tasks.filter(kind=shelf.KIND)),
        "tab": "data",
    }
    return render(request, "imports/list.html", context, status=status)


@require_GET
def data_import(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """One import: what is in the file, what is wrong with it, what became of it."""
    found = get_import(request, slug, pk)
    return render(request, "imports/page.html", _context(found))


@require_GET
@never_cache
def live(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """The part of the page that changes while somebody works on an import."""
    found = get_import(request, slug, pk)
    response = render(request, "imports/live.html", _context(found))
    if not found.active:
        response["HX-Refresh"] = "true"
    return response


@require_POST
def change(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """Read the file in another way."""
    found = get_import(request, slug, pk)
    mapping = {name: request.POST.get(f"map-{name}", "") for each in CATALOGUE for name in each.columns}
    columns = {column: column for column in found.recognised.get("columns", [])}
    kept = {name: columns[column] for name, column in mapping.items() if column in columns and column != name}
    how = {"format": request.POST.get("format", ""), "mapping": kept, "skip_bad": "skip_bad" in request.POST}
    return _decide(request, found, imports.change, **how)


@require_POST
def confirm(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """Write what was looked at."""
    return _decide(request, get_import(request, slug, pk), imports.confirm)


@require_POST
def take_back(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """Discard a file, or undo its import."""
    return _decide(request, get_import(request, slug, pk), imports.take_back)


def _decide(request: SignedInRequest, found: Import, decision: Callable[..., None], **how: Any) -> HttpResponse:
    """Carry out what a lead decided on an import, and show how it stands then."""
    try:
        decision(of=found, actor=request.user, **how)
    except Refused as refusal:
        messages.error(request, str(refusal))
    return redirect("import", slug=found.project.slug, pk=found.pk)


def _context(found: Import) -> dict[str, Any]:
    chosen = BY_NAME.get(found.format)
    columns = found.recognised.get("columns", [])
    return {
        "project": found.project,
        "import": found,
        "chosen": chosen,
        "formats": CATALOGUE,
        "columns": columns,
        "mapped": [(name, found.mapping.get(name, name if name in columns else "")) for name in chosen.columns]
        if chosen
        else [],
        "words": importing.in_words(found.counts) if found.state in (Import.State.DONE, Import.State.UNDONE) else [],
        "percent": round(100 * found.progress),
        "bad": [(line, reason) for line, reason, bad in found.problems if bad],
        "left_out": [(line, reason) for line, reason, bad in found.problems if not bad],
        "splits": dict(Split.choices),
        "may_be_written": found.state == Import.State.READY
        and bool(found.counts.get("statements"))
        and (found.skip_bad or not found.counts.get("bad")),
        "may_be_undone": found.state == Import.State.DONE and not project_has_made_something_of(found),
        "tab": "data",
    }
