"""Slots made on demand: a judgement asked of one named rater, outside the item's overlap.

They never enter overlap, win-rates or training data. The one exception is an adjudication: where an
item has one, it is counted in place of every other judgement of the item, and of several the last
(:func:`counted_revisions`).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery
from django.utils.translation import gettext as _

from annotate.models import Item, Judgement, JudgementRevision, Purpose, Skip, Slot, User
from annotate.services import Refused, audit

SEEDS = 2**62


def make_on_demand(*, item: Item, purpose: Purpose, rater: User, actor: User | None) -> Slot:
    """Ask one rater for one more judgement of an item.

    An item has one open adjudication at most. Asking somebody else moves it to them; what the first
    one may still send is kept as late.

    :param purpose: *repeat* for an item that the rater has judged; *gold*, *qualify* or *adjudicate*
        for one that they have not had.
    :raises Refused: when the purpose is not made on demand, or the rater or the item does not fit it.
    """
    if purpose in (Purpose.COLLECT, Purpose.EVALUATE):
        raise Refused(_("Slots that count are made with their item."), place="purpose")
    with transaction.atomic():
        # The lock that claiming takes: the rater gets no other slot of the item meanwhile.
        User.objects.select_for_update(no_key=True).values_list("pk").get(pk=rater.pk)
        Item.objects.select_for_update(no_key=True).values_list("pk").get(pk=item.pk)
        _check(item, purpose, rater)
        slot = None
        if purpose == Purpose.ADJUDICATE:
            open_one = Slot.objects.filter(item=item, purpose=purpose).exclude(state=Slot.State.DONE)
            slot = open_one.select_for_update(no_key=True).first()
        if slot is None:
            slot = new_slot(item=item, purpose=purpose, rater=rater)
        else:
            Slot.objects.filter(pk=slot.pk).update(
                state=Slot.State.FREE, rater=None, ahead=False, lease_expires_at=None, reserved_for=rater
            )
            slot.refresh_from_db()
        audit.record("asked", slot, actor=actor, project=item.project, purpose=purpose, rater=rater.username)
    return slot


def new_slot(*, item: Item, purpose: Purpose, rater: User, order_seed: int | None = None) -> Slot:
    """A slot for one named rater, where the caller has seen to it that they may have it.

    :param order_seed: of the order in which the answers are shown; drawn where it is left out.
    """
    return Slot.objects.create(
        project_id=item.project_id,
        item=item,
        purpose=purpose,
        reserved_for=rater,
        order_seed=secrets.randbelow(SEEDS) if order_seed is None else order_seed,
    )


def _check(item: Item, purpose: Purpose, rater: User) -> None:
    judged = Judgement.objects.filter(item=item)
    if purpose == Purpose.REPEAT:
        if not judged.filter(rater=rater).exists():
            raise Refused(_("%(rater)s has not judged this item yet.") % {"rater": rater}, place="rater")
        return
    if purpose == Purpose.ADJUDICATE and item.purpose == Purpose.EVALUATE:
        raise Refused(_("A blind pair is not adjudicated: its raters' votes are the result, as they fell."))
    if purpose == Purpose.ADJUDICATE and not judged.exists():
        raise Refused(_("Nobody has judged this item yet: there is nothing to adjudicate."))
    if not never_had(item).filter(pk=rater.pk).exists():
        raise Refused(
            _("%(rater)s cannot be asked: choose a member who has not had this item.") % {"rater": rater},
            place="rater",
        )


def never_had(item: Item) -> QuerySet[User]:
    """Members of the item's project, by name, who have never had it, skipped it or written a part of it."""
    person = OuterRef("pk")
    had = Slot.objects.filter(Q(rater=person) | Q(reserved_for=person) | Q(leases__rater=person), item=item)
    wrote = JudgementRevision.objects.filter(edits__edited__entries__item=item, judgement__rater=person)
    return (
        User.objects.filter(memberships__project=item.project_id, kind=User.Kind.HUMAN, is_active=True)
        .exclude(Exists(had))
        .exclude(Exists(Skip.objects.filter(slot__item=item, rater=person)))
        .exclude(Exists(wrote))
        .order_by("username")
    )


def counted_revisions(*, kinds: Sequence[str]) -> QuerySet[JudgementRevision]:
    """The current revision of each judgement that counts where preferences are collected.

    Counted are judgements in *collect* slots. Where an item has adjudications by raters of the kinds asked for, the
    one whose first submission came last counts alone.

    :param kinds: whose judgements are asked for.
    """
    adjudications = Judgement.objects.filter(
        item=OuterRef("judgement__item"), slot__purpose=Purpose.ADJUDICATE, rater__kind__in=kinds
    )
    return (
        JudgementRevision.objects.filter(number=F("judgement__version"), judgement__rater__kind__in=kinds)
        .filter(
            Q(judgement__slot__purpose=Purpose.COLLECT)
            | Q(judgement__slot__purpose=Purpose.ADJUDICATE, judgement__item__purpose=Purpose.COLLECT)
        )
        .annotate(adjudication=Subquery(adjudications.order_by("-pk").values("pk")[:1]))
        .filter(Q(adjudication__isnull=True) | Q(judgement_id=F("adjudication")))
    )
