"""*Start rating*: to a project that has something for the rater, or the reasons why none has."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from annotate.access import SignedInRequest, projects_of
from annotate.services.offers import choose_project, why_none


@require_GET
@never_cache
def start(request: SignedInRequest) -> HttpResponse:
    """Go to the project in which the rater holds an item, or to one drawn among those that have something for them."""
    projects = list(projects_of(request.user))
    chosen = choose_project(user=request.user, projects=projects)
    if chosen is not None:
        return redirect("rate", slug=chosen.slug)
    reasons = [(project, why_none(user=request.user, project=project)) for project in projects]
    return render(request, "rate/nothing.html", {"reasons": reasons})
