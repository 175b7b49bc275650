"""Checks: how far a judgement agrees with an answer key, or with the rater's own earlier judgement of the item.

A check is stored with the judgement, in one transaction, and follows its later versions until the rater
has been shown the right answer: from then on the judgement stands. Checks against a key whose contest
was accepted do not count (:data:`COUNTING`).
"""

from __future__ import annotations

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Greatest, Least, Now
from django.utils.translation import gettext as _

from annotate.models import (
    AnswerKey,
    Check,
    Contest,
    GuidelineVersion,
    Judgement,
    JudgementRevision,
    Membership,
    Project,
    Purpose,
    User,
)
from annotate.services import Refused, places
from annotate.services.guidelines import known_at

COUNTING = ~Q(contest__state=Contest.State.ACCEPTED)


def record(judgement: Judgement) -> Check | None:
    """Compare a judgement that was just stored with what its slot was made for.

    To be called in the transaction that stores it. A judgement for the qualification that ranks nothing agrees
    with nothing, and is shown with its key at once; any other that cannot be compared has no check. What repeats a
    judgement that was changed is compared with it again.
    """
    if judgement.version > 1:
        same = Judgement.objects.filter(item=judgement.item_id, rater=judgement.rater_id, pk__gt=judgement.pk)
        for again in same.filter(slot__purpose=Purpose.REPEAT).order_by("pk"):
            _against_earlier(again)
    match judgement.slot.purpose:
        case Purpose.GOLD | Purpose.QUALIFY as use:
            return _against_key(judgement, use)
        case Purpose.REPEAT:
            return _against_earlier(judgement)
    return None


def require_open(judgement: Judgement) -> None:
    """Lock a judgement's check against a key, so that it is not revealed meanwhile.

    :raises Refused: when the rater has been shown the right answer.
    """
    held = Check.objects.filter(judgement=judgement, key__isnull=False)
    check = held.select_for_update(no_key=True, of=("self",)).first()
    if check is not None and check.revealed_at is not None:
        raise Refused(_("You have seen the right answer to this item: what you said of it stands."))


def reveal(*, user: User, project: Project) -> int:
    """Show a rater the right answers to all gold items that they have judged; those judgements stand from now on.

    :returns: how many had not been shown before.
    """
    return _gold(user, project).filter(revealed_at__isnull=True).update(revealed_at=Now())


def revealed_gold(*, user: User, project: Project) -> QuerySet[Check]:
    """Checks of the rater's judgements of gold items whose right answer they have seen, the newest first."""
    return _gold(user, project).filter(revealed_at__isnull=False).order_by("-judgement_id")


def repeats(judgements: QuerySet[Judgement], *, same_instructions: bool = True) -> QuerySet[Check]:
    """Comparisons of judgements with the rater's own earlier ones.

    A change of mind that new instructions ask for says nothing about the rater: those count whose two judgements, as
    they are now, were given under the same version of the instructions that had to be read.

    :param same_instructions: False for those that do not count.
    """
    known, known_before = OuterRef("known"), OuterRef("known_before")
    between = GuidelineVersion.objects.filter(
        project=OuterRef("judgement__slot__project"),
        must_read=True,
        number__gt=Least(known, known_before),
        number__lte=Greatest(known, known_before),
    )
    found = Check.objects.filter(judgement__in=judgements, earlier__isnull=False).alias(
        known=known_at("judgement", "judgement__version"),
        known_before=known_at("earlier", "earlier__version"),
    )
    return found.filter(~Exists(between) if same_instructions else Exists(between))


def _gold(user: User, project: Project) -> QuerySet[Check]:
    judged = Check.objects.filter(judgement__rater=user, judgement__slot__project=project)
    return judged.filter(key__use=AnswerKey.Use.GOLD)


def _against_key(judgement: Judgement, use: str) -> Check | None:
    key = AnswerKey.objects.filter(item=judgement.item_id, use=use, active=True).select_related("revision").first()
    if key is None:
        return None
    agreement = places.agreement_with_key(_latest(judgement), key.revision)
    if use == Purpose.GOLD:
        return _store(judgement, agreement, key=key)
    membership = Membership.objects.filter(user=judgement.rater_id, project=judgement.slot.project_id).first()
    number = membership.qualification_round if membership else 1
    return _store(judgement, agreement or 0.0, key=key, round=number, revealed_at=Now())


def _against_earlier(judgement: Judgement) -> Check | None:
    others = Judgement.objects.filter(item=judgement.item_id, rater=judgement.rater_id).exclude(pk=judgement.pk)
    # Where the earlier one is being changed, its new version is waited for.
    earlier = others.select_for_update(no_key=True).order_by("pk").first()
    if earlier is None:
        return None
    return _store(judgement, places.agreement(_latest(earlier), _latest(judgement)), earlier=earlier)


def _latest(judgement: Judgement) -> JudgementRevision:
    return judgement.revisions.get(number=judgement.version)


def _store(judgement: Judgement, agreement: float | None, **against: object) -> Check | None:
    if agreement is None:
        Check.objects.filter(judgement=judgement).delete()
        return None
    check, _created = Check.objects.update_or_create(judgement=judgement, defaults={"agreement": agreement, **against})
    return check
