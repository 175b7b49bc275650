"""How raters fare, in figures: each for themselves, and all for the leads.

Every mean comes with the number of items that it is over and an interval. Two judgements are compared only where they
were given under the same instructions; small corrections, which nobody has to read, change nothing. Agreement with
others is taken over the newest shared items only, so that the page of a large project opens as fast as that of a small
one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import combinations

from django.db.models import Avg, Count, QuerySet, Sum
from django.db.models.functions import Now

from annotate.models import Check, Item, Judgement, JudgementRevision, Membership, Project, Purpose, User
from annotate.services import checks, figures, places, qualification
from annotate.services.figures import Figures, Median, Share
from annotate.services.guidelines import to_be_read, version_in_force
from annotate.services.qualification import Trial

WEEK = timedelta(days=7)
SHARED = 300
"""Items judged by several people that agreement between raters is taken over."""


@dataclass(frozen=True)
class Own:
    """What a rater sees of their own work in a project."""

    judged: int
    this_week: int
    median_ms: float | None
    with_self: Share
    repeats_apart: int
    """Repeats that are left out of it, because the instructions had changed."""
    with_gold: Share
    """Over gold items that were revealed."""


@dataclass(frozen=True)
class Row:
    """A member as leads see their work."""

    membership: Membership
    figures: Figures
    with_others: Share
    """n counts items."""
    trial: Trial | None
    """Where they stand in the qualification, if they need it."""


@dataclass(frozen=True)
class Table:
    """The members of a project, by name."""

    rows: list[Row]
    at: datetime | None
    """When their figures were taken; None for just now."""
    instructions: int
    """Versions of the instructions that raters had to read."""
    apart: int
    """Shared items of which some judgements are not compared, because they were given under other instructions."""


@dataclass(frozen=True)
class SharedItem:
    """An item that several people judged."""

    item: Item
    revisions: list[JudgementRevision] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    """Of the instructions, under which each was given: those in force."""

    @property
    def is_mixed(self) -> bool:
        """Whether its judgements were given under different instructions."""
        return len(set(self.versions)) > 1

    @property
    def disagreement(self) -> float | None:
        """Of its judgements; None where they cannot be compared."""
        return places.disagreement(self.revisions)


def own(*, user: User, project: Project) -> Own:
    """A rater's own view."""
    judged = Judgement.objects.filter(rater=user, slot__project=project)
    return Own(
        judged=judged.count(),
        this_week=judged.filter(created_at__gte=Now() - WEEK).count(),
        median_ms=judged.annotate(ms=Sum("revisions__active_ms")).aggregate(median=Median("ms"))["median"],
        with_self=_share(checks.repeats(judged)),
        repeats_apart=checks.repeats(judged, same_instructions=False).count(),
        with_gold=_share(checks.revealed_gold(user=user, project=project).filter(checks.COUNTING)),
    )


def table(project: Project, shared: Sequence[SharedItem]) -> Table:
    """Every person of a project with their figures.

    :param shared: as :func:`shared_items` gives them.
    """
    measured = figures.of(project)
    others = _with_others(shared)
    people = project.memberships.filter(user__kind=User.Kind.HUMAN).select_related("user").order_by("user__username")
    rows = [
        Row(
            membership=member,
            figures=measured.by_rater.get(member.user_id, Figures()),
            with_others=others.get(member.user_id, Share(None, 0)),
            trial=_trial(member, project),
        )
        for member in people
    ]
    apart = sum(item.is_mixed for item in shared)
    return Table(rows, measured.at, instructions=len(to_be_read(project)), apart=apart)


def shared_items(project: Project) -> list[SharedItem]:
    """The newest items that at least two people judged, with their judgements that count, the newest first."""
    second = Judgement.objects.filter(slot__project=project, slot__number=1, slot__purpose=Purpose.COLLECT)
    newest = list(second.order_by("-pk").values_list("item", flat=True)[:SHARED])
    items = Item.objects.select_related("prompt", "project").in_bulk(newest)
    found = {pk: SharedItem(items[pk]) for pk in newest}
    versions = to_be_read(project)
    revisions = figures.current(project).filter(
        judgement__item__in=newest, judgement__slot__number__isnull=False, judgement__rater__kind=User.Kind.HUMAN
    )
    related = revisions.select_related("judgement__rater").prefetch_related("guideline", "ranks", "scores")
    for revision in related.order_by("judgement_id"):
        item = found[revision.judgement.item_id]
        item.revisions.append(revision)
        item.versions.append(version_in_force(revision.guideline, versions))
    return [each for each in found.values() if len(each.revisions) > 1]


def _with_others(shared: Iterable[SharedItem]) -> dict[int, Share]:
    """Each rater's mean agreement with each other one under the same instructions on each item, over the items."""
    by_rater: dict[int, list[float]] = defaultdict(list)
    for item in shared:
        on_item: dict[int, list[float]] = defaultdict(list)
        for (first, version), (second, other) in combinations(zip(item.revisions, item.versions, strict=True), 2):
            if version != other:
                continue
            found = places.agreement(first, second)
            if found is not None:
                on_item[first.judgement.rater_id].append(found)
                on_item[second.judgement.rater_id].append(found)
        for rater, values in on_item.items():
            by_rater[rater].append(sum(values) / len(values))
    return {rater: Share(sum(values) / len(values), len(values)) for rater, values in by_rater.items()}


def _share(found: QuerySet[Check]) -> Share:
    return Share(**found.aggregate(mean=Avg("agreement"), n=Count("judgement__item", distinct=True)))


def _trial(member: Membership, project: Project) -> Trial | None:
    if member.role != Membership.Role.RATER or member.qualified_at is not None:
        return None
    return qualification.trial_of(member, project)
