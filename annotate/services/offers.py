"""What a rater may be given: which slots, in which order, and why there is none.

What is open to everybody is offered by *priority* (:mod:`annotate.services.items`), or, for a share of the
claims, in the order of a *lottery* that is drawn when a slot is made: judgements of those items are a fair
sample of the pool, whatever the priorities are.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, Now
from django.utils.translation import gettext as _

from annotate.models import Edit, EvaluationRater, Project, Purpose, Skip, Slot, User
from annotate.models.judgements import COUNTED
from annotate.prepared import Prepared
from annotate.services import qualification
from annotate.services.evaluations import is_outside
from annotate.services.standing import counts


class Offer:
    """A place where a rater's next slot is looked for.

    :param slots: the slots in it, by the numbers of rater and project, in the order in which they are offered.
    """

    def __init__(self, slots: Callable[[int, int], QuerySet[Slot]]) -> None:
        self._first = Prepared(lambda user, project: slots(user, project)[:1])
        self._free = Prepared(
            lambda user, project: slots(user, project).select_for_update(no_key=True, skip_locked=True, of=("self",))[
                :1
            ]
        )
        self._awaited = Prepared(
            lambda user, project: slots(user, project).select_for_update(no_key=True, of=("self",))[:1]
        )

    def first(self, user: User, project: Project) -> Slot | None:
        """The first one, locked by somebody or not."""
        return self._first.first(user=user.pk, project=project.pk)

    def lock_first(self, user: User, project: Project, *, wait: bool) -> Slot | None:
        """Lock the first one, to be called in a transaction.

        :param wait: for those that others have locked; without it they are passed over.
        """
        locked = self._awaited if wait else self._free
        return locked.first(user=user.pk, project=project.pk)


def offers(*, user: User, project: Project, ahead: bool, at_random: bool = False) -> list[Offer]:
    """Where the rater's next slot is looked for, in this order.

    :param ahead: whether it is for after the one at work: then nothing is taken from another rater's hands.
    :param at_random: whether what is open to everybody is offered in an order that nothing has decided.
    """
    found = [RESERVED]
    if not has_quota(user=user, project=project):
        found.append(AT_RANDOM if at_random else BY_PRIORITY)
        if not ahead:
            found.append(HELD_AHEAD)
    return found


def available(user: int, project: int) -> QuerySet[Slot]:
    """Slots open to everybody, free or with an expired lease, that the rater may take."""
    expired = Q(state=Slot.State.LEASED, lease_expires_at__lt=Now()) & ~Q(rater=user)
    return _permitted(user, project).filter(Q(state=Slot.State.FREE) | expired)


def _reserved(user: int, project: int) -> QuerySet[Slot]:
    """Slots made on demand for the rater that they have not skipped."""
    return (
        Slot.objects.filter(project=project, reserved_for=user, state=Slot.State.FREE)
        .exclude(Exists(Skip.objects.filter(slot=OuterRef("pk"), rater=user)))
        .order_by("priority", "id")
    )


def _held_ahead(user: int, project: int) -> QuerySet[Slot]:
    """Slots that other raters' pages have fetched and nobody has opened."""
    held = _permitted(user, project).filter(state=Slot.State.LEASED, ahead=True)
    return held.exclude(rater=user).order_by("priority", "id")


def _permitted(user: int, project: int) -> QuerySet[Slot]:
    """Open slots for everybody whose items the rater has not had, skipped, or written a part of.

    Asked as numbers that must be below any row's, not by NOT EXISTS: PostgreSQL would weigh nine tables against
    each other anew each time, for longer than it then looks. And not as values that must be null: it takes those
    for so rare that it would sort the whole queue rather than go along its index.
    """
    item = OuterRef("item")
    had = Slot.objects.filter(item=item, rater=user)
    skipped = Skip.objects.filter(slot__item=item, rater=user)
    wrote = Edit.objects.filter(edited__entries__item=item, revision__judgement__rater=user)
    return Slot.objects.alias(had=_any(had), skipped=_any(skipped), wrote=_any(wrote)).filter(
        project=project,
        state__in=[Slot.State.FREE, Slot.State.LEASED],
        reserved_for__isnull=True,
        had__lt=1,
        skipped__lt=1,
        wrote__lt=1,
    )


def _any(rows: QuerySet[Any]) -> Coalesce:
    """The number of one of the rows, or 0."""
    return Coalesce(Subquery(rows.values("pk")[:1]), 0)


def _not_of_others(user: int) -> Q:
    """Items of no comparison, or of one whose pool the rater is in."""
    theirs = EvaluationRater.objects.filter(rater=user).values("evaluation")
    return Q(item__evaluation__isnull=True) | Q(item__evaluation__in=theirs)


def _open_to(user: User, project: Project) -> QuerySet[Slot]:
    """Open slots for everybody that the rater may be given, pairs included where they are in the pool."""
    left = _permitted(user.pk, project.pk)
    return left.filter(_not_of_others(user.pk)) if user.kind == User.Kind.HUMAN else left


class OpenOffer(Offer):
    """A place of slots for everybody; pairs of a comparison are only for its pool.

    Whether the rater is in it is asked when a pair was found: most claims find none, and need no statement more.
    """

    def __init__(self, slots: Callable[[int, int], QuerySet[Slot]]) -> None:
        super().__init__(slots)
        self._not_of_others = Offer(lambda user, project: slots(user, project).filter(_not_of_others(user)))

    def first(self, user: User, project: Project) -> Slot | None:
        found = super().first(user, project)
        return self._not_of_others.first(user, project) if _is_for_others(found, user) else found

    def lock_first(self, user: User, project: Project, *, wait: bool) -> Slot | None:
        found = super().lock_first(user, project, wait=wait)
        return self._not_of_others.lock_first(user, project, wait=wait) if _is_for_others(found, user) else found


def _is_for_others(found: Slot | None, user: User) -> bool:
    """Whether a slot is a pair of a comparison for which other people were chosen."""
    return found is not None and found.purpose == Purpose.EVALUATE and is_outside(user=user, item=found.item_id)


RESERVED = Offer(_reserved)
BY_PRIORITY = OpenOffer(lambda user, project: available(user, project).order_by("priority", "id"))
AT_RANDOM = OpenOffer(lambda user, project: available(user, project).order_by("lottery", "id"))
HELD_AHEAD = OpenOffer(_held_ahead)


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
    trial = qualification.trial(user=user, project=project)
    if trial is not None and not trial.passed:
        return trial.next_key is not None
    ahead = Slot.objects.filter(project=project, state=Slot.State.LEASED, rater=user, ahead=True)
    return ahead.exists() or any(o.first(user, project) for o in offers(user=user, project=project, ahead=False))


def _withheld(user: User, project: Project) -> str:
    """Why the rater is given nothing although something is left; empty where that is not so."""
    if project.paused_at is not None:
        held_ahead = Slot.objects.filter(project=project, state=Slot.State.LEASED, rater=user)
        left = RESERVED.first(user, project) or _open_to(user, project).exists() or held_ahead.exists()
        return _("The project is paused. Items appear here again when a lead goes on with it.") if left else ""
    if has_quota(user=user, project=project) and _open_to(user, project).exists():
        return _("You have judged as many items as one person may here. Thank you! The rest is for others.")
    return ""


def why_none(*, user: User, project: Project) -> str:
    """Why there is nothing for the rater to do, when :func:`claim` found nothing."""
    if waiting := qualification.why_waiting(user=user, project=project):
        return waiting
    now = counts(project)
    if now.total == 0:
        return _("No items have been prepared yet. They appear here as soon as the model has written answers.")
    if withheld := _withheld(user, project):
        return withheld
    if now.done == now.total:
        return _("Every item of this project is judged. Thank you!")
    left = _open_to(user, project)
    if not left.exists() and _permitted(user.pk, project.pk).exists():
        return _("What is left is a comparison for which other people were chosen.")
    if left.filter(state=Slot.State.LEASED).exists():
        return _("Others are judging what is left. If one of them gives an item back, it appears here by itself.")
    return _("What is left was judged or skipped by you: the rest is for others.")
