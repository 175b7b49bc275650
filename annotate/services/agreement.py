"""How far a project's raters agree, and how each fares, for the page of leads and for each rater's own.

Every judgement of an item that counts is taken as what it says of each pair of answers. People, simulated raters and AI
judges are never measured together, nor are judgements under different instructions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from django.db.models import Sum

from annotate.models import Judgement, JudgementRevision, Project, Purpose, User
from annotate.services.figures import current
from annotate.services.guidelines import to_be_read, version_in_force
from annotate.services.places import places
from annotate.stats.coefficients import krippendorff_alpha
from annotate.stats.estimate import Estimate, Undefined, to_plain
from annotate.stats.intervals import share_interval
from annotate.stats.raters import Choices, agreement_by_criterion, agreement_with_others, rater_table

NEWEST = 5_000
"""Judgements of one kind of raters that are looked at: the newest."""
TIE = 1
"""What a pair's outcome is where neither answer wins: 0 where the older does, 2 where the newer one."""


def take(project: Project) -> dict[str, Any]:
    """By kind of raters whether all judgements were looked at, and by the version of the instructions what came of it.

    The version is that which raters had to read; 0 where there was none.
    """
    versions = to_be_read(project)
    found = {}
    for kind in User.Kind.values:
        by_version: dict[int, list[JudgementRevision]] = defaultdict(list)
        revisions = _newest(project, kind)
        for revision in revisions:
            by_version[version_in_force(revision.guideline, versions)].append(revision)
        if revisions:
            found[kind] = {
                "all": len(revisions) < NEWEST,
                "versions": {str(version): _of(of_version) for version, of_version in by_version.items()},
            }
    return found


def _newest(project: Project, kind: str) -> list[JudgementRevision]:
    """In the order in which they were first given."""
    judged = Judgement.objects.filter(
        slot__project=project, slot__purpose__in=[Purpose.COLLECT, Purpose.EVALUATE], rater__kind=kind
    )
    numbers = list(judged.order_by("-pk").values_list("pk", flat=True)[:NEWEST])
    found = current(project).filter(judgement__in=numbers).select_related("judgement__item", "guideline")
    return list(found.prefetch_related("ranks", "scores").order_by("judgement_id"))


def _of(revisions: Sequence[JudgementRevision]) -> dict[str, Any]:
    people = sorted({revision.judgement.rater_id for revision in revisions})
    number = {rater: place for place, rater in enumerate(people)}
    choices = _choices(revisions, number)
    prompt_of = {revision.judgement.item_id: revision.judgement.item.prompt_id for revision in revisions}
    beyond_chance = krippendorff_alpha(
        choices.pairs,
        choices.raters,
        np.asarray(choices.outcomes, dtype=np.float64),
        "ordinal",
        middle=TIE,
        prompts=[prompt_of[item] for item in np.asarray(choices.items).tolist()],
    )
    rows = rater_table(choices, active_ms=_at_work(revisions, number))
    return {
        "judgements": len(revisions),
        "alike": to_plain(_alike(choices, otherwise=beyond_chance)),
        "beyond_chance": to_plain(beyond_chance),
        "criteria": {criterion: to_plain(alpha) for criterion, alpha in _by_criterion(revisions).items()},
        "raters": {
            rater: {name: value if isinstance(value, int) else to_plain(value) for name, value in vars(row).items()}
            for rater, row in zip(people, rows, strict=True)
        },
    }


def _at_work(revisions: Iterable[JudgementRevision], number: dict[int, int]) -> list[list[int]]:
    """Of each rater, by their number, the milliseconds at work on all versions of each judgement."""
    judged = [revision.judgement_id for revision in revisions]
    versions = JudgementRevision.objects.filter(judgement__in=judged).order_by()
    found: list[list[int]] = [[] for _rater in number]
    for rater, _judgement, ms in versions.values_list("judgement__rater", "judgement").annotate(Sum("active_ms")):
        found[number[rater]].append(ms)
    return found


def _choices(revisions: Iterable[JudgementRevision], number: dict[int, int]) -> Choices:
    """What each judgement says of each pair of the answers that it puts in places, the older answer first.

    :param number: of each rater.
    """
    names: dict[tuple[int, int, int], int] = {}
    rows = []
    for revision in revisions:
        item, rater, shown = revision.judgement.item_id, revision.judgement.rater_id, revision.order_shown
        found = places(revision)
        if not found and revision.both_bad:
            found = dict.fromkeys(shown, 1)
        for first, second in combinations(sorted(found), 2):
            pair = names.setdefault((item, first, second), len(names))
            outcome = TIE + int(np.sign(found[first] - found[second]))
            shown_first = 0 if shown.index(first) < shown.index(second) else 2
            rows.append((pair, number[rater], outcome, shown_first, item))
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _n in range(5)]
    return Choices(*columns[:4], items=np.array(columns[4], dtype=np.int64))


def _alike(choices: Choices, *, otherwise: Estimate | Undefined) -> Estimate | Undefined:
    """Mean share of pairs on which two raters of an item say the same, half where only one of them ties, over items.

    :param otherwise: what says why no two judged the same.
    """
    alike = agreement_with_others(choices.pairs, choices.outcomes)
    known = ~np.isnan(alike)
    if not known.any():
        return otherwise
    by_item: dict[int, list[float]] = defaultdict(list)
    for item, value in zip(np.asarray(choices.items)[known].tolist(), alike[known].tolist(), strict=True):
        by_item[item].append(value)
    return share_interval([sum(values) / len(values) for values in by_item.values()])


def _by_criterion(revisions: Iterable[JudgementRevision]) -> dict[int, Estimate | Undefined]:
    """Of an answer that a rater scored in several items, such as one of each comparison of generations, the last."""
    latest = {
        (score.criterion_id, score.completion_id, revision.judgement.rater_id): (
            score.value,
            revision.judgement.item.prompt_id,
        )
        for revision in revisions
        for score in revision.scores.all()
    }
    if not latest:
        return {}
    criteria, answers, raters = zip(*latest, strict=True)
    scores, prompts = zip(*latest.values(), strict=True)
    return agreement_by_criterion(criteria, answers, raters, scores, prompts=prompts)
