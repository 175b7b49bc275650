"""The people of a project, and invitations to it, for leads."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_GET, require_POST

from annotate.access import LEAD, SignedInRequest, get_invite, get_member, get_project
from annotate.models import Membership, Project, Slot
from annotate.services import Refused, invites
from annotate.services import members as services


@require_GET
@never_cache
def members(request: SignedInRequest, slug: str) -> HttpResponse:
    """Who is in the project in which role, and which invitations are open."""
    project = get_project(request, slug, role=LEAD)
    return render(request, "members/list.html", _people(project))


@require_POST
def change_role(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """Make a rater a lead, or a lead a rater."""
    member = get_member(request, slug, pk)
    try:
        services.change_role(membership=member, role=request.POST.get("role", ""), actor=request.user)
        messages.success(request, _("The role of %(name)s is changed.") % {"name": member.user})
    except Refused as refusal:
        messages.error(request, str(refusal))
    return _back(request, slug)


@require_POST
def remove(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """Take somebody out of the project."""
    member = get_member(request, slug, pk)
    try:
        services.remove(membership=member, actor=request.user)
        messages.success(request, _("%(name)s is not in the project any more.") % {"name": member.user})
    except Refused as refusal:
        messages.error(request, str(refusal))
    return _back(request, slug)


@require_POST
@never_cache
@sensitive_variables("token")
def invite(request: SignedInRequest, slug: str) -> HttpResponse:
    """Make an invitation and show its link, this once; so the answer is the page itself, without a redirect."""
    project = get_project(request, slug, role=LEAD)
    days, max_uses = (_number(request.POST.get(field, "")) for field in ("days", "max_uses"))
    try:
        made, token = invites.create(
            project=project, actor=request.user, role=request.POST.get("role", ""), days=days, max_uses=max_uses
        )
    except Refused as refusal:
        messages.error(request, str(refusal))
        return redirect("members", slug=slug)
    link = request.build_absolute_uri(reverse("join", args=[token]))
    return render(request, "members/list.html", {**_people(project), "made": made, "link": link})


@require_POST
def revoke(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """Close an invitation."""
    invitation = get_invite(request, slug, pk)
    try:
        invites.revoke(invite=invitation, actor=request.user)
        messages.success(request, _("The invitation is withdrawn; who joined by it stays."))
    except Refused as refusal:
        messages.error(request, str(refusal))
    return redirect("members", slug=slug)


def _people(project: Project) -> dict[str, object]:
    done = Slot.objects.filter(project=project, state=Slot.State.DONE).values_list("rater")
    judged = dict(done.annotate(count=Count("pk")).order_by())
    memberships = project.memberships.select_related("user").order_by("role", "user__username")
    return {
        "project": project,
        "members": [(member, judged.get(member.user_id, 0)) for member in memberships],
        "invites": [
            (invitation, invites.why_closed(invitation))
            for invitation in project.invites.select_related("created_by").prefetch_related("uses__user")
        ],
        "roles": Membership.Role.choices,
        "days": invites.DAYS,
        "default_days": invites.DAYS[1],
        "most_uses": invites.MOST_USES,
        "tab": "members",
    }


def _back(request: SignedInRequest, slug: str) -> HttpResponse:
    """To the members, or home for a lead who gave up that role."""
    if (
        request.user.is_superuser
        or Membership.objects.filter(project__slug=slug, user=request.user, role=LEAD).exists()
    ):
        return redirect("members", slug=slug)
    return redirect("home")


def _number(text: str) -> int:
    """A whole number of a form; 0, which no field takes, for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
