"""Archives of a project: asking for one, and fetching it."""

from __future__ import annotations

from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_POST

from annotate.access import LEAD, SignedInRequest, get_background_task, get_project
from annotate.services.archive import asking, shelf
from annotate.views.ranged import ranged


@require_POST
def ask(request: SignedInRequest, slug: str) -> HttpResponse:
    """Have the project archived by a worker."""
    project = get_project(request, slug, role=LEAD)
    task = asking.ask(project=project, weights="weights" in request.POST, actor=request.user)
    return redirect("background_task", slug=slug, pk=task.pk)


@require_GET
def fetch(request: SignedInRequest, slug: str, pk: int) -> HttpResponseBase:
    """An archive that was made; parts of it by HTTP's Range."""
    found = shelf.kept_of(get_background_task(request, slug, pk))
    if found is None:
        raise Http404
    sha256 = found.task.result["sha256"]
    name = f"{slug}-{sha256[:12]}.zip"
    return ranged(request, found.path, etag=sha256, content_type="application/zip", name=name)
