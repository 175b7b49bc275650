"""Items that tell how well a rater works, mixed in among the ordinary ones and looking like them.

*Gold* is an item whose right answer is known; a *repeat* is one that the rater judged before. One is drawn,
at the project's rates, where an ordinary item was found: never when the rater has nothing else to do, or
its coming alone would tell what it is. Programs that judge get neither.
"""

from __future__ import annotations

import random
import secrets
from datetime import timedelta

from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from annotate.models import AnswerKey, Edit, GuidelineVersion, Judgement, Project, Purpose, Skip, Slot, User
from annotate.models.judgements import COUNTED
from annotate.services import ondemand
from annotate.services.guidelines import known_at

APART = 20
"""Judgements between an item and its repeat, at least, unless a day has passed."""
LOOK_BACK = 220
"""Repeats are drawn from a rater's last so many judgements."""
DAY = timedelta(days=1)

draw = random.SystemRandom().random


def instead(*, found: Slot, user: User, project: Project) -> Slot | None:
    """A new slot for the rater in place of the ordinary one that was found for them; mostly None.

    It is for an item of the same kind, because a pair among larger items would stick out. To be called with
    the rater's row locked.
    """
    if user.kind != User.Kind.HUMAN or not (project.gold_rate or project.repeat_rate):
        return None
    drawn = draw()
    if drawn < project.gold_rate:
        return _gold(user, found)
    if drawn < project.gold_rate + project.repeat_rate:
        return _repeat(user, found)
    return None


def _gold(user: User, found: Slot) -> Slot | None:
    """An item with an active key that the rater has never had; first those that lack no judgement any more."""
    item = OuterRef("item")
    had = Slot.objects.filter(Q(rater=user) | Q(reserved_for=user) | Q(leases__rater=user), item=item)
    skipped = Skip.objects.filter(slot__item=item, rater=user)
    wrote = Edit.objects.filter(edited__entries__item=item, revision__judgement__rater=user)
    wanting = Slot.objects.filter(COUNTED, item=item).exclude(state=Slot.State.DONE)
    key = (
        AnswerKey.objects.filter(use=AnswerKey.Use.GOLD, active=True)
        .filter(item__project=found.project_id, item__purpose=found.purpose)
        .exclude(Exists(had) | Exists(skipped) | Exists(wrote))
        .annotate(wanting=Exists(wanting))
        .select_related("item")
        .order_by("wanting", "?")
        .first()
    )
    return ondemand.new_slot(item=key.item, purpose=Purpose.GOLD, rater=user) if key else None


def _repeat(user: User, found: Slot) -> Slot | None:
    """An item that the rater judged long enough ago, and only once, with its answers in another order.

    What they judged before instructions that had to be read is not repeated: under these they may well say otherwise.
    """
    again = Slot.objects.filter(item=OuterRef("item"), purpose=Purpose.REPEAT, reserved_for=user)
    since = GuidelineVersion.objects.filter(project=found.project_id, must_read=True, number__gt=OuterRef("known"))
    latest = list(
        Judgement.objects.filter(rater=user, slot__project=found.project_id)
        .alias(known=known_at("pk", "version"))
        .annotate(
            repeated=Exists(again),
            outdated=Exists(since),
            alike=Q(slot__purpose=found.purpose),
            old=Q(updated_at__lt=Now() - DAY),
        )
        .select_related("item", "slot")
        .order_by("-updated_at")[:LOOK_BACK]
    )
    fit = [
        j for back, j in enumerate(latest) if j.alike and not (j.repeated or j.outdated) and (back >= APART or j.old)
    ]
    if not fit:
        return None
    judgement = secrets.choice(fit)
    seed = _other_order(judgement.item.entries.count(), judgement.slot.order_seed)
    return ondemand.new_slot(item=judgement.item, purpose=Purpose.REPEAT, rater=user, order_seed=seed)


def _other_order(count: int, seed: int) -> int:
    """A seed that shows so many answers in another order than the given one does."""
    while True:
        other = secrets.randbelow(ondemand.SEEDS)
        if _order(count, other) != _order(count, seed):
            return other


def _order(count: int, seed: int) -> list[int]:
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order
