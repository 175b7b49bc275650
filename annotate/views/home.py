"""The first page: the viewer's projects."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET

from annotate.access import LEAD, SignedInRequest, may_create, projects_of
from annotate.models import Generation, Project, Run
from annotate.services.standing import Standing, standings


@dataclass
class Card:
    """A project as the first page shows it."""

    project: Project
    role: str
    standing: Standing
    generation: int = 0
    active: list[Run] = field(default_factory=list)


@require_GET
def home(request: SignedInRequest) -> HttpResponse:
    """The viewer's projects; a rater of a single one goes straight to it."""
    projects = projects_of(request.user)
    if len(projects) == 1 and LEAD not in projects.values():
        return redirect("rate", slug=next(iter(projects)).slug)
    found = standings(user=request.user, projects=projects)
    cards = {project.pk: Card(project, role, found[project.pk]) for project, role in projects.items()}
    served = Generation.objects.filter(project__in=cards, state=Generation.State.PROMOTED).order_by("number")
    for project, number in served.values_list("project", "number"):
        cards[project].generation = number
    for run in Run.objects.filter(project__in=cards, state__in=[Run.State.QUEUED, Run.State.RUNNING]).order_by(
        "created_at"
    ):
        cards[run.project_id].active.append(run)
    context = {
        "cards": list(cards.values()),
        "may_create": may_create(request.user),
        "can_rate": any(card.standing.total for card in cards.values()),
    }
    return render(request, "home.html", context)
