"""How all generations of a project compare: strengths from blind comparisons, and what was measured of each alone.

People, simulated raters and AI judges are never measured together, nor are judgements under different instructions.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Avg, Exists, F, OuterRef, Q

from annotate.models import (
    Completion,
    Criterion,
    EvaluationRater,
    JudgementRevision,
    Project,
    Purpose,
    RewardModel,
    Score,
    Signal,
    Split,
    User,
)
from annotate.services.comparison import compare, may_see
from annotate.services.measure import outcome_of
from annotate.services.ondemand import counted_revisions
from annotate.stats.estimate import Estimate, Undefined
from annotate.stats.generations import Generations, generation_table
from annotate.stats.intervals import mean_interval
from annotate.stats.texts import text_metrics
from annotate.stats.winrates import two_way_mean

Value = Estimate | Undefined


@dataclass(frozen=True)
class Compared:
    """Blind comparisons of generations by raters of one kind, under the same instructions."""

    numbers: list[int]
    """Of the generations: those that were compared, and 0."""
    found: Generations
    judgements: int
    raters: int
    instructions: int | None
    """Version that its raters had to read; None where there is none."""
    judged_under: dict[int | None, int]
    """Judgements by the instructions under which they were given."""
    hidden: int
    """Comparisons that are under way, whose result the viewer must not see."""


def compared(project: Project, *, kind: str, viewer: User, instructions: int | None = None) -> Compared:
    """Compare the generations.

    :param kind: whose judgements count.
    :param instructions: version under which they were given; the newest with judgements when None.
    """
    hidden = _hidden_from(viewer, project) if kind == User.Kind.HUMAN else []
    versions = _must_read(project)
    by_version: dict[int | None, list[JudgementRevision]] = defaultdict(list)
    for revision in _revisions(project, kind, hidden):
        by_version[_version_of(revision, versions)].append(revision)
    counts = {version: len(of_version) for version, of_version in by_version.items()}
    if instructions not in counts:
        instructions = max(counts, key=lambda version: version or 0, default=None)
    first, second, outcomes, prompts, raters = _comparisons(by_version.get(instructions, []))
    numbers = sorted({0, *first, *second})
    place = {number: n for n, number in enumerate(numbers)}
    several = len(set(raters)) > 1
    found = generation_table(
        [place[number] for number in first],
        [place[number] for number in second],
        outcomes,
        generations=len(numbers),
        prompts=prompts,
        raters=raters if several else None,
    )
    return Compared(numbers, found, len(first), len(set(raters)), instructions, counts, len(hidden))


def _hidden_from(viewer: User, project: Project) -> list[int]:
    theirs = project.evaluations.filter(pool__rater=viewer).select_related("guideline")
    return [e.pk for e in theirs if not may_see(evaluation=e, comparison=compare(e), user=viewer)]


def _must_read(project: Project) -> list[int]:
    return list(project.guidelines.filter(must_read=True).order_by("number").values_list("number", flat=True))


def _version_of(revision: JudgementRevision, versions: Sequence[int]) -> int | None:
    """The version that its rater had to read; small corrections since are the same instructions."""
    if revision.guideline is None:
        return None
    known = bisect_right(versions, revision.guideline.number)
    return versions[known - 1] if known else None


def _revisions(project: Project, kind: str, hidden: Sequence[int]) -> list[JudgementRevision]:
    found = (
        counted_revisions(purpose=Purpose.EVALUATE, kinds=(kind,))
        .filter(judgement__slot__project=project)
        .exclude(judgement__item__evaluation__in=hidden)
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


def scores(project: Project, *, kind: str, instructions: int | None) -> dict[Criterion, dict[int, Value]]:
    """Mean score of each generation's answers by criterion; the interval is for such prompts and raters.

    :param instructions: version under which they were given.
    """
    rows = Score.objects.filter(
        revision__judgement__slot__project=project,
        revision__judgement__slot__purpose__in=[Purpose.COLLECT, Purpose.EVALUATE],
        revision__judgement__rater__kind=kind,
        revision__number=F("revision__judgement__version"),
        completion__generation__isnull=False,
    )
    if instructions is not None:
        later = [number for number in _must_read(project) if number > instructions]
        rows = rows.filter(revision__guideline__number__gte=instructions)
        rows = rows.filter(revision__guideline__number__lt=later[0]) if later else rows
    columns = (
        "criterion",
        "completion__generation__number",
        "value",
        "completion__prompt",
        "revision__judgement__rater",
    )
    by_cell: dict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)
    for criterion, number, *row in rows.values_list(*columns):
        by_cell[criterion, number].append((row[0], row[1], row[2]))
    found: dict[Criterion, dict[int, Value]] = {}
    for criterion in project.criteria.order_by("position"):
        found[criterion] = {
            number: _clustered(cell) for (of, number), cell in sorted(by_cell.items()) if of == criterion.pk
        }
    return {criterion: by_number for criterion, by_number in found.items() if by_number}


def _clustered(cell: list[tuple[int, int, int]]) -> Value:
    values, prompts, raters = zip(*cell, strict=True)
    if len(set(raters)) > 1:
        return two_way_mean(values, prompts, raters)
    by_prompt: dict[int, list[int]] = defaultdict(list)
    for value, prompt in zip(values, prompts, strict=True):
        by_prompt[prompt].append(value)
    return mean_interval([sum(of) / len(of) for of in by_prompt.values()])


def rewards(project: Project) -> tuple[RewardModel | None, dict[int, Value]]:
    """Mean score of each generation's answers to test prompts, by the reward model that scored most generations."""
    signals = Signal.objects.filter(
        project=project,
        reward_model__isnull=False,
        completion__prompt__split=Split.TEST,
        completion__run__kind="evaluate",
    )
    columns = ("reward_model", "completion__generation__number", "completion__prompt")
    means = list(signals.order_by().values_list(*columns).annotate(mean=Avg("value")))
    scored = Counter(model for model, _number in {(model, number) for model, number, *_ in means})
    if not scored:
        return None, {}
    chosen = max(scored, key=lambda model: (scored[model], model))
    by_number: dict[int, list[float]] = defaultdict(list)
    for model, number, _prompt, mean in means:
        if model == chosen:
            by_number[number].append(mean)
    return RewardModel.objects.get(pk=chosen), {number: mean_interval(v) for number, v in by_number.items()}


def task_metrics(project: Project) -> dict[int, dict[str, Value]]:
    """How near each generation's first answers to test prompts come to the references, where there are any."""
    answers = Completion.objects.filter(
        generation__project=project, prompt__split=Split.TEST, run__kind="evaluate", prompt__reference__isnull=False
    )
    first = answers.order_by("generation__number", "prompt", "sample").distinct("generation__number", "prompt")
    by_number: dict[int, list[tuple[str, str | None]]] = defaultdict(list)
    for number, text, reference in first.values_list("generation__number", "text", "prompt__reference"):
        by_number[number].append((text, reference))
    return {
        number: text_metrics([text for text, _known in rows], [known for _text, known in rows])
        for number, rows in by_number.items()
    }
