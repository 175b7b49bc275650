"""What a decision on a generation rests on: what was measured beside its parent, the blind comparison, a verdict.

Everything is measured on test prompts, but for the KL, which PPO measured on the prompts that it trained on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.db.models import Avg, Case, FloatField, QuerySet, Value, When

from annotate.models import Completion, Generation, Judgement, RewardModel, Signal, User
from annotate.services.comparison import Comparison, compare
from annotate.services.evaluated import beside_parent
from annotate.services.measure import last_kl
from annotate.services.scorers import scorers
from annotate.stats.estimate import ANYTHING, NOT_NEGATIVE, SHARE, Bounds, Estimate, Undefined
from annotate.stats.intervals import mean_interval

KL_BUDGET = 1.5
"""Times the KL that PPO aimed at: its coefficient follows only slowly."""
LENGTH_BOUND = 1.5
"""How many times as long, or as short, answers may become."""
LEAST_SHARE = 0.9
"""Of the planned prompts, that must have been judged: which ones nobody judged is hardly chance."""
END_RATE_FALL = 0.1
"""By how much the share of answers that end may fall."""

ByPrompt = dict[int, dict[int, float]]
"""A mean by the numbers of generation and prompt."""


class Verdict(StrEnum):
    """What the blind comparison says."""

    NOT_PLANNED = "not planned"
    TOO_EARLY = "too early"
    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"
    SHORT = "ended short"
    DRIFTS = "drifts"


@dataclass(frozen=True)
class Beside:
    """A measure of a generation beside its parent."""

    older: Estimate | Undefined
    newer: Estimate | Undefined
    change: Estimate | Undefined
    """Newer less older, paired by prompt."""
    passed: bool | None
    """Whether it is within bounds; None where it could not be measured."""


@dataclass(frozen=True)
class Report:
    """The gate's report on a generation."""

    generation: Generation
    reward_model: RewardModel | None
    """Whose scores the reward is: of the model that the generation was trained against, where it scored the answers."""
    other_model: RewardModel | None
    reward: Beside
    disagreement: Beside
    """How much higher the first of the two models scores an answer than the other."""
    length: Beside
    """Tokens an answer."""
    end_rate: Beside
    kl: Estimate | None
    kl_budget: float | None
    kl_passed: bool | None
    comparison: Comparison | None
    verdict: Verdict

    @property
    def checks(self) -> dict[str, bool | None]:
        """Which measures are within bounds."""
        return {
            "reward": self.reward.passed,
            "kl": self.kl_passed,
            "length": self.length.passed,
            "end_rate": self.end_rate.passed,
            "disagreement": self.disagreement.passed,
        }

    @property
    def failed(self) -> list[str]:
        """Measures that are out of bounds, or for the reward, not shown to rise."""
        return [name for name, passed in self.checks.items() if passed is False]


def report(generation: Generation, *, kind: str = User.Kind.HUMAN) -> Report:
    """Measure a generation beside its parent.

    :param kind: whose comparisons count.
    """
    answers = beside_parent(generation)
    first, other = scorers(generation, _scored_both(generation, answers))
    reward = _beside(generation, _scores(answers, first) if first else {})
    disagreement = _beside(generation, _gap(answers, first, other) if first and other else {})
    ended = Avg(Case(When(finish_reason="stop", then=Value(1.0)), default=Value(0.0), output_field=FloatField()))
    length = _beside(generation, _means(answers, "prompt", "generation", Avg("token_count")), NOT_NEGATIVE)
    end_rate = _beside(generation, _means(answers, "prompt", "generation", ended), SHARE)
    kl, budget = _kl(generation)
    comparison = latest_comparison(generation, kind=kind)
    return Report(
        generation=generation,
        reward_model=first,
        other_model=other,
        reward=_rises(reward, good=True),
        disagreement=_rises(disagreement, good=False),
        length=_judged(length, _is_near(length)),
        end_rate=_judged(end_rate, (end_rate.change.value or 0) >= -END_RATE_FALL),
        kl=kl,
        kl_budget=budget,
        kl_passed=None if kl is None or budget is None else kl.value <= budget,
        comparison=comparison,
        verdict=verdict_of(comparison),
    )


def latest_comparison(generation: Generation, *, kind: str = User.Kind.HUMAN) -> Comparison | None:
    """The comparison of a generation with its parent that was planned last."""
    evaluation = generation.evaluations.select_related("guideline").last()
    return compare(evaluation, kind=kind) if evaluation else None


def verdict_of(comparison: Comparison | None) -> Verdict:
    """Better where the lower bound is at least ½ once the planned number of prompts is in; worse the other way.

    Neither where the outcomes drift: a change on the way says nothing of which of the two answers is the better one.
    """
    if comparison is None:
        return Verdict.NOT_PLANNED
    if not comparison.is_complete:
        return Verdict.TOO_EARLY
    if len(comparison.outcomes) < LEAST_SHARE * comparison.evaluation.planned:
        return Verdict.SHORT
    rate = comparison.win_rate()
    if rate.value is not None and rate.interval is None:
        return Verdict.DRIFTS
    if rate.low is not None and rate.low >= 0.5:
        return Verdict.BETTER
    if rate.high is not None and rate.high <= 0.5:
        return Verdict.WORSE
    return Verdict.UNDECIDED


def evidence(generation: Generation) -> dict[str, Any]:
    """What a decision on a generation can rest on at this moment, as plain values for the trail.

    What people say, and under ``programs`` what those of each kind say that judged the same pairs.
    """
    comparison = latest_comparison(generation)
    if comparison is None:
        return {"verdict": Verdict.NOT_PLANNED.value}
    evaluation = comparison.evaluation
    judged = Judgement.objects.filter(item__evaluation=evaluation).exclude(rater__kind=User.Kind.HUMAN)
    programs = sorted(judged.values_list("rater__kind", flat=True).distinct())
    return {
        **_said(comparison),
        "planned": evaluation.planned,
        "programs": {kind: _said(compare(evaluation, kind=kind)) for kind in programs},
    }


def _said(comparison: Comparison) -> dict[str, Any]:
    rate = comparison.win_rate()
    return {
        "verdict": verdict_of(comparison).value,
        "win_rate": rate.value,
        "bounds": rate.interval,
        "prompts": rate.n,
    }


def _scored_both(generation: Generation, answers: QuerySet[Completion]) -> QuerySet[RewardModel]:
    """The reward models that scored answers of both generations."""
    models = RewardModel.objects.select_related("run")
    for each in (generation, generation.parent):
        own = Signal.objects.filter(completion__in=answers.filter(generation=each), reward_model__isnull=False)
        models = models.filter(pk__in=own.values("reward_model"))
    return models


def _scores(answers: QuerySet[Completion], model: RewardModel) -> ByPrompt:
    signals = Signal.objects.filter(reward_model=model, completion__in=answers)
    return _means(signals, "completion__prompt", "completion__generation", Avg("value"))


def _means(rows: QuerySet[Any], prompt: str, generation: str, mean: Avg) -> ByPrompt:
    found: ByPrompt = defaultdict(dict)
    for row in rows.order_by().values(prompt, generation).annotate(mean=mean):
        if row["mean"] is not None:
            found[row[generation]][row[prompt]] = row["mean"]
    return found


def _gap(answers: QuerySet[Completion], first: RewardModel, other: RewardModel) -> ByPrompt:
    """How much higher the first one scores the answers that both scored."""
    signals = Signal.objects.filter(completion__in=answers)
    others = dict(signals.filter(reward_model=other).values_list("completion", "value"))
    columns = ("completion", "completion__generation", "completion__prompt", "value")
    gaps: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for answer, of, prompt, value in signals.filter(reward_model=first).values_list(*columns):
        if answer in others:
            gaps[of][prompt].append(value - others[answer])
    return {of: {prompt: sum(v) / len(v) for prompt, v in by_prompt.items()} for of, by_prompt in gaps.items()}


def _beside(generation: Generation, means: ByPrompt, bounds: Bounds = ANYTHING) -> Beside:
    assert generation.parent_id is not None
    older, newer = means.get(generation.parent_id, {}), means.get(generation.pk, {})
    both = sorted(older.keys() & newer.keys())

    def over(values: Iterable[float], bounds: Bounds = bounds) -> Estimate | Undefined:
        return mean_interval(list(values), bounds=bounds)

    return Beside(
        over(older[prompt] for prompt in both),
        over(newer[prompt] for prompt in both),
        over((newer[prompt] - older[prompt] for prompt in both), (bounds[0] - bounds[1], bounds[1] - bounds[0])),
        None,
    )


def _rises(measured: Beside, *, good: bool) -> Beside:
    """Whether it rises beyond doubt, which is good or bad; without an interval nothing is known."""
    low = measured.change.low
    passed = None if low is None else (low > 0) == good
    return Beside(measured.older, measured.newer, measured.change, passed)


def _judged(measured: Beside, passed: bool) -> Beside:
    known = measured.change.value is not None
    return Beside(measured.older, measured.newer, measured.change, passed if known else None)


def _is_near(length: Beside) -> bool:
    if not length.older.value or not length.newer.value:
        return False
    return 1 / LENGTH_BOUND <= length.newer.value / length.older.value <= LENGTH_BOUND


def _kl(generation: Generation) -> tuple[Estimate | None, float | None]:
    """The KL to the parent after the last update of PPO, and its budget, in nats an answer."""
    target = generation.how_made.get("job", {}).get("kl_target")
    return last_kl(generation), (KL_BUDGET * target if target else None)
