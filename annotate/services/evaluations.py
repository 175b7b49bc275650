"""Planning blind comparisons: how many prompts, under which instructions, by which people, before the first outcome.

The people are the pool. Whoever is not in it gets no items of the comparison, whatever becomes of the generation; no
result is shown to whoever is in it before the planned number is in (:mod:`annotate.services.comparison`). As long as
nothing is judged, a plan can be stated anew; from then on more prompts can be drawn, and the rest stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Now
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
from annotate.services import Refused, audit, items

PLANNED_BY_ITSELF = 300
"""Test prompts that are planned where nobody says how many, and there are so many."""

_not_in_pool = Prepared(
    lambda user, item: Evaluation.objects.filter(items=item).exclude(
        Exists(EvaluationRater.objects.filter(evaluation=OuterRef("pk"), rater=user))
    )
)


@dataclass(frozen=True)
class Terms:
    """What is stated of the comparison that evaluating a generation would go on with, and what can still be stated."""

    evaluation: Evaluation | None
    """None where another one would be planned."""
    drawn: int
    left: int
    """Test prompts that have not been drawn."""
    begun: bool
    """Whether something is judged, so that number and people stay."""
    pool: list[User]
    """By name."""
    deserted: bool
    """Whether nobody of the pool is left in the project."""


def terms(newer: Generation) -> Terms:
    """What can be stated of the comparison of a generation with its parent.

    A plan of which nothing is judged moves to the instructions that must be read by now; where something is, that is
    another comparison.
    """
    project = newer.project
    found = newer.evaluations.filter(older=newer.parent).last()
    begun = found is not None and Judgement.objects.filter(item__evaluation=found).exists()
    if begun and found is not None and found.guideline != instructions(project):
        found, begun = None, False
    pool = list(User.objects.filter(pk__in=found.pool.values("rater")).order_by("username")) if found else []
    present = project.memberships.filter(user__in=pool, user__is_active=True)
    return Terms(
        evaluation=found,
        drawn=found.items.count() if found else 0,
        left=undrawn(newer).count(),
        begun=begun,
        pool=pool,
        deserted=found is not None and not present.exists(),
    )


def plan(
    *, newer: Generation, number: int | None, leads_rate: bool | None, actor: User | None, begun: bool | None = None
) -> int:
    """State the comparison of a generation with its parent, or draw more prompts where something of it is judged.

    Pairs that were drawn beyond a number that is stated anew are withdrawn, but for those that somebody has been given.

    :param number: of test prompts to compare, or, where something is judged, to draw beside those that are there. When
        None, what is stated; where nothing is, what was asked for when the generation was made, or up to
        ``PLANNED_BY_ITSELF``.
    :param leads_rate: whether leads are in the pool, which they always are where there are no raters; when None, as is
        stated, or was asked for.
    :param begun: whether something was judged when this was asked for, which says what the number means; None where it
        means whatever it does now.
    :returns: how many prompts to draw.
    :raises Refused: when there are fewer test prompts, or leads are wanted in a pool that stays, or raters have begun
        meanwhile.
    """
    with transaction.atomic():
        Generation.objects.select_for_update().get(pk=newer.pk)
        now = terms(newer)
        if begun not in (None, now.begun):
            raise Refused(
                _("What can be stated of this comparison has changed meanwhile: open the form again."), place="planned"
            )
        most = now.left if now.begun else now.drawn + now.left
        if number is not None and number > most:
            raise Refused(
                _("Only %(count)d test prompts are left to compare these generations on.") % {"count": most},
                place="planned",
            )
        if now.begun:
            return _go_on(now, number, leads_rate, actor)
        return _state(newer, now, number, leads_rate, actor)


def _state(newer: Generation, now: Terms, number: int | None, leads_rate: bool | None, actor: User | None) -> int:
    """State number, people and instructions, of which nothing is known yet."""
    asked: dict[str, Any] = newer.run.selection if newer.run else {}
    if number is None:
        wanted = now.evaluation.planned if now.evaluation else asked.get("planned") or PLANNED_BY_ITSELF
        number = min(now.drawn + now.left, wanted)
    if not number:
        return 0
    project = newer.project
    evaluation = now.evaluation or Evaluation(project=project, newer=newer, older=newer.parent, created_by=actor)
    before = (now.evaluation and now.evaluation.planned, now.pool, evaluation.guideline)
    evaluation.planned, evaluation.guideline, evaluation.completed_at = number, instructions(project), None
    pool = now.pool
    if leads_rate is not None or not pool or now.deserted:
        wish = asked.get("leads_rate", False) if leads_rate is None else leads_rate
        pool = list(pool_of(project, leads_rate=wish).order_by("username"))
    evaluation.save()
    if pool != now.pool:
        evaluation.pool.all().delete()
        EvaluationRater.objects.bulk_create(EvaluationRater(evaluation=evaluation, rater=rater) for rater in pool)
    if before != (number, pool, evaluation.guideline):
        raters = [rater.username for rater in pool]
        audit.record("planned", evaluation, actor=actor, project=project, planned=number, raters=raters)
    items.withdraw_pairs(evaluation=evaluation, keep=number)
    items.fit_pairs(evaluation=evaluation)
    return max(number - evaluation.items.count(), 0)


def _go_on(now: Terms, number: int | None, leads_rate: bool | None, actor: User | None) -> int:
    """Draw more prompts; where nobody of the pool is left, others come to it."""
    evaluation = now.evaluation
    assert evaluation is not None
    if now.deserted:
        added = list(pool_of(evaluation.project, leads_rate=bool(leads_rate)).order_by("username"))
        EvaluationRater.objects.bulk_create(
            EvaluationRater(evaluation=evaluation, rater=rater, added_at=Now()) for rater in added
        )
        raters = [rater.username for rater in added]
        audit.record("added raters", evaluation, actor=actor, project=evaluation.project, raters=raters)
    elif leads_rate:
        people = pool_of(evaluation.project, leads_rate=True).exclude(pk__in=[rater.pk for rater in now.pool])
        late = people.filter(memberships__project=evaluation.project, memberships__role=Membership.Role.LEAD)
        if names := ", ".join(late.order_by("username").values_list("username", flat=True)):
            raise Refused(
                _("Something of this comparison is judged, so that its raters stay as stated, without %(names)s.")
                % {"names": names},
                place="leads_rate",
            )
    return min(now.left, max(evaluation.planned - now.drawn, 0)) if number is None else number


def judged_by(newer: Generation) -> set[str]:
    """The kinds of raters that have compared a generation with its parent."""
    judged = Judgement.objects.filter(item__evaluation__newer=newer)
    return set(judged.values_list("rater__kind", flat=True).distinct())


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
