"""Who may see what: one function for each kind of object, called in the first line of each view.

Nobody reaches a view without being signed in (the middleware sends them to the sign-in page). A
stranger to a project gets 404, so that not even its existence shows; a member without the right
gets 403. A superuser counts as a lead everywhere.
"""

from __future__ import annotations

import uuid
from typing import TypeVar

from django.core.exceptions import PermissionDenied
from django.db.models import Model, OuterRef, QuerySet, Subquery
from django.http import Http404, HttpRequest
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _

from annotate.models import (
    AnswerKey,
    BackgroundTask,
    Check,
    Completion,
    Contest,
    Generation,
    GuidelineVersion,
    Import,
    Invite,
    Judgement,
    Membership,
    Project,
    Prompt,
    RewardModel,
    Run,
    Slot,
    Snapshot,
    User,
)
from annotate.prepared import Prepared
from annotate.services.invites import hashed

LEAD = Membership.Role.LEAD
Record = TypeVar("Record", bound=Model)


class SignedInRequest(HttpRequest):
    """A request as it reaches a view, and the viewer's role in its project once that is known."""

    user: User
    role: str


def projects_of(user: User) -> dict[Project, str]:
    """The user's projects with the role in each, by name."""
    if user.is_superuser:
        return dict.fromkeys(Project.objects.order_by("name"), LEAD)
    memberships = Membership.objects.filter(user=user).select_related("project").order_by("project__name")
    return {membership.project: membership.role for membership in memberships}


def _role_in(user: int, project: str) -> Subquery:
    """The user's role in the project that a column names, or null; in the query that is made anyway."""
    return Subquery(Membership.objects.filter(user=user, project=OuterRef(project)).values("role"))


_project = Prepared(
    lambda slug, user: Project.objects.annotate(held=_role_in(user, "pk")).filter(slug=slug), words=("slug",)
)
_handed = Prepared(lambda project, user, pk: Slot.objects.filter(project=project, leases__rater=user, pk=pk))


def get_project(request: SignedInRequest, slug: str, *, role: str | None = None) -> Project:
    """The project, for a member; for nobody but a lead where that role is asked for.

    :raises Http404: for a stranger.
    :raises PermissionDenied: for a member who has another role.
    """
    project = _project.first(slug=slug, user=request.user.pk)
    if project is None:
        raise Http404
    _admit(request, project.held, role)
    return project


def get_slot(request: SignedInRequest, slug: str, pk: int) -> Slot:
    """A slot that was at some time handed to the viewer."""
    project = get_project(request, slug)
    slot = _handed.first(project=project.pk, user=request.user.pk, pk=pk)
    if slot is None:
        raise Http404
    slot.project = project
    return slot


def _admit(request: SignedInRequest, held: str | None, role: str | None = None) -> None:
    """Note the viewer's role in a project.

    :param held: by their membership.
    :param role: the only one that may see what was asked for, or None for every member.
    """
    found = LEAD if request.user.is_superuser else held
    if found is None:
        raise Http404
    request.role = found
    if role is not None and found != role:
        raise PermissionDenied(_("This page is for the leads of the project."))


def get_guideline(request: SignedInRequest, slug: str, pk: int) -> GuidelineVersion:
    """A version of the instructions, for members."""
    return get_object_or_404(GuidelineVersion, project=get_project(request, slug), pk=pk)


def get_generation(request: SignedInRequest, slug: str, number: int) -> Generation:
    """A generation, for leads."""
    return _of_lead(
        request, slug, Generation.objects.select_related("parent", "run__reward_model", "run__snapshot"), number=number
    )


def get_reward_model(request: SignedInRequest, slug: str, number: int) -> RewardModel:
    """A reward model, for leads."""
    return _of_lead(request, slug, RewardModel.objects.select_related("snapshot", "run"), number=number)


def get_snapshot(request: SignedInRequest, slug: str, pk: int) -> Snapshot:
    """A snapshot, for leads."""
    return _of_lead(request, slug, Snapshot.objects.select_related("created_by"), pk=pk)


def get_background_task(request: SignedInRequest, slug: str, pk: int) -> BackgroundTask:
    """What is being made, for leads."""
    return _of_lead(request, slug, BackgroundTask.objects.select_related("created_by"), pk=pk)


def get_import(request: SignedInRequest, slug: str, pk: int) -> Import:
    """An import, for leads."""
    return _of_lead(request, slug, Import.objects.select_related("created_by"), pk=pk)


def get_run(request: SignedInRequest, slug: str, pk: uuid.UUID) -> Run:
    """A run, for leads."""
    related = ("generation", "snapshot", "reward_model", "made_generation", "made_reward_model", "requested_by")
    return _of_lead(request, slug, Run.objects.select_related(*related), pk=pk)


def get_prompt(request: SignedInRequest, slug: str, pk: int) -> Prompt:
    """A prompt, for leads: raters see prompts only as their items."""
    return _of_lead(request, slug, Prompt.objects.all(), pk=pk)


def get_completion(request: SignedInRequest, slug: str, pk: int) -> Completion:
    """A completion, for leads: raters must not learn what wrote it."""
    project = get_project(request, slug, role=LEAD)
    completions = Completion.objects.select_related("prompt", "generation", "run", "edit_of__generation")
    return get_object_or_404(completions, prompt__project=project, pk=pk)


def get_judgement(request: SignedInRequest, slug: str, pk: int) -> Judgement:
    """A judgement, for leads."""
    project = get_project(request, slug, role=LEAD)
    judgements = Judgement.objects.select_related("item__prompt", "item__evaluation", "rater", "slot")
    return get_object_or_404(judgements, slot__project=project, pk=pk)


def get_key(request: SignedInRequest, slug: str, pk: int) -> AnswerKey:
    """An answer key, for leads."""
    project = get_project(request, slug, role=LEAD)
    return get_object_or_404(AnswerKey.objects.select_related("item__project"), item__project=project, pk=pk)


def get_contest(request: SignedInRequest, slug: str, pk: int) -> Contest:
    """A rater's objection to a key, for leads."""
    project = get_project(request, slug, role=LEAD)
    contests = Contest.objects.select_related("check_result__key__item__project", "check_result__judgement__rater")
    return get_object_or_404(contests, check_result__key__item__project=project, pk=pk)


def get_check(request: SignedInRequest, slug: str, pk: int) -> Check:
    """A check of the viewer's own judgement whose right answer they have been shown."""
    project = get_project(request, slug)
    checks = Check.objects.filter(judgement__rater=request.user, revealed_at__isnull=False)
    checks = checks.select_related("key__item__project", "judgement")
    return get_object_or_404(checks, key__item__project=project, pk=pk)


def get_member(request: SignedInRequest, slug: str, pk: int) -> Membership:
    """Somebody's membership, for leads."""
    return _of_lead(request, slug, Membership.objects.select_related("user"), pk=pk)


def get_invite(request: SignedInRequest, slug: str, pk: int) -> Invite:
    """An invitation, for leads."""
    return _of_lead(request, slug, Invite.objects.all(), pk=pk)


def get_invitation(token: str) -> Invite:
    """An invitation by its secret: whoever holds that may see it, open or closed."""
    return get_object_or_404(Invite.objects.select_related("project"), token_sha256=hashed(token))


def get_account(request: SignedInRequest) -> User:
    """The viewer's own account; nobody reaches another's here."""
    return request.user


def may_create(user: User) -> bool:
    """Whether somebody may make projects: who leads one already, and superusers."""
    return user.is_superuser or Membership.objects.filter(user=user, role=LEAD).exists()


def get_creator(request: SignedInRequest) -> User:
    """The viewer, who may make projects.

    :raises PermissionDenied: for anybody else.
    """
    if not may_create(request.user):
        raise PermissionDenied(_("New projects are made by those who lead one, and by administrators."))
    return request.user


def _of_lead(request: SignedInRequest, slug: str, records: QuerySet[Record], **which: object) -> Record:
    """The one record of the project that fits, for leads, with its project filled in."""
    project = get_project(request, slug, role=LEAD)
    record = get_object_or_404(records, project=project, **which)
    record.project = project  # type: ignore[attr-defined]  # every record that comes here has one
    return record
