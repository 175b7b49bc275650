"""Who works on which slot: claiming, renewing, skipping, and saying truly that nothing is left.

Two raters for one slot are parted by ``SELECT … FOR NO KEY UPDATE SKIP LOCKED``; two tabs of one
rater by a lock on the rater's own row. Every lease is measured by the database's clock, so it does
not matter what time a web server believes it is.

A rater holds at most two slots of a project: the one at work, and one *ahead*, which the page fetches
so that moving on needs no wait. A slot held ahead keeps nobody idle: another rater for whom nothing
is free may take it, and the page of the first is told when it wants to open it.

A paused project hands out nothing: what is at work can be finished, what is held ahead waits. A rater
who has the project's quota gets no more of the slots open to everybody, only what is asked of them by name.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.models import Edit, Lease, Project, Skip, Slot, User
from annotate.models.judgements import COUNTED
from annotate.services import Refused

HELD_AT_MOST = 2


def lease_of(project: Project) -> timedelta:
    """For how long an item is kept for a rater who does nothing."""
    return timedelta(minutes=project.lease_minutes)


def claim(*, user: User, project: Project, ahead: bool = False) -> Slot | None:
    """Give the rater a slot to work on, or None when at that moment there was none that they may take.

    A reload gets the slot that the rater already holds; a slot held ahead becomes the one at work.

    :param ahead: ask for the slot after the one at work, as a prefetch does; it is never taken from
        another rater's hands.
    """
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).values_list("pk").get(pk=user.pk)
        mine = Slot.objects.filter(project=project, state=Slot.State.LEASED, rater=user)
        held = list(mine.select_for_update(no_key=True, of=("self",)).order_by("ahead", "priority", "id"))
        if project.paused_at is not None:
            held = [slot for slot in held if not slot.ahead]
        fits = [slot for slot in held if slot.ahead] if ahead else held
        slot = fits[0] if fits else None
        if slot is None and len(held) < HELD_AT_MOST and project.paused_at is None:
            slot = _find(user, project, ahead)
        if slot is None:
            return None
        Slot.objects.filter(pk=slot.pk).update(
            state=Slot.State.LEASED, rater=user, ahead=ahead, lease_expires_at=Now() + lease_of(project)
        )
        if not fits:
            Lease.objects.bulk_create([Lease(slot=slot, rater=user)], ignore_conflicts=True)
    return Slot.objects.select_related("item__prompt", "project").get(pk=slot.pk)


def _find(user: User, project: Project, ahead: bool) -> Slot | None:
    """Lock the first slot that the rater may take.

    Rows that others have locked are passed over at first. They may yet be let go, so where nothing
    else was found and one of them still looks free, they are waited for. None is the answer only
    after a look at the committed state has found nothing.
    """
    offers = _offers(user, project, ahead)
    wait = False
    while True:
        for offer in offers:
            slot = offer.select_for_update(no_key=True, skip_locked=not wait, of=("self",)).first()
            if slot is not None:
                return slot
        if not any(offer.exists() for offer in offers):
            return None
        wait = True


def _offers(user: User, project: Project, ahead: bool) -> list[QuerySet[Slot]]:
    """Where the rater's next slot is looked for, in this order."""
    offers = [reserved(user=user, project=project)]
    if not has_quota(user=user, project=project):
        offers.append(available(user=user, project=project))
        if not ahead:
            offers.append(_held_ahead(user, project))
    return offers


def has_quota(*, user: User, project: Project) -> bool:
    """Whether the rater has as many of the items that count as one rater may have, those in hand included."""
    if project.quota is None:
        return False
    # No more rows are counted than the answer needs.
    return Slot.objects.filter(COUNTED, project=project, rater=user)[: project.quota].count() >= project.quota


def choose_project(*, user: User, projects: Iterable[Project]) -> Project | None:
    """A project that has something for the rater; None where none has.

    One in which they are at work comes first. Among the others each has the same chance, however large it is.
    """
    projects = list(projects)
    at_work = Slot.objects.filter(project__in=projects, state=Slot.State.LEASED, rater=user, ahead=False)
    held = set(at_work.values_list("project", flat=True))
    in_hand = [project for project in projects if project.pk in held]
    open_to_them = in_hand or [project for project in projects if _has_something(user, project)]
    return secrets.choice(open_to_them) if open_to_them else None


def _has_something(user: User, project: Project) -> bool:
    if project.paused_at is not None:
        return False
    ahead = Slot.objects.filter(project=project, state=Slot.State.LEASED, rater=user, ahead=True)
    return ahead.exists() or any(offer.exists() for offer in _offers(user, project, ahead=False))


def available(*, user: User, project: Project) -> QuerySet[Slot]:
    """Slots open to everybody, free or with an expired lease, that the rater may take; the next one first."""
    expired = Q(state=Slot.State.LEASED, lease_expires_at__lt=Now()) & ~Q(rater=user)
    return _permitted(user, project).filter(Q(state=Slot.State.FREE) | expired)


def reserved(*, user: User, project: Project) -> QuerySet[Slot]:
    """Slots made on demand for the rater that they have not skipped."""
    return (
        Slot.objects.filter(project=project, reserved_for=user, state=Slot.State.FREE)
        .exclude(Exists(Skip.objects.filter(slot=OuterRef("pk"), rater=user)))
        .order_by("priority", "id")
    )


def _held_ahead(user: User, project: Project) -> QuerySet[Slot]:
    """Slots that other raters' pages have fetched and nobody has opened."""
    return _permitted(user, project).filter(state=Slot.State.LEASED, ahead=True).exclude(rater=user)


def _permitted(user: User, project: Project) -> QuerySet[Slot]:
    """Open slots for everybody whose items the rater has not had, skipped, or written a part of."""
    had = Slot.objects.filter(item=OuterRef("item"), rater=user)
    skipped = Skip.objects.filter(slot__item=OuterRef("item"), rater=user)
    wrote = Edit.objects.filter(edited__entries__item=OuterRef("item"), revision__judgement__rater=user)
    return (
        Slot.objects.filter(project=project, state__in=[Slot.State.FREE, Slot.State.LEASED], reserved_for__isnull=True)
        .exclude(Exists(had))
        .exclude(Exists(skipped))
        .exclude(Exists(wrote))
        .order_by("priority", "id")
    )


def open_ahead(*, user: User, project: Project, slot_id: int) -> bool:
    """Make the slot that the rater's page holds ahead the one at work.

    :returns: False when it is not theirs any more, and in a paused project.
    """
    if project.paused_at is not None:
        return False
    mine = Slot.objects.filter(pk=slot_id, project=project, rater=user, state=Slot.State.LEASED)
    return bool(mine.update(ahead=False, lease_expires_at=Now() + lease_of(project)))


def renew(*, user: User, slot: Slot) -> bool:
    """Extend the lease of the slot that the rater is at work on; False when it is not theirs any more."""
    mine = Slot.objects.filter(pk=slot.pk, rater=user, state=Slot.State.LEASED)
    if slot.project.paused_at is not None:
        mine = mine.filter(ahead=False)
    return bool(mine.update(ahead=False, lease_expires_at=Now() + lease_of(slot.project)))


def shown_order(slot: Slot) -> list[int]:
    """Completion ids in the order in which this slot shows them."""
    return list(slot.shown)


def skip(*, user: User, slot: Slot, reason: str) -> None:
    """Give a slot back with a reason; its item does not return to this rater.

    :raises Refused: without a reason, or when the slot is not held by this rater.
    """
    reason = reason.strip()
    if not reason:
        raise Refused(_("Say in a few words why you skip this item."), place="reason")
    with transaction.atomic():
        locked = Slot.objects.select_for_update(no_key=True, of=("self",)).get(pk=slot.pk)
        if locked.rater_id != user.pk or locked.state != Slot.State.LEASED:
            raise Refused(_("This item is not yours to skip any more."))
        Skip.objects.create(slot=locked, rater=user, reason=reason[:500])
        locked.drafts.filter(rater=user).delete()
        Slot.objects.filter(pk=locked.pk).update(state=Slot.State.FREE, rater=None, ahead=False, lease_expires_at=None)


@dataclass(frozen=True)
class Standing:
    """Where a rater and a project stand, in slots that count."""

    mine: int
    done: int
    total: int


def standing(*, user: User, project: Project) -> Standing:
    """Progress of one rater and of the project."""
    done = Q(state=Slot.State.DONE)
    return Standing(
        **Slot.objects.filter(COUNTED, project=project).aggregate(
            mine=Count("pk", filter=done & Q(rater=user)), done=Count("pk", filter=done), total=Count("pk")
        )
    )


def _withheld(user: User, project: Project) -> str:
    """Why the rater is given nothing although something is left; empty where that is not so."""
    if project.paused_at is not None:
        held_ahead = Slot.objects.filter(project=project, state=Slot.State.LEASED, rater=user)
        offers = (reserved(user=user, project=project), _permitted(user, project), held_ahead)
        left = any(offer.exists() for offer in offers)
        return _("The project is paused. Items appear here again when a lead goes on with it.") if left else ""
    if has_quota(user=user, project=project) and _permitted(user, project).exists():
        return _("You have judged as many items as one person may here. Thank you! The rest is for others.")
    return ""


def why_none(*, user: User, project: Project) -> str:
    """Why there is nothing for the rater to do, when :func:`claim` found nothing."""
    now = standing(user=user, project=project)
    if now.total == 0:
        return _("No items have been prepared yet. They appear here as soon as the model has written answers.")
    if withheld := _withheld(user, project):
        return withheld
    if now.done == now.total:
        return _("Every item of this project is judged. Thank you!")
    if _permitted(user, project).filter(state=Slot.State.LEASED).exists():
        return _("Others are judging what is left. If one of them gives an item back, it appears here by itself.")
    return _("What is left was judged or skipped by you: the rest is for others.")
