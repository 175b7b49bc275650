"""Claiming slots and submitting judgements: nothing lost, nothing counted twice.

Locks are held for the length of a few statements. The two races that matter are decided by the
database: two raters for one slot by ``SELECT … FOR UPDATE SKIP LOCKED``, two copies of one
submission by the slot's row lock and the submission's primary key.
"""

from __future__ import annotations

import random
import uuid as uuid_module
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotate.models import (
    Completion,
    Edit,
    Flag,
    Judgement,
    JudgementRevision,
    Lease,
    Project,
    Rank,
    Score,
    Skip,
    Slot,
    Submission,
    User,
)
from annotate.services import Conflict, Refused
from annotate.services.payload import Payload, check, digest

LEASE = timedelta(minutes=30)


@dataclass(frozen=True)
class Receipt:
    """What became of a submission."""

    outcome: str
    judgement: Judgement | None
    replay: bool


def claim(*, user: User, project: Project, keep: bool = True) -> Slot | None:
    """Give the rater a slot to work on, or None when there is none that they may take.

    :param keep: hand out the slot that the rater already holds, if any (a reload shows the same
        item); False asks for one more, as a prefetch does.
    """
    now = timezone.now()
    mine = Slot.objects.filter(project=project, state=Slot.State.LEASED, rater=user)
    with transaction.atomic():
        held = mine.select_for_update(of=("self",)).order_by("priority", "id").first() if keep else None
        slot = held or available(user=user, project=project).select_for_update(skip_locked=True, of=("self",)).first()
        if slot is None:
            return None
        slot.state = Slot.State.LEASED
        slot.rater = user
        slot.lease_expires_at = now + LEASE
        slot.save(update_fields=["state", "rater", "lease_expires_at"])
        if held is None:
            Lease.objects.get_or_create(slot=slot, rater=user)
    return slot


def available(*, user: User, project: Project) -> QuerySet[Slot]:
    """Slots that the rater may take now, the next one first."""
    taken = Slot.objects.filter(item=OuterRef("item"), rater=user).exclude(pk=OuterRef("pk"))
    skipped = Skip.objects.filter(slot__item=OuterRef("item"), rater=user)
    wrote = Edit.objects.filter(edited__entries__item=OuterRef("item"), revision__judgement__rater=user)
    return (
        Slot.objects.filter(project=project)
        .filter(
            Q(state=Slot.State.FREE) | Q(state=Slot.State.LEASED, lease_expires_at__lt=timezone.now()) & ~Q(rater=user)
        )
        .exclude(Exists(taken))
        .exclude(Exists(skipped))
        .exclude(Exists(wrote))
        .order_by("priority", "id")
    )


def renew(*, user: User, slot: Slot) -> bool:
    """Extend the rater's lease; False when the slot is no longer theirs."""
    return bool(
        Slot.objects.filter(pk=slot.pk, rater=user, state=Slot.State.LEASED).update(
            lease_expires_at=timezone.now() + LEASE
        )
    )


def shown_order(slot: Slot) -> list[int]:
    """Completion ids in the order in which this slot shows them, drawn from its recorded seed."""
    ids = list(slot.item.entries.order_by("position").values_list("completion_id", flat=True))
    random.Random(slot.order_seed).shuffle(ids)
    return ids


def submit(
    *, user: User, slot: Slot, uuid: uuid_module.UUID, raw: dict[str, Any], version: int | None = None
) -> Receipt:
    """Store a judgement, or a new version of one.

    :param uuid: made by the page; sending the same submission again returns the stored outcome.
    :param raw: the payload, see :mod:`annotate.services.payload`.
    :param version: the version that an edit of an answer starts from; None for a first answer.
    :raises Conflict: when the uuid came before with another payload, or somebody stored a newer version.
    :raises Refused: when the payload is wrong or the slot was never this rater's.
    """
    sha256 = digest(raw)
    with transaction.atomic():
        locked = Slot.objects.select_for_update(of=("self",)).select_related("project", "item").get(pk=slot.pk)
        earlier = Submission.objects.filter(pk=uuid).first()
        if earlier is not None:
            return _replay(earlier, user, locked, sha256)
        payload = check(raw, locked.item, locked.project)
        if locked.rater_id != user.pk:
            return _late(locked, user, uuid, raw, sha256)
        submission = Submission.objects.create(
            uuid=uuid, slot=locked, rater=user, payload=raw, payload_sha256=sha256, outcome=Submission.Outcome.ACCEPTED
        )
        if locked.state == Slot.State.DONE:
            judgement = _next_version(locked, version)
        else:
            judgement = Judgement.objects.create(slot=locked, item=locked.item, rater=user)
            locked.state = Slot.State.DONE
            locked.lease_expires_at = None
            locked.save(update_fields=["state", "lease_expires_at"])
        _store(judgement, submission, payload, locked)
    return Receipt("accepted", judgement, replay=False)


def _replay(earlier: Submission, user: User, slot: Slot, sha256: str) -> Receipt:
    if (earlier.rater_id, earlier.slot_id, earlier.payload_sha256) != (user.pk, slot.pk, sha256):
        raise Conflict(_("This submission was already sent with another content."))
    judgement = Judgement.objects.filter(slot=slot, rater=user).first()
    return Receipt(earlier.outcome, judgement, replay=True)


def _late(slot: Slot, user: User, uuid: uuid_module.UUID, raw: dict[str, Any], sha256: str) -> Receipt:
    """Keep the answer of a rater whose lease ran out and whose slot somebody else took."""
    if not Lease.objects.filter(slot=slot, rater=user).exists():
        raise Refused(_("This item was not given to you."))
    Submission.objects.create(
        uuid=uuid, slot=slot, rater=user, payload=raw, payload_sha256=sha256, outcome=Submission.Outcome.LATE
    )
    return Receipt("late", None, replay=False)


def _next_version(slot: Slot, version: int | None) -> Judgement:
    judgement = Judgement.objects.select_for_update().get(slot=slot)
    if version != judgement.version:
        raise Conflict(
            _("A newer version of this answer was saved meanwhile (version %(version)s).")
            % {"version": judgement.version}
        )
    judgement.version += 1
    judgement.save(update_fields=["version", "updated_at"])
    return judgement


def _store(judgement: Judgement, submission: Submission, payload: Payload, slot: Slot) -> None:
    """Write a revision with all its parts."""
    revision = JudgementRevision.objects.create(
        judgement=judgement,
        number=judgement.version,
        submission=submission,
        both_bad=payload.both_bad,
        rationale=payload.rationale,
        order_shown=shown_order(slot),
        active_ms=payload.active_ms,
        guideline=slot.project.guidelines.order_by("-number").first(),
    )
    Score.objects.bulk_create(
        Score(revision=revision, completion_id=completion, criterion_id=criterion, value=value)
        for completion, scores in payload.scores.items()
        for criterion, value in scores.items()
    )
    Rank.objects.bulk_create(
        Rank(revision=revision, completion_id=completion, group=group) for completion, group in payload.ranks.items()
    )
    Flag.objects.bulk_create(
        Flag(revision=revision, completion_id=completion, note=note) for completion, note in payload.flags.items()
    )
    for completion, text in payload.edits.items():
        edited = Completion.objects.create(prompt=slot.item.prompt, edit_of_id=completion, text=text)
        Edit.objects.create(revision=revision, completion_id=completion, edited=edited)


def skip(*, user: User, slot: Slot, reason: str) -> None:
    """Give a slot back with a reason; its item does not return to this rater.

    :raises Refused: without a reason, or when the slot is not held by this rater.
    """
    reason = reason.strip()
    if not reason:
        raise Refused(_("Say in a few words why you skip this item."), place="reason")
    with transaction.atomic():
        locked = Slot.objects.select_for_update(of=("self",)).get(pk=slot.pk)
        if locked.rater_id != user.pk or locked.state != Slot.State.LEASED:
            raise Refused(_("This item is not yours to skip any more."))
        Skip.objects.create(slot=locked, rater=user, reason=reason[:500])
        locked.state = Slot.State.FREE
        locked.rater = None
        locked.lease_expires_at = None
        locked.save(update_fields=["state", "rater", "lease_expires_at"])


@dataclass(frozen=True)
class Standing:
    """Where a rater and a project stand."""

    mine_done: int
    done: int
    total: int
    takeable: int

    @property
    def why_none(self) -> str:
        """Why there is nothing for the rater to do, when there is nothing."""
        if self.total == 0:
            return _("No items have been prepared yet. They appear here as soon as the model has written answers.")
        if self.done == self.total:
            return _("Every item of this project is judged. Thank you!")
        return _("What is left is being judged by others, or was judged or skipped by you.")


def standing(*, user: User, project: Project) -> Standing:
    """Progress of one rater and of the project, counted in slots."""
    slots = Slot.objects.filter(project=project)
    return Standing(
        mine_done=slots.filter(rater=user, state=Slot.State.DONE).count(),
        done=slots.filter(state=Slot.State.DONE).count(),
        total=slots.count(),
        takeable=available(user=user, project=project).count(),
    )
