"""How all generations of a project compare: strengths from blind comparisons, and what was measured of each alone.

People, simulated raters and AI judges are never measured together, nor are judgements under different instructions.
Whoever judges in a comparison that is under way sees the statistics without any that is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, OuterRef, Q

from annotate.models import EvaluationRater, JudgementRevision, Project, User
from annotate.services import alone
from annotate.services.comparison import compare
from annotate.services.guidelines import to_be_read, version_in_force
from annotate.services.measure import last_kl, outcome_of, votes
from annotate.stats.estimate import Estimate, Undefined, from_plain, to_plain
from annotate.stats.generations import generation_table

Value = Estimate | Undefined
Plain = dict[str, Any]


@dataclass(frozen=True)
class Compared:
    """Blind comparisons of generations by raters of one kind, under the same instructions."""

    numbers: list[int]
    """Of the generations: those that were compared, and 0."""
    strengths: list[Value] | Undefined
    """In points of 400·log10 above generation 0."""
    win_rates: list[list[Value]]
    """The row's against the column's; n counts prompts."""
    scores: dict[int, dict[int, Value]]
    """Mean scores by the numbers of criterion and generation."""
    judgements: int
    raters: int
    instructions: int
    """Version that its raters had to read; 0 where there is none."""
    judged_under: dict[int, int]
    """Judgements by the instructions under which they were given."""
    hidden: int
    """Comparisons that are under way, whose result the viewer must not see."""


def take(project: Project) -> Plain:
    """Compare the generations by the judgements of each kind of raters, and measure each alone."""
    under_way = _under_way(project)
    return {
        "under_way": under_way,
        "kinds": {
            kind: {"whole": _by_version(project, kind, []), "without": _by_version(project, kind, under_way)}
            if under_way
            else {"whole": _by_version(project, kind, [])}
            for kind in User.Kind.values
        },
        "alone": _alone(project),
    }


def judged_by(data: Plain) -> set[str]:
    """The kinds of raters that have compared generations."""
    return {
        kind
        for kind, found in data["kinds"].items()
        if any(of_version["judgements"] for of_version in found["whole"].values())
    }


def compared(data: Plain, *, kind: str, viewer: User, instructions: int | None = None) -> Compared:
    """What may be shown to somebody of what :func:`take` found.

    :param kind: whose judgements count.
    :param instructions: version under which they were given; the newest with judgements when None.
    """
    of_kind = data["kinds"][kind]
    judges = EvaluationRater.objects.filter(evaluation__in=data["under_way"], rater=viewer)
    hides = "without" in of_kind and judges.exists()
    by_version = {int(v): found for v, found in of_kind["without" if hides else "whole"].items()}
    counts = {version: found["judgements"] for version, found in by_version.items() if found["judgements"]}
    if instructions not in counts:
        instructions = max(counts or by_version)
    found = by_version[instructions]
    strengths = found["strengths"]
    return Compared(
        numbers=found["numbers"],
        strengths=_undefined(strengths) if "reason" in strengths else [from_plain(m) for m in strengths["models"]],
        win_rates=[[from_plain(cell) for cell in row] for row in found["win_rates"]],
        scores={int(of): by_number(cells) for of, cells in found["scores"].items()},
        judgements=found["judgements"],
        raters=found["raters"],
        instructions=instructions,
        judged_under=counts,
        hidden=len(data["under_way"]) if hides else 0,
    )


def by_number(cells: Mapping[str, Plain]) -> dict[int, Value]:
    """Values by the number of the generation."""
    return {int(number): from_plain(cell) for number, cell in cells.items()}


def _undefined(plain: Plain) -> Undefined:
    found = from_plain(plain)
    assert isinstance(found, Undefined)
    return found


def _under_way(project: Project) -> list[int]:
    """Comparisons whose prompts are not all in."""
    planned = project.evaluations.select_related("guideline")
    return [evaluation.pk for evaluation in planned if not compare(evaluation).is_over]


def _by_version(project: Project, kind: str, hidden: Sequence[int]) -> Plain:
    versions = to_be_read(project)
    revisions: dict[int, list[JudgementRevision]] = defaultdict(list)
    for revision in _revisions(project, kind, hidden):
        revisions[version_in_force(revision.guideline, versions)].append(revision)
    return {
        str(version): {
            **_compare(of_version),
            "scores": {
                of: _plain(cells)
                for of, cells in alone.scores(project, kind=kind, instructions=version, hidden=hidden).items()
            },
        }
        for version, of_version in (revisions or {max(versions, default=0): []}).items()
    }


def _compare(revisions: Sequence[JudgementRevision]) -> Plain:
    first, second, outcomes, prompts, raters = _comparisons(revisions)
    numbers = sorted({0, *first, *second})
    place = {number: n for n, number in enumerate(numbers)}
    found = generation_table(
        [place[number] for number in first],
        [place[number] for number in second],
        outcomes,
        generations=len(numbers),
        prompts=prompts,
        raters=raters,
    )
    ladder = found.strengths
    return {
        "numbers": numbers,
        "strengths": to_plain(ladder)
        if isinstance(ladder, Undefined)
        else {"models": [to_plain(model) for model in ladder.models]},
        "win_rates": [[to_plain(cell) for cell in row] for row in found.win_rates],
        "judgements": len(first),
        "raters": len(set(raters)),
        "scores": {},
    }


def _alone(project: Project) -> Plain:
    """Beside scores, which are somebody's."""
    model, rewards = alone.rewards(project)
    kls = {generation.number: last_kl(generation) for generation in project.generations.all()}
    return {
        "reward_model": model,
        "rewards": _plain(rewards),
        "perplexities": _plain(alone.perplexities(project)),
        "metrics": {
            number: {name: to_plain(value) for name, value in found.items()}
            for number, found in alone.task_metrics(project).items()
        },
        "kls": _plain({number: kl for number, kl in kls.items() if kl is not None}),
    }


def _plain(cells: Mapping[int, Value]) -> dict[int, Plain]:
    return {number: to_plain(value) for number, value in cells.items()}


def _revisions(project: Project, kind: str, hidden: Sequence[int]) -> list[JudgementRevision]:
    found = (
        votes(kinds=(kind,)).filter(judgement__slot__project=project).exclude(judgement__item__evaluation__in=hidden)
    )
    if kind == User.Kind.HUMAN:
        of_pool = EvaluationRater.objects.filter(
            evaluation=OuterRef("judgement__item__evaluation"), rater=OuterRef("judgement__rater")
        )
        found = found.filter(Q(judgement__item__evaluation__isnull=True) | Exists(of_pool))
    related = ("judgement__item", "guideline")
    return list(found.select_related(*related).prefetch_related("judgement__item__completions__generation", "ranks"))


def _comparisons(
    revisions: Sequence[JudgementRevision],
) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """Newer, older, who won as 0, 1 or 2, prompt and rater of each."""
    rows = []
    for revision in revisions:
        pair = {c.generation for c in revision.judgement.item.completions.all() if c.generation}
        if len(pair) != 2:
            continue
        older, newer = sorted(pair, key=lambda generation: generation.number)
        outcome = outcome_of(revision, newer.pk)
        if outcome is not None:
            judgement = revision.judgement
            result = round(2 * (1 - outcome))
            rows.append((newer.number, older.number, result, judgement.item.prompt_id, judgement.rater_id))
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _n in range(5)]
    return columns[0], columns[1], columns[2], columns[3], columns[4]
