"""The audit trail of a project, for leads: who did what, and when."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.apps import apps
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.dateparse import parse_date
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from annotate.access import LEAD, SignedInRequest, get_project
from annotate.models import AuditEvent, Evaluation, Generation, Project, User
from annotate.services.comparison import hidden_from
from annotate.templatetags.hone import listed
from annotate.views.asked import asked
from annotate.views.evidence_words import evidence_words
from annotate.views.paging import page_of

ACTIONS = {
    "added": _("added"),
    "added raters": _("added raters to a comparison"),
    "accepted contest": _("accepted an objection"),
    "allowed another try": _("allowed another try"),
    "archived": _("archived"),
    "asked": _("asked for a judgement"),
    "asked for archive": _("asked for an archive"),
    "asked for report": _("had measured"),
    "brought back key": _("brought back"),
    "cancelled": _("cancelled"),
    "changed": _("changed"),
    "changed import": _("changed"),
    "changed password": _("changed the password"),
    "changed role": _("changed the role"),
    "confirmed import": _("confirmed"),
    "contested": _("objected"),
    "created": _("created"),
    "deleted": _("deleted"),
    "discarded import": _("discarded"),
    "explained key": _("explained"),
    "froze": _("took a snapshot"),
    "imported data": _("imported data"),
    "imported prompts": _("imported prompts"),
    "invited": _("invited"),
    "joined": _("joined"),
    "launched evaluate": _("started an evaluation"),
    "launched generate": _("started generating completions"),
    "launched improve": _("started improving the policy"),
    "launched score": _("started scoring answers"),
    "launched train_reward": _("started training a reward model"),
    "let through": _("let through"),
    "made key": _("made"),
    "moved key": _("moved"),
    "paused": _("paused"),
    "planned": _("planned a comparison"),
    "promoted": _("promoted"),
    "refused contest": _("refused an objection"),
    "rejected": _("rejected"),
    "removed": _("removed"),
    "restored": _("restored"),
    "resumed": _("resumed"),
    "retired key": _("retired"),
    "revoked": _("withdrew"),
    "settled": _("took the last checkpoint of"),
    "undid import": _("undid"),
    "uploaded data": _("uploaded data"),
}
"""Words for what services record; an action that is not here shows as it is."""

OBJECTS = {
    "answerkey": _("answer key"),
    "backgroundtask": _("work in the background"),
    "contest": _("objection"),
    "criterion": _("criterion"),
    "evaluation": _("evaluation"),
    "generation": _("generation"),
    "guidelineversion": _("instructions"),
    "import": _("import"),
    "invite": _("invitation"),
    "membership": _("membership"),
    "norm": _("norm"),
    "normversion": _("norm"),
    "project": _("project"),
    "run": _("run"),
    "slot": _("slot"),
    "snapshot": _("snapshot"),
    "user": _("account"),
}
"""Words for what was changed; anything else goes by the name that the administration knows it by."""


@dataclass(frozen=True)
class Line:
    """An event as the page shows it."""

    event: AuditEvent
    action: str
    what: str
    address: str
    details: list[tuple[str, str]]
    """Names and values of what changed."""


@require_GET
def history(request: SignedInRequest, slug: str) -> HttpResponse:
    """What was changed, the latest first; ``?who=``, ``?action=``, ``?since=`` and ``?until=`` choose."""
    project = get_project(request, slug, role=LEAD)
    chosen = asked(request, "who", "action", "since", "until")
    events = AuditEvent.objects.filter(project=project).select_related("actor")
    if chosen["who"]:
        events = events.filter(actor__username=chosen["who"])
    if chosen["action"]:
        events = events.filter(action=chosen["action"])
    if since := _day(chosen["since"]):
        events = events.filter(at__date__gte=since)
    if until := _day(chosen["until"]):
        events = events.filter(at__date__lte=until)
    page = page_of(request, events.order_by("-at", "-pk"))
    actions = AuditEvent.objects.filter(project=project).order_by().values_list("action", flat=True).distinct()
    context = {
        "project": project,
        "page": page,
        "lines": _lines(project, page.object_list, request.user),
        "chosen": chosen,
        "people": User.objects.filter(audit_events__project=project).distinct().order_by("username"),
        "actions": sorted((action, ACTIONS.get(action, action)) for action in actions),
        "tab": "members",
    }
    return render(request, "members/history.html", context)


def _lines(project: Project, events: Iterable[AuditEvent], viewer: User) -> list[Line]:
    events = list(events)
    keys = [event.object_id for event in events if event.object_type == "generation"]
    generations = dict(Generation.objects.filter(project=project, pk__in=keys).values_list("pk", "number"))
    hidden = {
        str(each.newer_id) for each in hidden_from(viewer, Evaluation.objects.filter(newer__in=list(generations)))
    }
    return [
        Line(
            event,
            str(ACTIONS.get(event.action, event.action)),
            str(OBJECTS.get(event.object_type) or _name(event.object_type)),
            _address(project, event, generations),
            _details(event, hidden),
        )
        for event in events
    ]


def _details(event: AuditEvent, hidden: Collection[str]) -> list[tuple[str, str]]:
    """What changed, in words where what was known of a generation is told.

    :param hidden: numbers of generations of which the viewer must not know how raters compare them.
    """
    details: dict[Any, Any] = {name: listed(value) for name, value in event.data.items()}
    if event.object_type == "generation" and "evidence" in details:
        known = evidence_words(event.data["evidence"])
        del details["evidence"]
        details[_("known then")] = (
            _("hidden from you until all prompts that were drawn are in") if event.object_id in hidden else known
        )
    return [(str(name), str(value)) for name, value in details.items()]


def _name(object_type: str) -> str:
    try:
        return str(apps.get_model("annotate", object_type)._meta.verbose_name)
    except LookupError:
        return object_type


def _address(project: Project, event: AuditEvent, generations: dict[Any, int]) -> str:
    """The page of what was changed; empty where it has none."""
    match event.object_type:
        case "project":
            return reverse("project", args=[project.slug])
        case "run" | "snapshot" | "import":
            return reverse(event.object_type, args=[project.slug, event.object_id])
        case "backgroundtask":
            return reverse("background_task", args=[project.slug, event.object_id])
        case "answerkey" | "contest":
            return reverse("quality", args=[project.slug])
        case "membership" | "invite":
            return reverse("members", args=[project.slug])
        case "generation" if (number := generations.get(int(event.object_id))) is not None:
            return reverse("generation", args=[project.slug, number])
    return ""


def _day(text: str) -> date | None:
    try:
        return parse_date(text)
    except ValueError:
        return None
