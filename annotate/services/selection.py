"""What a recipe takes of a project, of what was judged and what was imported, and why the rest is left out.

All of it is SQL, so that a million comparisons are counted, drawn and listed inside the database.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import partial
from typing import Any, TypeVar

from django.db import models
from django.db.models import Count, F, Max, Min, Model, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import MD5, Cast, Coalesce, Concat, Length
from django.db.models.lookups import GreaterThanOrEqual, LessThanOrEqual
from django.utils import timezone

from annotate.models import (
    Comparison,
    Demonstration,
    JudgementRevision,
    Project,
    RankedAnswer,
    RankedList,
    User,
)
from annotate.services.ondemand import counted_revisions
from annotate.services.recipe import Recipe

Record = TypeVar("Record", bound=Model)
Filters = list[tuple[str, Q]]
RATER_KIND = "judgement__rater__kind"


@dataclass(frozen=True)
class LeftOut:
    """How many of something did not come in, and why."""

    what: str
    """judgements, comparisons, rankings, demonstrations or answers."""
    reason: str
    count: int


@dataclass(frozen=True)
class Selection:
    """What a recipe takes."""

    revisions: QuerySet[JudgementRevision]
    comparisons: QuerySet[Comparison]
    ranked_lists: QuerySet[RankedList]
    demonstrations: QuerySet[Demonstration]
    left_out: list[LeftOut]
    by_source: dict[str, int]
    """Entries by source, in the order of their names."""

    def by_split(self) -> dict[str, int]:
        """Entries by split of their prompts."""
        counts: dict[str, int] = {}
        for records, path in (
            (self.revisions, "judgement__item__prompt__split"),
            (self.comparisons, "prompt__split"),
            (self.ranked_lists, "prompt__split"),
            (self.demonstrations, "completion__prompt__split"),
        ):
            for split, count in records.order_by().values_list(path).annotate(n=Count("pk", distinct=True)):
                counts[split] = counts.get(split, 0) + count
        return counts


def select(project: Project, recipe: Recipe) -> Selection:
    """Find what a recipe takes, and count what it leaves out by the first reason that held.

    Where a source has several kinds of records, a mix takes its comparisons first, then rankings, then demonstrations.
    """
    left_out: list[LeftOut] = []
    keep = partial(_kept, left_out=left_out)
    shown = project.demonstrations.all() if recipe.demonstrations else project.demonstrations.none()
    revisions, of_kind = keep(_revisions(project, recipe), _of_revisions(recipe), "judgements", RATER_KIND)
    comparisons, compared = keep(project.comparisons.all(), _of_comparisons(recipe), "comparisons", "source")
    ranked_lists, ranked = keep(_ranked_lists(project, recipe), _of_ranked_lists(recipe), "rankings", "source")
    demonstrations, demonstrated = keep(shown, _of_demonstrations(recipe), "demonstrations", "source")
    taken: Counter[str] = Counter()
    caps = _caps(recipe, of_kind + compared + ranked + demonstrated)
    draw = partial(_drawn, caps=caps, taken=taken, seed=recipe.seed, left_out=left_out)
    return Selection(
        draw(revisions, of_kind, "judgements", RATER_KIND),
        draw(comparisons, compared, "comparisons", "source"),
        draw(ranked_lists, ranked, "rankings", "source"),
        draw(demonstrations, demonstrated, "demonstrations", "source"),
        left_out,
        dict(sorted(taken.items())),
    )


def sources_of(project: Project) -> list[str]:
    """Under which names data were imported."""
    imported = (project.comparisons, project.ranked_lists, project.demonstrations)
    return sorted({name for records in imported for name in records.values_list("source", flat=True).distinct()})


def _revisions(project: Project, recipe: Recipe) -> QuerySet[JudgementRevision]:
    raters = (
        counted_revisions(kinds=recipe.kinds)
        .filter(judgement__item=OuterRef("judgement__item"))
        .order_by()
        .values("judgement__item")
        .annotate(n=Count("judgement__rater", distinct=True))
        .values("n")
    )
    counted = counted_revisions(kinds=recipe.kinds).filter(judgement__slot__project=project)
    if recipe.min_raters > 1:
        counted = counted.annotate(raters=Coalesce(Subquery(raters), 0))
    return counted


def _ranked_lists(project: Project, recipe: Recipe) -> QuerySet[RankedList]:
    if recipe.min_strength is None:
        return project.ranked_lists.all()
    answers = RankedAnswer.objects.filter(ranked_list=OuterRef("pk")).order_by().values("ranked_list")
    gap = answers.annotate(gap=Max("score") - Min("score")).values("gap")
    return project.ranked_lists.annotate(gap=Subquery(gap))


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
    filters = _of_imported(recipe, "prompt")
    if recipe.min_strength is not None:
        filters.append(("min_strength", Q(strength__gte=recipe.min_strength)))
    return filters + _lengths(recipe, "chosen__text", "rejected__text")


def _of_ranked_lists(recipe: Recipe) -> Filters:
    filters = _of_imported(recipe, "prompt")
    if recipe.min_strength is not None:
        strong = Q(strength__gte=recipe.min_strength) | Q(gap__gte=recipe.min_strength)
        filters.append(("min_strength", strong))
    return filters


def _of_demonstrations(recipe: Recipe) -> Filters:
    return _of_imported(recipe, "completion__prompt") + _lengths(recipe, "completion__text")


def _of_imported(recipe: Recipe, prompt: str) -> Filters:
    filters = [] if recipe.sources is None else [("sources", Q(source__in=recipe.sources))]
    filters.append(("split", Q(**{f"{prompt}__split__in": recipe.splits})))
    if recipe.tags:
        filters.append(("tags", Q(**{f"{prompt}__tags__overlap": recipe.tags})))
    return filters + _dates(recipe)


def _lengths(recipe: Recipe, *texts: str) -> Filters:
    filters: Filters = []
    for name, fits, wanted in (
        ("shortest", GreaterThanOrEqual, recipe.shortest or None),
        ("longest", LessThanOrEqual, recipe.longest),
    ):
        if wanted is not None:
            filters.append((name, Q(*(fits(Length(text), wanted) for text in texts))))
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


def _caps(recipe: Recipe, found: Counter[str]) -> dict[str, int]:
    """Most entries by source; with shares, as many as the scarcest source allows."""
    if not recipe.shares:
        return {name: int(cap) for name, cap in recipe.most.items()}
    whole = min(found[name] / share for name, share in recipe.shares.items())
    wanted = {name: round(whole * share) for name, share in recipe.shares.items()}
    return {name: wanted.get(name, 0) for name in found}


def _kept(
    records: QuerySet[Record], filters: Filters, what: str, path: str, left_out: list[LeftOut]
) -> tuple[QuerySet[Record], Counter[str]]:
    """The records that pass all filters; one query counts what each filter was the first to leave out.

    :param what: the records are called where they are counted.
    :param path: of the column that names a record's source.
    :returns: beside the records how many there are of each source.
    """
    passed = Q()
    counters: dict[str, Any] = {}
    for name, condition in filters:
        counters[f"n_{name}"] = Count("pk", filter=passed or None)
        passed &= condition
    counters["n_passed"] = Count("pk", filter=passed or None)
    counts = list(records.order_by().aggregate(**counters).values())
    for (name, _q), before, after in zip(filters, counts[:-1], counts[1:], strict=True):
        if before > after:
            left_out.append(LeftOut(what, name, before - after))
    kept = records.filter(passed)
    return kept, Counter(dict(kept.order_by().values_list(path).annotate(n=Count("pk"))))


def _drawn(
    records: QuerySet[Record],
    found: Counter[str],
    what: str,
    path: str,
    *,
    caps: dict[str, int],
    taken: Counter[str],
    seed: int,
    left_out: list[LeftOut],
) -> QuerySet[Record]:
    """At most so many records of each source, drawn in the order of md5(seed:id), which anybody can repeat.

    :param taken: how many of each source were drawn before; those drawn here are added.
    """
    room = {name: min(count, caps.get(name, count + taken[name]) - taken[name]) for name, count in found.items()}
    taken.update(room)
    capped = {name: most for name, most in room.items() if most < found[name]}
    if not capped:
        return records
    wanted = ~Q(**{f"{path}__in": list(capped)})
    draw = MD5(Concat(Value(f"{seed}:"), Cast(F("pk"), models.TextField())))
    for name, most in capped.items():
        if most:
            of_source = records.filter(**{path: name}).order_by(draw, "pk").values("pk")[:most]
            wanted |= Q(pk__in=of_source)
        left_out.append(LeftOut(what, "mix", found[name] - most))
    return records.filter(wanted)


def raters_of(project: Project) -> list[str]:
    """Names of those who judged in a project."""
    judged = User.objects.filter(judgements__slot__project=project)
    return list(judged.order_by("username").values_list("username", flat=True).distinct())
