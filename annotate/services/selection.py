"""What a recipe takes of a project: judgement revisions and imported comparisons, and why others are left out.

All of it is SQL, so that a million comparisons are counted, drawn and listed inside the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, TypeVar

from django.db import models
from django.db.models import Count, F, Model, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import MD5, Cast, Coalesce, Concat, Length
from django.utils import timezone

from annotate.models import Comparison, JudgementRevision, Project, Purpose, User
from annotate.services.ondemand import counted_revisions
from annotate.services.recipe import Recipe

Record = TypeVar("Record", bound=Model)
Filters = list[tuple[str, Q]]


@dataclass(frozen=True)
class LeftOut:
    """How many of something did not come in, and why."""

    what: str
    """judgements, comparisons or answers."""
    reason: str
    count: int


@dataclass(frozen=True)
class Selection:
    """What a recipe takes."""

    revisions: QuerySet[JudgementRevision]
    comparisons: QuerySet[Comparison]
    left_out: list[LeftOut]
    by_source: dict[str, int]
    """Entries by source, in the order of their names."""

    def by_split(self) -> dict[str, int]:
        """Entries by split of their prompts."""
        counts: dict[str, int] = {}
        for records, path in ((self.revisions, "judgement__item__prompt__split"), (self.comparisons, "prompt__split")):
            for split, count in records.order_by().values_list(path).annotate(n=Count("pk", distinct=True)):
                counts[split] = counts.get(split, 0) + count
        return counts


def select(project: Project, recipe: Recipe) -> Selection:
    """Find what a recipe takes, and count what it leaves out by the first reason that held."""
    revisions, revision_reasons = _filtered(_revisions(project, recipe), _of_revisions(recipe), "judgements")
    comparisons, comparison_reasons = _filtered(_comparisons(project), _of_comparisons(recipe), "comparisons")
    of_kind = dict(revisions.order_by().values_list("judgement__rater__kind").annotate(n=Count("pk")))
    of_source = dict(comparisons.order_by().values_list("source").annotate(n=Count("pk")))
    caps = _caps(recipe, {**of_source, **of_kind})
    drawn: list[LeftOut] = []
    revisions, of_kind = _drawn(revisions, "judgement__rater__kind", of_kind, caps, recipe.seed, drawn, "judgements")
    comparisons, of_source = _drawn(comparisons, "source", of_source, caps, recipe.seed, drawn, "comparisons")
    return Selection(
        revisions,
        comparisons,
        [*revision_reasons, *comparison_reasons, *drawn],
        {name: of_kind.get(name, 0) + of_source.get(name, 0) for name in sorted({*of_kind, *of_source})},
    )


def sources_of(project: Project) -> list[str]:
    """Under which names pairs were imported."""
    return list(project.comparisons.order_by("source").values_list("source", flat=True).distinct())


def _revisions(project: Project, recipe: Recipe) -> QuerySet[JudgementRevision]:
    raters = (
        counted_revisions(purpose=Purpose.COLLECT, kinds=recipe.kinds)
        .filter(judgement__item=OuterRef("judgement__item"))
        .order_by()
        .values("judgement__item")
        .annotate(n=Count("judgement__rater", distinct=True))
        .values("n")
    )
    counted = counted_revisions(purpose=Purpose.COLLECT, kinds=recipe.kinds).filter(judgement__slot__project=project)
    if recipe.min_raters > 1:
        counted = counted.annotate(raters=Coalesce(Subquery(raters), 0))
    return counted


def _comparisons(project: Project) -> QuerySet[Comparison]:
    return Comparison.objects.filter(project=project)


def _of_revisions(recipe: Recipe) -> Filters:
    filters = [("split", Q(judgement__item__prompt__split__in=recipe.splits))]
    if recipe.tags:
        filters.append(("tags", Q(judgement__item__prompt__tags__overlap=recipe.tags)))
    if recipe.raters:
        filters.append(("raters", Q(judgement__rater__username__in=recipe.raters)))
    if recipe.guideline_from:
        filters.append(("guideline_from", Q(guideline__number__gte=recipe.guideline_from)))
    filters += _dates(recipe)
    if recipe.min_strength is not None:
        filters.append(("min_strength", Q(strength__gte=recipe.min_strength)))
    if recipe.min_raters > 1:
        filters.append(("min_raters", Q(raters__gte=recipe.min_raters)))
    return filters


def _of_comparisons(recipe: Recipe) -> Filters:
    filters = [] if recipe.sources is None else [("sources", Q(source__in=recipe.sources))]
    filters.append(("split", Q(prompt__split__in=recipe.splits)))
    if recipe.tags:
        filters.append(("tags", Q(prompt__tags__overlap=recipe.tags)))
    filters += _dates(recipe)
    if recipe.min_strength is not None:
        filters.append(("min_strength", Q(strength__gte=recipe.min_strength)))
    if recipe.shortest:
        filters.append(("shortest", Q(chosen_length__gte=recipe.shortest, rejected_length__gte=recipe.shortest)))
    if recipe.longest is not None:
        filters.append(("longest", Q(chosen_length__lte=recipe.longest, rejected_length__lte=recipe.longest)))
    return filters


def _dates(recipe: Recipe) -> Filters:
    filters: Filters = []
    if recipe.since:
        filters.append(("since", Q(created_at__gte=_midnight(date.fromisoformat(recipe.since)))))
    if recipe.until:
        filters.append(("until", Q(created_at__lt=_midnight(date.fromisoformat(recipe.until) + timedelta(days=1)))))
    return filters


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time()))


def _filtered(records: QuerySet[Record], filters: Filters, what: str) -> tuple[QuerySet[Record], list[LeftOut]]:
    """The records that pass all filters, and how many each filter was the first to leave out; one query for all."""
    if any(name in ("shortest", "longest") for name, _q in filters):
        records = records.annotate(  # type: ignore[assignment]  # django-stubs tells annotated records apart
            chosen_length=Length("chosen__text"), rejected_length=Length("rejected__text")
        )
    passed = Q()
    counters: dict[str, Any] = {}
    for name, condition in filters:
        counters[f"n_{name}"] = Count("pk", filter=passed or None)
        passed &= condition
    counters["n_passed"] = Count("pk", filter=passed or None)
    counts = list(records.order_by().aggregate(**counters).values())
    left_out = [
        LeftOut(what, name, before - after)
        for (name, _q), before, after in zip(filters, counts[:-1], counts[1:], strict=True)
        if before > after
    ]
    return records.filter(passed), left_out


def _caps(recipe: Recipe, found: dict[str, int]) -> dict[str, int]:
    """Most entries by source; with shares, as many as the scarcest source allows."""
    if not recipe.shares:
        return {name: int(cap) for name, cap in recipe.most.items()}
    whole = min(found.get(name, 0) / share for name, share in recipe.shares.items())
    wanted = {name: round(whole * share) for name, share in recipe.shares.items()}
    return {name: wanted.get(name, 0) for name in found}


def _drawn(
    records: QuerySet[Record],
    path: str,
    found: dict[str, int],
    caps: dict[str, int],
    seed: int,
    left_out: list[LeftOut],
    what: str,
) -> tuple[QuerySet[Record], dict[str, int]]:
    """At most so many records of each source, drawn in the order of md5(seed:id), which anybody can repeat."""
    capped = {name: caps[name] for name, count in found.items() if name in caps and caps[name] < count}
    if not capped:
        return records, found
    wanted = ~Q(**{f"{path}__in": list(capped)})
    draw = MD5(Concat(Value(f"{seed}:"), Cast(F("pk"), models.TextField())))
    for name, cap in capped.items():
        if cap:
            of_source = records.filter(**{path: name}).order_by(draw, "pk").values("pk")[:cap]
            wanted |= Q(pk__in=of_source)
        left_out.append(LeftOut(what, "mix", found[name] - cap))
    return records.filter(wanted), {**found, **capped}


def raters_of(project: Project) -> list[str]:
    """Names of those who judged in a project."""
    judged = User.objects.filter(judgements__slot__project=project)
    return list(judged.order_by("username").values_list("username", flat=True).distinct())
