"""Statistics for a page, or where a task has still to take them, a page in its place that looks again by itself."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render

from annotate.access import SignedInRequest
from annotate.models import Aggregate, Project
from annotate.services import aggregates
from annotate.services.aggregates import Taken
from annotate.services.standing import counts


def statistics_or_page(
    request: SignedInRequest, project: Project, name: Aggregate.Name, title: str
) -> Taken | HttpResponse:
    """A project's statistics of a name, or what to answer while there are none.

    :param title: of the page that they are for.
    """
    taken = aggregates.of(project, name)
    looks_again = bool(request.headers.get("HX-Request"))
    if taken is not None:
        return HttpResponse(status=204, headers={"HX-Refresh": "true"}) if looks_again else taken
    if looks_again:
        return HttpResponse(status=204)
    context = {"project": project, "title": title, "judged": counts(project).done}
    return render(request, "components/awaited.html", context)
