"""Roles in a project. Somebody always leads it: the last lead can neither step down nor be removed."""

from __future__ import annotations

from django.db import transaction
from django.utils.translation import gettext as _

from annotate.models import Membership, Project, User
from annotate.services import Refused, audit


def change_role(*, membership: Membership, role: str, actor: User) -> None:
    """Make a rater a lead, or a lead a rater.

    :raises Refused: for a role that there is not, for the last lead, or when they left meanwhile.
    """
    if role not in Membership.Role.values:
        raise Refused(_("Choose a role."), place="role")
    with transaction.atomic():
        held = _locked(membership)
        if held.role == role:
            return
        before, held.role = held.role, role
        held.save(update_fields=["role"])
        if before == Membership.Role.LEAD:
            _check_that_somebody_leads(held.project)
        audit.record(
            "changed role",
            held,
            actor=actor,
            project=held.project,
            user=held.user.username,
            before=before,
            after=role,
        )


def remove(*, membership: Membership, actor: User) -> None:
    """Take somebody out of a project; what they judged stays, and their leases run out by themselves.

    :raises Refused: for the last lead, or when they left meanwhile.
    """
    with transaction.atomic():
        held = _locked(membership)
        audit.record("removed", held, actor=actor, project=held.project, user=held.user.username, role=held.role)
        held.delete()
        if held.role == Membership.Role.LEAD:
            _check_that_somebody_leads(held.project)


def _locked(membership: Membership) -> Membership:
    """The membership as it is now; two leads who remove each other at the same time come one after the other."""
    Project.objects.select_for_update().get(pk=membership.project_id)
    held = Membership.objects.select_related("user", "project").filter(pk=membership.pk).first()
    if held is None:
        raise Refused(_("This person is not in the project any more."))
    return held


def _check_that_somebody_leads(project: Project) -> None:
    if not project.memberships.filter(role=Membership.Role.LEAD, user__is_active=True).exists():
        raise Refused(_("Nobody would lead the project then: make somebody else a lead first."))
