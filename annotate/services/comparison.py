"""Where a planned blind comparison stands: what is in, who said it, and bounds that hold at every look.

Prompts count in the order of their draw, up to the first that somebody of the pool may still judge: so a look between
two judgements sees what it would have seen whoever had been quicker. Once the planned number is in, what was said is
final: whoever has seen the result could turn it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from annotate.models import (
    Evaluation,
    GuidelineVersion,
    Judgement,
    JudgementRevision,
    Membership,
    Purpose,
    Skip,
    Slot,
    User,
)
from annotate.services import Refused
from annotate.services.measure import outcome_of, votes
from annotate.stats.bradley_terry import Strengths, strengths_beside_style, style_difference
from annotate.stats.estimate import Estimate, Reason, Undefined
from annotate.stats.sequences import Sequence, betting_sequence
from annotate.stats.style import Style, style_of

LENGTH = Style._fields.index("words")


@dataclass(frozen=True)
class Pair:
    """A judgement of a pair that counts."""

    item: int
    rater: str
    outcome: float
    """1 where the newer generation won, ½ for a tie, 0 where the older one did."""
    styles: tuple[Style, Style]
    """Of the newer one's answer, and of the older one's."""


@dataclass(frozen=True)
class AtEqualStyle:
    """What is left of a win-rate where answers look alike."""

    rate: Estimate | Undefined
    """n counts judgements; the interval is for one look, over prompts."""
    held: tuple[str, ...]
    """What of :class:`~annotate.stats.style.Style` is held equal: what varies, as far as it can be told apart."""


@dataclass(frozen=True)
class Comparison:
    """What is in of an evaluation."""

    evaluation: Evaluation
    drawn: int
    judged: int
    """Prompts with a judgement that counts."""
    pairs: list[Pair]
    """Judgements of the prompts that are in."""
    outcomes: list[float]
    """Mean outcome of each prompt that is in, in the order of the draw."""
    passed_over: int
    """Prompts that nobody of the pool will judge any more."""
    apart: int
    """Judgements under other instructions than the planned ones."""
    others: int
    """Judgements by people who are not in the pool."""
    late: int = 0
    """Judgements of prompts that were in already when the planned number was."""

    @property
    def is_complete(self) -> bool:
        """Whether the planned number is in, but for prompts that nobody judges any more."""
        return len(self.outcomes) + self.passed_over >= self.evaluation.planned

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to judge, of prompts that were drawn later neither."""
        return len(self.outcomes) + self.passed_over >= max(self.evaluation.planned, self.drawn)

    @property
    def waiting(self) -> int:
        """Prompts that are judged and wait for an earlier one of the draw."""
        return self.judged - len(self.outcomes)

    @property
    def raters(self) -> list[tuple[str, int]]:
        """Who judged the prompts that are in, and how many each."""
        return sorted(Counter(pair.rater for pair in self.pairs).items())

    def sequence(self) -> Sequence:
        """Bounds on the win-rate after each prompt."""
        return betting_sequence(self.outcomes, planned=self.evaluation.planned)

    def win_rate(self) -> Estimate | Undefined:
        """The mean over prompts with its bounds; without them where the outcomes drift, so that no win-rate fits."""
        n = len(self.outcomes)
        if not n:
            return Undefined(Reason.NO_DATA)
        bounds, mean = self.sequence(), float(np.mean(self.outcomes))
        if not bounds.fits[-1]:
            return Estimate(mean, None, None, n)
        return Estimate(mean, float(bounds.low[-1]), float(bounds.high[-1]), n)

    def at_equal_style(self) -> AtEqualStyle:
        """The win-rate between answers of equal length and layout, by Bradley and Terry's model with these covariates.

        Where the model has no best fit, as when the few answers with headers all won, it goes without the covariate in
        which the fewest pairs differ, down to the length.
        """
        n = len(self.pairs)
        if not n:
            return AtEqualStyle(Undefined(Reason.NO_DATA), ())
        newer, older = (np.array([pair.styles[side] for pair in self.pairs]) for side in (0, 1))
        style = style_difference(newer, older)
        differing = style.any(axis=0) * (newer != older).sum(axis=0)
        held = sorted(np.flatnonzero(differing).tolist(), key=lambda column: (column != LENGTH, -differing[column]))
        while True:
            found = strengths_beside_style(
                np.ones(n, dtype=int),
                np.zeros(n, dtype=int),
                [round(2 * (1 - pair.outcome)) for pair in self.pairs],
                style[:, held],
                models=2,
                prompts=[pair.item for pair in self.pairs],
                raters=None,
            )
            if not isinstance(found, Undefined):
                return AtEqualStyle(_as_win_rate(found), tuple(Style._fields[column] for column in sorted(held)))
            if found.reason not in (Reason.ONE_SIDED, Reason.CONFOUNDED) or len(held) < 2:
                return AtEqualStyle(found, ())
            held.pop()


def compare(evaluation: Evaluation, *, kind: str = User.Kind.HUMAN) -> Comparison:
    """Take stock of an evaluation.

    :param kind: whose judgements count: people's, who must be in the pool, or those of programs of a kind.
    """
    pool = set(evaluation.pool.values_list("rater", flat=True)) if kind == User.Kind.HUMAN else None
    revisions = list(
        votes(kinds=(kind,))
        .filter(judgement__item__evaluation=evaluation)
        .select_related("judgement__rater", "guideline")
        .prefetch_related("judgement__item__completions", "ranks")
    )
    inside = [revision for revision in revisions if pool is None or revision.judgement.rater_id in pool]
    until = _next_instructions(evaluation)
    counted = [revision for revision in inside if _is_under(revision, evaluation.guideline, until)]
    settled = _settled(evaluation, counted) if pool is not None else set()
    in_time = [r for r in counted if r.judgement.item_id not in settled or not _is_after(r, evaluation)]
    by_item: dict[int, list[Pair]] = defaultdict(list)
    for pair in _pairs(in_time, evaluation):
        by_item[pair.item].append(pair)
    drawn = list(evaluation.items.order_by("pk").values_list("pk", flat=True))
    left = _still_open(evaluation, pool and pool & _members(evaluation)) - settled
    first_open = next((place for place, item in enumerate(drawn) if item in left), len(drawn))
    inside_items = [item for item in drawn[:first_open] if item in by_item]
    found = Comparison(
        evaluation=evaluation,
        drawn=len(drawn),
        judged=len(by_item),
        pairs=[pair for item in inside_items for pair in by_item[item]],
        outcomes=[float(np.mean([pair.outcome for pair in by_item[item]])) for item in inside_items],
        passed_over=sum(item not in by_item for item in drawn[:first_open]),
        apart=len(inside) - len(counted),
        others=len(revisions) - len(inside),
        late=len(counted) - len(in_time),
    )
    if pool is not None and found.outcomes and found.is_complete and evaluation.completed_at is None:
        unnoted = Evaluation.objects.filter(pk=evaluation.pk, completed_at__isnull=True)
        unnoted.update(completed_at=max(revision.created_at for revision in counted))
    return found


def _settled(evaluation: Evaluation, counted: Iterable[JudgementRevision]) -> set[int]:
    """Items that were in when the comparison was complete.

    Somebody of the pool who comes back to the project, or comes to it, could open them again.
    """
    return {revision.judgement.item_id for revision in counted if not _is_after(revision, evaluation)}


def _is_after(revision: JudgementRevision, evaluation: Evaluation) -> bool:
    """Whether it was given after all those with which the comparison was complete; true where it is not complete."""
    return evaluation.completed_at is None or revision.created_at > evaluation.completed_at


def require_open(judgement: Judgement) -> None:
    """See that what a judgement of a pair says can still be changed.

    A change that is under way as the last prompt comes in is let through: its rater has seen no result.

    :raises Refused: when the planned number of its comparison is in.
    """
    if judgement.slot.purpose == Purpose.EVALUATE and final_slots([judgement.slot]):
        raise Refused(why_final())


def final_slots(slots: Collection[Slot]) -> set[int]:
    """Those of some slots, by their numbers, whose pair belongs to a comparison of which the planned number is in."""
    pairs = [slot for slot in slots if slot.purpose == Purpose.EVALUATE]
    evaluations = Evaluation.objects.filter(items__in=[slot.item_id for slot in pairs]).select_related("guideline")
    final = [each.pk for each in evaluations.distinct() if each.completed_at is not None or compare(each).is_complete]
    found = Slot.objects.filter(pk__in=[slot.pk for slot in pairs], item__evaluation__in=final)
    return set(found.values_list("pk", flat=True))


def why_final() -> str:
    """Why an answer of :func:`final_slots` cannot be changed."""
    return _("The planned number of this comparison is in, so that its result may be known: what you said stands.")


def may_see(*, evaluation: Evaluation, user: User) -> bool:
    """Whether a result may be shown to somebody: to those who judge only once they and the others have nothing left.

    That goes for what programs say of the same pairs, too: it would tell them who is ahead.
    """
    return not evaluation.pool.filter(rater=user).exists() or compare(evaluation).is_over


def hidden_from(user: User, evaluations: QuerySet[Evaluation]) -> list[Evaluation]:
    """Those of some comparisons whose results somebody must not be shown."""
    theirs = evaluations.filter(pool__rater=user).select_related("guideline").distinct()
    return [evaluation for evaluation in theirs if not may_see(evaluation=evaluation, user=user)]


def _pairs(revisions: Iterable[JudgementRevision], evaluation: Evaluation) -> Iterable[Pair]:
    for revision in revisions:
        outcome = outcome_of(revision, evaluation.newer_id)
        if outcome is not None:
            of = {c.generation_id: style_of(c.text) for c in revision.judgement.item.completions.all()}
            styles = (of[evaluation.newer_id], of[evaluation.older_id])
            yield Pair(revision.judgement.item_id, revision.judgement.rater.username, outcome, styles)


def _next_instructions(evaluation: Evaluation) -> int | None:
    """Number of the instructions that must be read and followed those that the evaluation was planned under."""
    if evaluation.guideline is None:
        return None
    later = GuidelineVersion.objects.filter(
        project=evaluation.project_id, must_read=True, number__gt=evaluation.guideline.number
    )
    return later.order_by("number").values_list("number", flat=True).first()


def _is_under(revision: JudgementRevision, planned: GuidelineVersion | None, until: int | None) -> bool:
    if planned is None or revision.guideline is None:
        return revision.guideline is planned
    number = revision.guideline.number
    return number >= planned.number and (until is None or number < until)


def _members(evaluation: Evaluation) -> set[int]:
    """Who can still judge in the project."""
    members = Membership.objects.filter(project=evaluation.project_id, user__is_active=True)
    return set(members.values_list("user", flat=True))


def _still_open(evaluation: Evaluation, pool: set[int] | None) -> set[int]:
    """Items that somebody of the pool may still judge; of programs, all that have a slot left."""
    open_slots = Slot.objects.filter(~Q(state=Slot.State.DONE), item__evaluation=evaluation, number__isnull=False)
    items = set(open_slots.values_list("item", flat=True))
    if pool is None:
        return items
    had: dict[int, set[int]] = defaultdict(set)
    done = Slot.objects.filter(state=Slot.State.DONE, item__in=items)
    skipped = Skip.objects.filter(slot__item__in=items)
    for item, rater in [*done.values_list("item", "rater"), *skipped.values_list("slot__item", "rater")]:
        had[item].add(rater)
    return {item for item in items if pool - had[item]}


def _as_win_rate(found: Strengths) -> Estimate:
    """The newer model's strength above the older one's as a win-rate, a tie being half a win."""
    strength = found.models[1]

    def share(points: float | None) -> float | None:
        if points is None:
            return None
        half = 10 ** (points / 800)
        return (half + found.tie / 2) / (half + 1 / half + found.tie)

    value = share(strength.value)
    assert value is not None
    return Estimate(value, share(strength.low), share(strength.high), strength.n)
