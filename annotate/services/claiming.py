"""Who works on which slot: claiming, renewing, skipping.

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

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.models import Project, Purpose, Skip, Slot, User
from annotate.prepared import Prepared
from annotate.services import Refused, mixing, qualification
from annotate.services.offers import offers

HELD_AT_MOST = 2
HAND_OUT = """
WITH leased AS (
    UPDATE annotate_slot
    SET state = 'leased', rater_id = %(rater)s, ahead = %(ahead)s, lease_expires_at = statement_timestamp() + %(lease)s
    WHERE id = %(slot)s
)
INSERT INTO annotate_lease (slot_id, rater_id, claimed_at, at_random, random_share)
VALUES (%(slot)s, %(rater)s, statement_timestamp(), %(at_random)s, %(random_share)s)
ON CONFLICT DO NOTHING
"""
OPEN = """
UPDATE annotate_slot SET ahead = false, lease_expires_at = statement_timestamp() + %(lease)s
WHERE id = %(slot)s AND project_id = %(project)s AND rater_id = %(rater)s AND state = 'leased'
"""

draw = random.SystemRandom().random


def lease_of(project: Project) -> timedelta:
    """For how long an item is kept for a rater who does nothing."""
    return timedelta(minutes=project.lease_minutes)


person = Prepared(lambda user: User.objects.select_for_update(no_key=True).filter(pk=user).only("pk"))
held_by = Prepared(
    lambda user, project: (
        Slot.objects.filter(project=project, state=Slot.State.LEASED, rater=user)
        .select_for_update(no_key=True)
        .order_by("ahead", "priority", "id")
    )
)


def claim(*, user: User, project: Project, ahead: bool = False) -> Slot | None:
    """Give the rater a slot to work on, or None when at that moment there was none that they may take.

    A reload gets the slot that the rater already holds; a slot held ahead becomes the one at work.

    :param ahead: ask for the slot after the one at work, as a prefetch does; it is never taken from
        another rater's hands.
    """
    with transaction.atomic():
        person(user=user.pk)
        held = held_by(user=user.pk, project=project.pk)
        if project.paused_at is not None:
            held = [slot for slot in held if not slot.ahead]
        fits = [Found(slot) for slot in held if slot.ahead or not ahead]
        found = fits[0] if fits else None
        if found is None and len(held) < HELD_AT_MOST and project.paused_at is None:
            found = _new(user, project, ahead)
        if found is None:
            return None
        _hand_out(found, user, project, ahead)
    slot = found.slot
    slot.state, slot.rater, slot.ahead, slot.project = Slot.State.LEASED, user, ahead, project
    del slot.lease_expires_at  # the database's clock knows; it is read when somebody asks
    return slot


@dataclass(frozen=True)
class Found:
    """A slot for the rater, locked."""

    slot: Slot
    at_random: bool | None = None
    """Whether it was drawn by lottery; None for slots that were made for the rater, or that they hold already."""


def _hand_out(found: Found, user: User, project: Project, ahead: bool) -> None:
    """Give a slot to the rater, or again to the one who holds it; of the first time it is kept how it was drawn."""
    values: dict[str, Any] = {
        "slot": found.slot.pk,
        "rater": user.pk,
        "ahead": ahead,
        "lease": lease_of(project),
        "at_random": found.at_random,
        "random_share": None if found.at_random is None else project.random_share,
    }
    with connection.cursor() as cursor:
        cursor.execute(HAND_OUT, values)


def _new(user: User, project: Project, ahead: bool) -> Found | None:
    """A slot that the rater does not hold yet: of the qualification, or else one that is found or put in its place."""
    trial = qualification.trial(user=user, project=project)
    if trial is not None and not qualification.settle(trial):
        # Not ahead: feedback comes in between.
        slot = None if ahead else qualification.slot_for(trial)
        return Found(slot) if slot else None
    found = _find(user, project, ahead)
    if found is not None and found.at_random is not None:
        instead = mixing.instead(found=found.slot, user=user, project=project)
        return Found(instead) if instead else found
    return found


def _find(user: User, project: Project, ahead: bool) -> Found | None:
    """Lock the first slot that the rater may take.

    Rows that others have locked are passed over at first. They may yet be let go, so where nothing
    else was found and one of them still looks free, they are waited for. None is the answer only
    after a look at the committed state has found nothing.
    """
    at_random = draw() < project.random_share
    found = offers(user=user, project=project, ahead=ahead, at_random=at_random)
    wait = False
    while True:
        for offer in found:
            slot = offer.lock_first(user, project, wait=wait)
            if slot is not None:
                return Found(slot, None if slot.reserved_for_id else at_random)
        if not any(offer.first(user, project) for offer in found):
            return None
        wait = True


def open_ahead(*, user: User, project: Project, slot_id: int) -> bool:
    """Make the slot that the rater's page holds ahead the one at work.

    :returns: False when it is not theirs any more, and in a paused project.
    """
    if project.paused_at is not None:
        return False
    with connection.cursor() as cursor:
        values: dict[str, Any] = {"slot": slot_id, "project": project.pk, "rater": user.pk, "lease": lease_of(project)}
        cursor.execute(OPEN, values)
        return bool(cursor.rowcount)


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
        if locked.purpose == Purpose.QUALIFY:
            raise Refused(_("Items of the qualification are not skipped: answer as well as you can."))
        if locked.rater_id != user.pk or locked.state != Slot.State.LEASED:
            raise Refused(_("This item is not yours to skip any more."))
        Skip.objects.create(slot=locked, rater=user, reason=reason[:500])
        locked.drafts.filter(rater=user).delete()
        Slot.objects.filter(pk=locked.pk).update(state=Slot.State.FREE, rater=None, ahead=False, lease_expires_at=None)
