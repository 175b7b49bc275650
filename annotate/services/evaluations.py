"""Planning blind comparisons: how many prompts, under which instructions, by which people, before the first outcome.

The people are the pool. Whoever is not in it gets no items of the comparison, whatever becomes of the generation, and no
result is shown to whoever is in it before the planned number is in (:mod:`annotate.services.comparison`).
"""

from __future__ import annotations

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils.translation import gettext as _

from annotate.models import (
    Evaluation,
    EvaluationRater,
    Generation,
    GuidelineVersion,
    Item,
    Judgement,
    Membership,
    Project,
    Prompt,
    Split,
    User,
)
from annotate.prepared import Prepared
from annotate.services import Refused, audit

PLANNED_BY_ITSELF = 300
"""Test prompts that are planned where nobody says how many, and there are so many."""

_not_in_pool = Prepared(
    lambda user, item: Evaluation.objects.filter(items=item).exclude(
        Exists(EvaluationRater.objects.filter(evaluation=OuterRef("pk"), rater=user))
    )
)


def plan(*, newer: Generation, number: int | None, leads_rate: bool, actor: User | None) -> int:
    """Plan the comparison of a generation with its parent, or draw more prompts for one that is planned.

    The planned number can be changed as long as nothing is judged; later, more prompts can be drawn, and it stays.
    Where raters must read other instructions than when it was planned, it is another comparison.

    :param number: of test prompts to draw; when None, what is missing to the planned number, or up to
        ``PLANNED_BY_ITSELF`` where there is no plan yet.
    :param leads_rate: whether leads are in the pool; where there are no raters, they always are.
    :returns: how many prompts to draw.
    :raises Refused: when fewer test prompts are left.
    """
    project = newer.project
    with transaction.atomic():
        Generation.objects.select_for_update().get(pk=newer.pk)
        left = undrawn(newer).count()
        if number is not None and number > left:
            raise Refused(
                _("Only %(count)d test prompts are left to compare these generations on.") % {"count": left},
                place="planned",
            )
        guideline = instructions(project)
        evaluation = newer.evaluations.filter(older=newer.parent, guideline=guideline).first()
        if evaluation is None:
            drawn, number = 0, min(left, PLANNED_BY_ITSELF) if number is None else number
            evaluation = Evaluation(
                project=project, newer=newer, older=newer.parent, guideline=guideline, created_by=actor
            )
        else:
            drawn = evaluation.items.count()
            number = min(left, max(evaluation.planned - drawn, 0)) if number is None else number
            if Judgement.objects.filter(item__evaluation=evaluation).exists():
                return number
        if number:
            _store(evaluation, planned=drawn + number, leads_rate=leads_rate, actor=actor)
    return number


def judged_by(newer: Generation) -> set[str]:
    """The kinds of raters that have compared a generation with its parent."""
    judged = Judgement.objects.filter(item__evaluation__newer=newer)
    return set(judged.values_list("rater__kind", flat=True).distinct())


def _store(evaluation: Evaluation, *, planned: int, leads_rate: bool, actor: User | None) -> None:
    evaluation.planned = planned
    is_new = evaluation.pk is None
    evaluation.save()
    if is_new:
        people = pool_of(evaluation.project, leads_rate=leads_rate)
        EvaluationRater.objects.bulk_create(EvaluationRater(evaluation=evaluation, rater=rater) for rater in people)
    raters = sorted(evaluation.pool.values_list("rater__username", flat=True))
    audit.record("planned", evaluation, actor=actor, project=evaluation.project, planned=planned, raters=raters)


def pool_of(project: Project, *, leads_rate: bool) -> QuerySet[User]:
    """The people of a project who would compare: its raters, and its leads where they rate or nobody else does."""
    people = project.memberships.filter(user__kind=User.Kind.HUMAN, user__is_active=True)
    raters = people.filter(role=Membership.Role.RATER)
    chosen = people if leads_rate or not raters.exists() else raters
    return User.objects.filter(pk__in=chosen.values("user"))


def undrawn(newer: Generation) -> QuerySet[Prompt]:
    """Test prompts on which a generation and its parent have not been put side by side."""
    paired = Item.objects.filter(
        prompt=OuterRef("pk"), purpose=Item.Purpose.EVALUATE, completions__generation=newer
    ).filter(pk__in=Item.objects.filter(completions__generation=newer.parent))
    return newer.project.prompts.filter(split=Split.TEST).exclude(Exists(paired))


def instructions(project: Project) -> GuidelineVersion | None:
    """The newest instructions that raters must read; small corrections since leave them the same."""
    return project.guidelines.filter(must_read=True).order_by("-number").first()


def is_outside(*, user: User, item: int) -> bool:
    """Whether a pair belongs to a comparison in whose pool a person is not; programs are in none and judge them all.

    A decision on the generation changes nothing: it can be taken back, and its comparison must be able to go on then.

    :param item: its number.
    """
    return user.kind == User.Kind.HUMAN and bool(_not_in_pool(user=user.pk, item=item))
