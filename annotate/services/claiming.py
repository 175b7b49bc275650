"""Who works on which slot: claiming, renewing, skipping, and saying truly that nothing is left.

Two raters for one slot are parted by ``SELECT … FOR NO KEY UPDATE SKIP LOCKED``; two tabs of one
rater by a lock on the rater's own row. Every lease is measured by the database's clock, so it does
not matter what time a web server believes it is.

A rater holds at most two slots of a project: the one at work, and one *ahead*, which the page fetches
so that moving on needs no wait. A slot held ahead keeps nobody idle: another rater for whom nothing
is free may take it, and the page of the first is told when it wants to open it.
"""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.models import Edit, Lease, Project, Purpose, Skip, Slot, User
from annotate.services import Refused, mixing, qualification
from annotate.services.standing import counts

LEASE = timedelta(minutes=30)
HELD_AT_MOST = 2


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
        fits = [slot for slot in held if slot.ahead] if ahead else held
        slot = fits[0] if fits else None
        if slot is None and len(held) < HELD_AT_MOST:
            slot = _new(user, project, ahead)
        if slot is None:
            return None
        Slot.objects.filter(pk=slot.pk).update(
            state=Slot.State.LEASED, rater=user, ahead=ahead, lease_expires_at=Now() + LEASE
        )
        if not fits:
            Lease.objects.bulk_create([Lease(slot=slot, rater=user)], ignore_conflicts=True)
    return Slot.objects.select_related("item__prompt", "project").get(pk=slot.pk)


def _new(user: User, project: Project, ahead: bool) -> Slot | None:
    """A slot that the rater does not hold yet: of the qualification, or else one that is found or put in its place."""
    trial = qualification.trial(user=user, project=project)
    if trial is not None and not qualification.settle(trial):
        # Not ahead: feedback comes in between.
        return None if ahead else qualification.slot_for(trial)
    slot = _find(user, project, ahead)
    if slot is not None and slot.reserved_for_id is None:
        return mixing.instead(found=slot, user=user, project=project) or slot
    return slot


def _find(user: User, project: Project, ahead: bool) -> Slot | None:
    """Lock the first slot that the rater may take.

    Rows that others have locked are passed over at first. They may yet be let go, so where nothing
    else was found and one of them still looks free, they are waited for. None is the answer only
    after a look at the committed state has found nothing.
    """
    offers = [reserved(user=user, project=project), available(user=user, project=project)]
    if not ahead:
        offers.append(_held_ahead(user, project))
    wait = False
    while True:
        for offer in offers:
            slot = offer.select_for_update(no_key=True, skip_locked=not wait, of=("self",)).first()
            if slot is not None:
                return slot
        if not any(offer.exists() for offer in offers):
            return None
        wait = True


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
    """Make the slot that the rater's page holds ahead the one at work; False when it is not theirs any more."""
    return bool(
        Slot.objects.filter(pk=slot_id, project=project, rater=user, state=Slot.State.LEASED).update(
            ahead=False, lease_expires_at=Now() + LEASE
        )
    )


def renew(*, user: User, slot: Slot) -> bool:
    """Extend the rater's lease; False when the slot is no longer theirs."""
    return open_ahead(user=user, project=slot.project, slot_id=slot.pk)


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
        if locked.purpose == Purpose.QUALIFY:
            raise Refused(_("Items of the qualification are not skipped: answer as well as you can."))
        if locked.rater_id != user.pk or locked.state != Slot.State.LEASED:
            raise Refused(_("This item is not yours to skip any more."))
        Skip.objects.create(slot=locked, rater=user, reason=reason[:500])
        locked.drafts.filter(rater=user).delete()
        Slot.objects.filter(pk=locked.pk).update(state=Slot.State.FREE, rater=None, ahead=False, lease_expires_at=None)


def why_none(*, user: User, project: Project) -> str:
    """Why there is nothing for the rater to do, when :func:`claim` found nothing."""
    if waiting := qualification.why_waiting(user=user, project=project):
        return waiting
    now = counts(project)
    if now.total == 0:
        return _("No items have been prepared yet. They appear here as soon as the model has written answers.")
    if now.done == now.total:
        return _("Every item of this project is judged. Thank you!")
    if _permitted(user, project).filter(state=Slot.State.LEASED).exists():
        return _("Others are judging what is left. If one of them gives an item back, it appears here by itself.")
    return _("What is left was judged or skipped by you: the rest is for others.")
