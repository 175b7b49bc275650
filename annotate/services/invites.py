"""Invitations: a link lets as many people as its lead allowed join a project, for as long as its lead allowed.

Who holds the link holds the right, so it is shown once and only the SHA-256 of its secret is stored.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import Invite, InviteUse, Membership, Project, User
from annotate.services import Refused, audit

DAYS = (1, 7, 30)
"""For how long an invitation may be open."""
MOST_USES = 500


def create(*, project: Project, actor: User, role: str, days: int, max_uses: int) -> tuple[Invite, str]:
    """Make an invitation.

    :param days: how long it is open, one of :data:`DAYS`.
    :param max_uses: how many people may join by it, from 1 to :data:`MOST_USES`.
    :returns: the invitation and its secret, which is stored nowhere.
    :raises Refused: when role, days or number will not do.
    """
    if role not in Membership.Role.values:
        raise Refused(_("Choose whether the invitation is for raters or for leads."), place="role")
    if days not in DAYS:
        raise Refused(_("Choose how long the invitation is open."), place="days")
    if not 1 <= max_uses <= MOST_USES:
        raise Refused(_("An invitation is for 1 to %(most)d people.") % {"most": MOST_USES}, place="max_uses")
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        invite = Invite.objects.create(
            project=project,
            role=role,
            token_sha256=hashed(token),
            max_uses=max_uses,
            created_by=actor,
            expires_at=timezone.now() + timedelta(days=days),
        )
        audit.record("invited", invite, actor=actor, project=project, role=role, days=days, max_uses=max_uses)
    return invite, token


def hashed(token: str) -> str:
    """What is stored of an invitation's secret."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def why_closed(invite: Invite) -> str:
    """One sentence that says why nobody can join by it any more; empty while somebody can."""
    if invite.revoked_at is not None:
        return _("This invitation was withdrawn. Ask a lead of the project for a new one.")
    if invite.expires_at <= timezone.now():
        return _("This invitation has expired. Ask a lead of the project for a new one.")
    if invite.uses.count() >= invite.max_uses:
        return _("This invitation has been used up. Ask a lead of the project for a new one.")
    return ""


def revoke(*, invite: Invite, actor: User) -> None:
    """Close an invitation; who joined by it stays.

    :raises Refused: when it is closed already.
    """
    with transaction.atomic():
        locked = Invite.objects.select_for_update().get(pk=invite.pk)
        if locked.revoked_at is not None:
            raise Refused(_("This invitation was withdrawn already."))
        locked.revoked_at = timezone.now()
        locked.save(update_fields=["revoked_at"])
        audit.record("revoked", locked, actor=actor, project=locked.project, role=locked.role)


def join(*, invite: Invite, user: User) -> Membership:
    """Make somebody who has an account a member.

    Two people cannot both take the last place: the invitation's row is locked while one joins.

    :raises Refused: when the invitation is closed, they are in the project, or they joined by it before.
    """
    with transaction.atomic():
        locked = Invite.objects.select_for_update().get(pk=invite.pk)
        if reason := why_closed(locked):
            raise Refused(reason)
        if locked.uses.filter(user=user).exists():
            raise Refused(_("You joined by this invitation before. Ask a lead of the project for a new one."))
        membership, new = Membership.objects.get_or_create(
            user=user, project=locked.project, defaults={"role": locked.role}
        )
        if not new:
            raise Refused(_("You are in this project already."))
        InviteUse.objects.create(invite=locked, user=user)
        audit.record(
            "joined",
            membership,
            actor=user,
            project=locked.project,
            user=user.username,
            role=locked.role,
            invite=locked.pk,
        )
    return membership


def register(*, invite: Invite, username: str, password: str) -> User:
    """Make an account and join with it; neither without the other.

    :param username: checked by the form.
    :param password: checked by the form.
    :raises Refused: as :func:`join` does, and when somebody took the name just now.
    """
    try:
        with transaction.atomic():
            user = User.objects.create_user(username, password=password)
            audit.record("created", user, actor=user, project=invite.project, user=user.username)
            join(invite=invite, user=user)
    except IntegrityError as problem:
        if "username" in str(problem):
            raise Refused(_("This name was taken just now. Choose another."), place="username") from problem
        raise
    return user
