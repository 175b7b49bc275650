"""Answer keys and what is held against them, for tests: a lead's judgement that others agree with or not."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from threading import Thread

from django.db import connection
from django.db.models.functions import Now

from annotate.models import AnswerKey, Check, Contest, Item, Judgement, Lease, Membership, Project, Purpose, Slot, User
from annotate.services import checks, contests, keys, ondemand
from annotate.services.claiming import claim
from annotate.services.guidelines import mark_read, publish
from annotate.services.judging import submit
from tests.annotate.factory import World, user

RIGHT = (1, 2, 3, 4)
"""Places of an item's answers in the order of their making."""
WRONG = (4, 3, 2, 1)


def answer(slot: Slot, places: Sequence[int | None] = RIGHT, **more: object) -> Judgement:
    """Judge a slot that is held: places by the order in which its answers were made."""
    order = sorted(slot.item.completions.values_list("pk", flat=True))
    ranks = {str(pk): place for pk, place in zip(order, places, strict=False) if place}
    assert slot.rater is not None
    made = submit(user=slot.rater, slot=slot, uuid=uuid.uuid4(), raw={"ranks": ranks, **more}).judgement
    assert made is not None
    return made


def answering(slot: Slot, places: Sequence[int | None]) -> Thread:
    """Somebody who judges a slot at the same time, on a connection of their own; not started yet."""

    def send() -> None:
        try:
            answer(slot, places)
        finally:
            connection.close()

    return Thread(target=send)


def change(judgement: Judgement, places: Sequence[int | None], **more: object) -> None:
    """Judge an item anew that was judged."""
    order = sorted(judgement.item.completions.values_list("pk", flat=True))
    raw = {"ranks": {str(pk): place for pk, place in zip(order, places, strict=False) if place}, **more}
    slot = Slot.objects.get(pk=judgement.slot_id)
    submit(user=judgement.rater, slot=slot, uuid=uuid.uuid4(), raw=raw, version=judgement.version)
    judgement.refresh_from_db()


def new_instructions(stage: World, *, must_read: bool = True) -> None:
    """Another version of the instructions, which all members have read."""
    version = publish(project=stage.project, text="Be brief.", translations={}, must_read=must_read, actor=stage.alice)
    for membership in stage.project.memberships.select_related("user"):
        mark_read(user=membership.user, guideline=version)


def answer_next(rater: User, project: Project, places: Sequence[int | None] = RIGHT, **more: object) -> Judgement:
    """Judge the rater's next item."""
    slot = claim(user=rater, project=project)
    assert slot is not None
    return answer(slot, places, **more)


def member(stage: World, name: str, role: str = Membership.Role.RATER) -> User:
    """Somebody more in the project."""
    made = user(name)
    Membership.objects.create(user=made, project=stage.project, role=role)
    return made


def make_key(stage: World, use: str, *, places: Sequence[int | None] = RIGHT, by: User | None = None) -> AnswerKey:
    """A key: the next item as the lead judges it."""
    judgement = answer_next(by or stage.alice, stage.project, places)
    return keys.make(judgement=judgement, use=use, explanation="**Because** it helps.", actor=stage.alice)


def handed(item: Item, purpose: Purpose, rater: User) -> Slot:
    """A slot on demand in the rater's hands, whatever else they hold."""
    made = ondemand.make_on_demand(item=item, purpose=purpose, rater=rater, actor=None)
    Slot.objects.filter(pk=made.pk).update(
        state=Slot.State.LEASED, rater=rater, lease_expires_at=Now() + timedelta(minutes=30)
    )
    Lease.objects.create(slot=made, rater=rater)
    made.refresh_from_db()
    return made


def checked(key: AnswerKey, rater: User, places: Sequence[int | None] = WRONG) -> Check:
    """A gold item judged by a rater."""
    return Check.objects.get(judgement=answer(handed(key.item, Purpose.GOLD, rater), places))


def contested_key(stage: World) -> Contest:
    """Bob's objection to a key that he judged otherwise and was shown."""
    item = Item.objects.filter(purpose=Item.Purpose.COLLECT, judgements__isnull=True).earliest("pk")
    Slot.objects.filter(item=item).update(priority=-(2**60))
    key = make_key(stage, AnswerKey.Use.GOLD, by=member(stage, "kim", Membership.Role.LEAD))
    check = checked(key, stage.bob)
    checks.reveal(user=stage.bob, project=stage.project)
    check.refresh_from_db()
    return contests.contest(check=check, reason="The first one is made up.", user=stage.bob)


def failed_qualification(stage: World) -> Membership:
    """Bob, who judged the one item of the qualification the wrong way round."""
    key = contested_key(stage).check_result.key
    assert key is not None
    AnswerKey.objects.filter(pk=key.pk).update(use=AnswerKey.Use.QUALIFY)
    Project.objects.filter(pk=stage.project.pk).update(pass_mark=0.5)
    return Membership.objects.get(project=stage.project, user=stage.bob)
