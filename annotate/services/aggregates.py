"""Statistics that take longer than a page may: a task takes them now and then, and pages show them with their time.

What is quickly taken is taken as one looks. A version of a judgement whose transaction was open while the task looked
may be left out until something else is judged.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models.functions import Now

from annotate.models import Aggregate, Judgement, JudgementRevision, Project, Run, Skip
from annotate.services import agreement, strengths
from annotate.services.standing import due

AT_ONCE = 300
"""Judgements of a project whose statistics are taken as one looks."""

Data = dict[str, Any]

MAKERS: Mapping[Aggregate.Name, Callable[[Project], Data]] = {
    Aggregate.Name.RATERS: agreement.take,
    Aggregate.Name.GENERATIONS: strengths.take,
}


@dataclass(frozen=True)
class Taken:
    """Statistics, as plain values."""

    data: Data
    at: datetime | None
    """When they were taken; None for just now."""


def of(project: Project, name: Aggregate.Name) -> Taken | None:
    """A project's statistics of a name; None where a task has still to take them."""
    stored = project.aggregates.filter(name=name).first()
    if stored is not None:
        return Taken(stored.data, stored.at)
    return None if _is_large(project) else Taken(_taken(project, name), None)


def take_again() -> None:
    """Take every large project's statistics that are old for what taking them costs, if something came since."""
    for name in MAKERS:
        for project in due(Aggregate.objects.filter(name=name)):
            last = project.aggregates.filter(name=name).first()
            if _has_changed(project, last) if last else _is_large(project):
                _store(project, name)


def _is_large(project: Project) -> bool:
    return Judgement.objects.filter(slot__project=project)[AT_ONCE:].exists()


def _has_changed(project: Project, last: Aggregate) -> bool:
    """Whether something was judged or skipped, or a run ended."""
    return (
        JudgementRevision.objects.filter(judgement__slot__project=project, pk__gt=last.through).exists()
        or Skip.objects.filter(slot__project=project, created_at__gt=last.at).exists()
        or Run.objects.filter(project=project, finished_at__gt=last.at).exists()
    )


def _store(project: Project, name: Aggregate.Name) -> None:
    """Put new statistics in the place of the old ones; of two tasks at once the later one's stay."""
    began = time.monotonic()
    at = Project.objects.values_list(Now(), flat=True).get(pk=project.pk)
    through = JudgementRevision.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    data = _taken(project, name)
    values = {"data": data, "through": through, "seconds": time.monotonic() - began, "at": at}
    Aggregate.objects.update_or_create(project=project, name=name, defaults=values)


def _taken(project: Project, name: Aggregate.Name) -> Data:
    """Just now, in the form in which they are stored: keys are text."""
    data: Data = json.loads(json.dumps(MAKERS[name](project)))
    return data
