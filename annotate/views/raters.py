"""How raters agree and how each fares, for leads; the same of oneself, for each rater."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from annotate.access import LEAD, SignedInRequest, get_project
from annotate.models import Aggregate, Project, User
from annotate.services import aggregates, agreement
from annotate.stats.estimate import Estimate, Undefined, from_plain
from annotate.stats.resampling import LEAST_RATERS
from annotate.views.asked import asked
from annotate.views.awaited import statistics_or_page
from annotate.views.statistics_words import why
from annotate.views.whose import kind_shown


@dataclass(frozen=True)
class Cell:
    """A figure with its interval and n, or why there is none."""

    found: Estimate | Undefined

    @property
    def missing(self) -> str:
        """Why there is no figure; empty where there is one."""
        return why(self.found)


@dataclass(frozen=True)
class Row:
    """A rater."""

    rater: User
    judged: int
    agreement: Cell
    reliability: Cell
    position_bias: Cell
    active_ms: Cell
    drift: Cell
    favours_a_place: bool
    has_changed: bool


@require_GET
def raters(request: SignedInRequest, slug: str) -> HttpResponse:
    """The page; ``?kind=`` chooses whose judgements count, ``?instructions=`` under which version."""
    project = get_project(request, slug, role=LEAD)
    taken = statistics_or_page(request, project, Aggregate.Name.RATERS, _("How raters agree"))
    if isinstance(taken, HttpResponse):
        return taken
    chosen = asked(request, "instructions")
    kind = kind_shown(request, taken.data)
    of_kind = taken.data.get(kind)
    context: dict[str, Any] = {
        "project": project,
        "tab": "quality",
        "kind": kind,
        "kinds": User.Kind.choices,
        "at": taken.at,
        "newest": None if of_kind is None or of_kind["all"] else agreement.NEWEST,
    }
    if of_kind is not None:
        version = _version(of_kind["versions"], chosen["instructions"])
        found = of_kind["versions"][version]
        context |= {
            "version": version,
            "apart": [(v, f["judgements"]) for v, f in sorted(of_kind["versions"].items()) if v != version],
            "judgements": found["judgements"],
            "alike": _cell(found["alike"]),
            "beyond_chance": _cell(found["beyond_chance"]),
            "criteria": _criteria(project, found["criteria"]),
            "rows": _rows(found["raters"]),
            "few_raters": 1 < len(found["raters"]) < LEAST_RATERS,
        }
    return render(request, "quality/raters.html", context)


@dataclass(frozen=True)
class OwnRow:
    """A rater's own figures beside others."""

    row: Row | None
    """None while a task has still to take them."""
    version: str
    """Of the instructions that had to be read, under which they judged; "0" where there is none."""
    at: datetime | None
    """When they were taken; None for just now."""


def own_row(user: User, project: Project) -> OwnRow | None:
    """How a rater fares under the newest instructions that they judged under; None where there is nothing to say."""
    taken = aggregates.of(project, Aggregate.Name.RATERS)
    if taken is None:
        return OwnRow(None, "0", None)
    of_kind = taken.data.get(user.kind)
    if of_kind is None:
        return None
    theirs = {v: found for v, found in of_kind["versions"].items() if str(user.pk) in found["raters"]}
    if not theirs:
        return None
    version = _version(theirs)
    return OwnRow(_row(user, theirs[version]["raters"][str(user.pk)]), version, taken.at)


def _version(versions: Mapping[str, Any], chosen: str = "") -> str:
    """The version that was asked for, or the newest."""
    return chosen if chosen in versions else max(versions, key=int)


def _cell(plain: dict[str, Any]) -> Cell:
    return Cell(from_plain(plain))


def _criteria(project: Project, found: dict[str, Any]) -> list[tuple[str, Cell]]:
    language = get_language() or "en"
    return [
        (criterion.in_language("name", language), _cell(found[str(criterion.pk)]))
        for criterion in project.criteria.order_by("position")
        if str(criterion.pk) in found
    ]


def _rows(found: dict[str, Any]) -> list[Row]:
    people = User.objects.in_bulk([int(pk) for pk in found])
    return [_row(person, found[str(person.pk)]) for person in sorted(people.values(), key=lambda p: p.username)]


def _row(rater: User, found: dict[str, Any]) -> Row:
    cells = {name: _cell(plain) for name, plain in found.items() if isinstance(plain, dict)}
    # Rows that were stored before there were marks have none.
    place, change = (bool(found.get(name)) for name in ("favours_a_place", "has_changed"))
    return Row(rater=rater, judged=found["judged"], favours_a_place=place, has_changed=change, **cells)
