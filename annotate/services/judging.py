"""Submitting judgements: nothing lost, nothing counted twice.

Two copies of one submission are parted by the slot's row lock and the submission's primary key. What
became of a submission is recorded with it and never changes.
"""

from __future__ import annotations

import uuid as uuid_module
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from annotate.models import (
    Draft,
    Judgement,
    Lease,
    Purpose,
    Slot,
    Submission,
    User,
)
from annotate.prepared import Prepared
from annotate.services import Conflict, Refused, adjudication, checks, comparison, qualification
from annotate.services.payload import check, digest
from annotate.services.storing import store

_held = Prepared(lambda pk: Slot.objects.select_for_update(no_key=True).filter(pk=pk).only("state", "rater"))


@dataclass(frozen=True)
class Receipt:
    """What became of a submission."""

    outcome: str
    judgement: Judgement | None
    replay: bool


def submit(
    *, user: User, slot: Slot, uuid: uuid_module.UUID, raw: dict[str, Any], version: int | None = None
) -> Receipt:
    """Store a judgement, or a new version of one.

    :param uuid: made by the page; sending the same submission again returns the stored outcome.
    :param raw: the payload, see :mod:`annotate.services.payload`.
    :param version: the version that an edit of an answer starts from; None for a first answer.
    :raises Conflict: when the uuid came before with another payload, or somebody stored a newer version.
    :raises Refused: when the payload is wrong, the slot was never this rater's, or what they said stands: they were
        shown the right answer, or the planned number of the blind comparison is in.
    """
    try:
        return _submit(user, slot, uuid, raw, version)
    except IntegrityError:
        # One uuid for two items: the row locks do not part them, the primary key does.
        earlier = Submission.objects.filter(pk=uuid).first()
        if earlier is None:
            raise
        return _replay(earlier, user, slot, digest(raw))


def _submit(user: User, slot: Slot, uuid: uuid_module.UUID, raw: dict[str, Any], version: int | None) -> Receipt:
    sha256 = digest(raw)
    with transaction.atomic():
        now = _held(pk=slot.pk)[0]
        slot.state, slot.rater_id = now.state, now.rater_id
        if slot.state == Slot.State.DONE or slot.rater_id != user.pk:
            earlier = Submission.objects.filter(pk=uuid).first()
            if earlier is not None:
                return _replay(earlier, user, slot, sha256)
        payload = check(raw, slot)
        if slot.rater_id != user.pk:
            return _late(slot, user, uuid, raw, sha256)
        if slot.state == Slot.State.DONE:
            judgement = _next_version(slot, version)
        else:
            judgement = Judgement(slot=slot, item_id=slot.item_id, rater=user)
        store(judgement=judgement, slot=slot, uuid=uuid, raw=raw, sha256=sha256, payload=payload)
        _hold_against_others(judgement, slot)
    return Receipt("accepted", judgement, replay=False)


def _hold_against_others(judgement: Judgement, slot: Slot) -> None:
    """Compare it with a key, an earlier judgement or other raters', as its slot's purpose asks."""
    checks.record(judgement)
    if slot.purpose == Purpose.QUALIFY:
        trial = qualification.trial(user=judgement.rater, project=slot.project)
        if trial is not None:
            qualification.settle(trial)
    elif slot.purpose == Purpose.COLLECT and slot.project.adjudicate_above is not None:
        adjudication.consider(item=slot.item)


def _replay(earlier: Submission, user: User, slot: Slot, sha256: str) -> Receipt:
    if (earlier.rater_id, earlier.slot_id, earlier.payload_sha256) != (user.pk, slot.pk, sha256):
        raise _reused()
    judgement = Judgement.objects.filter(slot=slot, rater=user).first()
    return Receipt(earlier.outcome, judgement, replay=True)


def _reused() -> Conflict:
    return Conflict(_("This submission was already sent with another content."))


def _late(slot: Slot, user: User, uuid: uuid_module.UUID, raw: dict[str, Any], sha256: str) -> Receipt:
    """Keep the answer of a rater whose lease ran out and whose slot somebody else took."""
    if not Lease.objects.filter(slot=slot, rater=user).exists():
        raise Refused(_("This item was not given to you."))
    Submission.objects.create(
        uuid=uuid, slot=slot, rater=user, payload=raw, payload_sha256=sha256, outcome=Submission.Outcome.LATE
    )
    Draft.objects.filter(slot=slot, rater=user).delete()
    return Receipt("late", None, replay=False)


def _next_version(slot: Slot, version: int | None) -> Judgement:
    judgement = Judgement.objects.get(slot=slot)
    judgement.slot = slot
    checks.require_open(judgement)
    comparison.require_open(judgement)
    if version != judgement.version:
        raise Conflict(
            _("A newer version of this answer was saved meanwhile (version %(version)s).")
            % {"version": judgement.version}
        )
    judgement.version += 1
    return judgement
