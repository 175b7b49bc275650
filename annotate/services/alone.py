"""What was measured of each generation by itself: scores, reward, perplexity, metrics against references."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from django.db.models import Avg, F, Q, Sum

from annotate.models import Project, Purpose, Score, Signal, Split
from annotate.services.evaluated import newest
from annotate.services.guidelines import to_be_read
from annotate.stats.estimate import NOT_NEGATIVE, Bounds, Estimate, Undefined
from annotate.stats.intervals import clustered_mean, mean_interval
from annotate.stats.resampling import LEAST_RATERS
from annotate.stats.texts import text_metrics
from annotate.stats.winrates import two_way_mean

Value = Estimate | Undefined
SCORES: Bounds = (1.0, 5.0)


def scores(project: Project, *, kind: str, instructions: int, hidden: Sequence[int]) -> dict[int, dict[int, Value]]:
    """Mean score of each generation's answers to test prompts by criterion; n counts prompts.

    Every score weighs the same. The interval is over prompts and raters, of too few raters over prompts alone.
    On the others later generations were trained, and only the first may have been judged.

    :param instructions: version under which they were given; 0 for none.
    :param hidden: comparisons that are left out.
    """
    rows = Score.objects.filter(
        revision__judgement__slot__project=project,
        revision__judgement__slot__purpose__in=[Purpose.COLLECT, Purpose.EVALUATE],
        revision__judgement__rater__kind=kind,
        revision__number=F("revision__judgement__version"),
        completion__generation__isnull=False,
        completion__prompt__split=Split.TEST,
    ).exclude(revision__judgement__item__evaluation__in=hidden)
    later = [number for number in to_be_read(project) if number > instructions]
    if instructions:
        rows = rows.filter(revision__guideline__number__gte=instructions)
    if later:
        none = Q(revision__guideline__isnull=True)
        rows = rows.filter(none | Q(revision__guideline__number__lt=later[0]))
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
    found: dict[int, dict[int, Value]] = defaultdict(dict)
    for (criterion, number), cell in sorted(by_cell.items()):
        found[criterion][number] = _clustered(cell)
    return found


def _clustered(cell: list[tuple[int, int, int]]) -> Value:
    values, prompts, raters = zip(*cell, strict=True)
    if len(set(raters)) < LEAST_RATERS:
        found = clustered_mean(values, prompts, bounds=SCORES)
    else:
        found = two_way_mean(values, prompts, raters, bounds=SCORES)
    return replace(found, n=len(set(prompts)))


def rewards(project: Project) -> tuple[int | None, dict[int, Value]]:
    """Mean score of each generation's answers to test prompts, by the reward model that scored most generations.

    :returns: the model's number as well; None where none scored any.
    """
    signals = Signal.objects.filter(project=project, reward_model__isnull=False, completion__in=newest(project))
    columns = ("reward_model__number", "completion__generation__number", "completion__prompt")
    means = list(signals.order_by().values_list(*columns).annotate(mean=Avg("value")))
    scored = Counter(model for model, _number in {(model, number) for model, number, *_ in means})
    if not scored:
        return None, {}
    chosen = max(scored, key=lambda model: (scored[model], model))
    by_number: dict[int, list[float]] = defaultdict(list)
    for model, number, _prompt, mean in means:
        if model == chosen:
            by_number[number].append(mean)
    return chosen, {number: mean_interval(values) for number, values in by_number.items()}


def perplexities(project: Project) -> dict[int, Value]:
    """How uncertain each generation is, word by word, of its own answers to test prompts.

    e to the mean over prompts of the negative log-probability of a token, at the temperature of the sampling.
    """
    answers = newest(project).filter(sum_logprob__isnull=False, token_count__gt=0)
    columns = ("generation__number", "prompt")
    sums = answers.order_by().values_list(*columns).annotate(logprob=Sum("sum_logprob"), tokens=Sum("token_count"))
    by_number: dict[int, list[float]] = defaultdict(list)
    for number, _prompt, logprob, tokens in sums:
        by_number[number].append(-logprob / tokens)
    return {number: _raised(mean_interval(surprise, bounds=NOT_NEGATIVE)) for number, surprise in by_number.items()}


def _raised(found: Value) -> Value:
    """e to the power of it."""
    if isinstance(found, Undefined):
        return found
    low, high = (None if end is None else math.exp(end) for end in (found.low, found.high))
    return Estimate(math.exp(found.value), low, high, found.n)


def task_metrics(project: Project) -> dict[int, dict[str, Value]]:
    """How near each generation's first answers to test prompts come to the references, where there are any."""
    answers = newest(project).filter(prompt__reference__isnull=False)
    first = answers.order_by("generation__number", "prompt", "sample").distinct("generation__number", "prompt")
    by_number: dict[int, list[tuple[str, str | None]]] = defaultdict(list)
    for number, text, reference in first.values_list("generation__number", "text", "prompt__reference"):
        by_number[number].append((text, reference))
    return {
        number: text_metrics([text for text, _known in rows], [known for _text, known in rows])
        for number, rows in by_number.items()
    }
