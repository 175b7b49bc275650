"""Where raters disagree too much, somebody else decides: whom to ask, and the asking.

It happens in the transaction of the judgement that shows the disagreement. That transaction holds its
slot's row, and a claim may wait for that row while it holds a rater's; so nobody's row is locked here.
What is accepted for it: somebody who at this very moment is handed the same item as gold gets it twice.
"""

from __future__ import annotations

from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from annotate.models import Item, JudgementRevision, Membership, Project, Purpose, Slot, User
from annotate.models.judgements import COUNTED, OPEN
from annotate.services import audit, ondemand, places, qualification


def consider(*, item: Item) -> Slot | None:
    """Ask for an adjudication of an item that was just judged, if its raters disagree beyond the project's threshold.

    Nothing happens while some of its slots are open, after it was asked for once, or where nobody is eligible.
    """
    project = item.project
    if project.adjudicate_above is None:
        return None
    # Two raters who give the last two answers at once come one after the other here.
    Item.objects.select_for_update(no_key=True).values_list("pk").get(pk=item.pk)
    slots = Slot.objects.filter(item=item)
    if slots.filter(COUNTED).exclude(state=Slot.State.DONE).exists():
        return None
    if slots.filter(purpose=Purpose.ADJUDICATE).exists():
        return None
    found = places.disagreement(judged(item))
    if found is None or found <= project.adjudicate_above:
        return None
    person = eligible(item).first()
    if person is None:
        return None
    slot = ondemand.new_slot(item=item, purpose=Purpose.ADJUDICATE, rater=person)
    audit.record(
        "asked",
        slot,
        actor=None,
        project=project,
        purpose=slot.purpose,
        rater=person.username,
        disagreement=round(found, 3),
    )
    return slot


def judged(item: Item) -> QuerySet[JudgementRevision]:
    """People's judgements of an item in slots that count, as they are now, in the order of their making."""
    return (
        JudgementRevision.objects.filter(number=F("judgement__version"), judgement__item=item)
        .filter(judgement__slot__number__isnull=False, judgement__rater__kind=User.Kind.HUMAN)
        .select_related("judgement")
        .prefetch_related("ranks", "scores")
        .order_by("judgement_id")
    )


def eligible(item: Item) -> QuerySet[User]:
    """Who may decide: leads first, then raters who need no qualification; who has least to decide comes first."""
    member = Membership.objects.filter(project=item.project_id, user=OuterRef("pk"))
    waiting = (
        Slot.objects.filter(OPEN, reserved_for=OuterRef("pk"), purpose=Purpose.ADJUDICATE)
        .order_by()
        .values("reserved_for")
        .annotate(count=Count("pk"))
        .values("count")
    )
    people = ondemand.never_had(item).annotate(
        role=Subquery(member.values("role")[:1]),
        qualified_at=Subquery(member.values("qualified_at")[:1]),
        waiting=Coalesce(Subquery(waiting), 0),
    )
    if _qualifies(item.project):
        people = people.filter(Q(role=Membership.Role.LEAD) | Q(qualified_at__isnull=False))
    return people.order_by("role", "waiting", "username")


def _qualifies(project: Project) -> bool:
    return project.pass_mark is not None and qualification.active_keys(project).exists()
