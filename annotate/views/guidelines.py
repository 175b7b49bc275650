"""The instructions that a rater is to read before they go on."""

from __future__ import annotations

import re
from typing import Any

from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import get_language
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from annotate.access import SignedInRequest, get_guideline, get_project
from annotate.models import Project, User
from annotate.services import guidelines
from annotate.worddiff import Line, changes

MARKUP = re.compile(r"^#+ |\*\*|`", re.MULTILINE)


@require_GET
@never_cache
def reading(request: SignedInRequest, slug: str) -> HttpResponse:
    """Instructions that were published while the rater's page was open; 204 where they know all that must be read."""
    project = get_project(request, slug)
    context = reading_context(request.user, project)
    if context["reading"] is None:
        return HttpResponse(status=204)
    return render(request, "rate/reading.html", {"project": project, **context})


@require_POST
def read(request: SignedInRequest, slug: str, pk: int) -> JsonResponse:
    """Note that the rater has read a version of the instructions."""
    guideline = get_guideline(request, slug, pk)
    guidelines.mark_read(user=request.user, guideline=guideline)
    return JsonResponse({"read": guideline.number})


def reading_context(user: User, project: Project) -> dict[str, Any]:
    """What the dialog of unread instructions shows: for one who has read an older version, what changed."""
    found = guidelines.to_read(user=user, project=project)
    if found is None:
        return {"reading": None}
    language = get_language() or "en"
    text = found.guideline.in_language("text", language)
    known = found.known.in_language("text", language) if found.known else None
    return {"reading": found, "changes": changed_lines(known, text) if known is not None else None}


def changed_lines(old: str, new: str) -> list[Line | None]:
    """What changed between two versions of instructions, without Markdown's marks for headings and bold words."""
    return changes(MARKUP.sub("", old), MARKUP.sub("", new))
