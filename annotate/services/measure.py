"""What a project's judgements and completions say about its models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations

from django.db.models import F, QuerySet

from annotate.models import Generation, Item, JudgementRevision, Purpose, RewardModel, User
from annotate.simulated import CLEAR_DIFFERENCE, hidden_preference
from annotate.stats import winrates
from annotate.stats.estimate import NOT_NEGATIVE, Estimate, Undefined
from annotate.stats.intervals import clustered_share, mean_interval
from annotate.stats.style import count_words


def win_rate(
    newer: Generation, older: Generation, *, kinds: Sequence[str] = (User.Kind.HUMAN,)
) -> Estimate | Undefined:
    """How often raters prefer the newer generation on *evaluate* items; the unit is a prompt, a tie counts half.

    The interval is for one look, once all is in.

    :param kinds: whose judgements count.
    """
    both = Item.objects.filter(purpose=Item.Purpose.EVALUATE, completions__generation=newer).filter(
        pk__in=Item.objects.filter(completions__generation=older)
    )
    revisions = (
        votes(kinds=kinds)
        .filter(judgement__item__in=both)
        .select_related("judgement__item")
        .prefetch_related("judgement__item__completions", "ranks")
    )
    outcomes, prompts = [], []
    for revision in revisions:
        outcome = outcome_of(revision, newer.pk)
        if outcome is not None:
            outcomes.append(outcome)
            prompts.append(revision.judgement.item.prompt_id)
    return winrates.win_rate(outcomes, prompts)


def votes(*, kinds: Sequence[str]) -> QuerySet[JudgementRevision]:
    """The judgements of blind pairs, as they are now, by those who were drawn to judge them.

    No adjudication takes their place: who asks for one may know who is ahead.

    :param kinds: whose are asked for.
    """
    return JudgementRevision.objects.filter(
        number=F("judgement__version"), judgement__rater__kind__in=kinds, judgement__slot__purpose=Purpose.EVALUATE
    )


def outcome_of(revision: JudgementRevision, newer: int) -> float | None:
    """1 when the newer generation's answer is ranked above the other, None where nothing was compared.

    A tie is ½, and so are two equal texts and two answers of which both are called bad.

    :param revision: of a pair.
    :param newer: the number of its record.
    """
    completions = list(revision.judgement.item.completions.all())
    if revision.both_bad or len({c.text for c in completions}) == 1:
        return 0.5
    newer_ids = {c.pk for c in completions if c.generation_id == newer}
    ours = [rank.group for rank in revision.ranks.all() if rank.completion_id in newer_ids]
    theirs = [rank.group for rank in revision.ranks.all() if rank.completion_id not in newer_ids]
    if not ours or not theirs:
        return None
    return 0.5 if ours[0] == theirs[0] else float(ours[0] < theirs[0])


def last_kl(generation: Generation) -> Estimate | None:
    """KL of the policy that PPO ended with to its parent, in nats an answer, on prompts that it trained on.

    Runs of before PPO looked at its result told only of the policy before the last update, and nothing of single
    prompts, so that there is no interval.
    """
    metrics = generation.how_made.get("metrics", {})
    told = [*metrics.get("updates", []), metrics.get("final") or {}]
    seen = next((seen for seen in reversed(told) if "kl" in seen), None)
    if seen is None:
        return None
    found = mean_interval(seen.get("kl_by_prompt", []), bounds=NOT_NEGATIVE)
    return found if isinstance(found, Estimate) else Estimate(seen["kl"], None, None, seen.get("samples", 0))


def evaluation_texts(generation: Generation) -> dict[int, list[str]]:
    """A generation's answers in *evaluate* runs, by prompt."""
    texts: dict[int, list[str]] = defaultdict(list)
    completions = generation.completions.filter(run__kind="evaluate").order_by("prompt_id", "sample")
    for prompt, text in completions.values_list("prompt_id", "text"):
        texts[prompt].append(text)
    return texts


def preference_gain(newer: Generation, older: Generation) -> Estimate | Undefined:
    """Rise of the mean hidden preference from one generation to another, paired by test prompt."""
    before, after = evaluation_texts(older), evaluation_texts(newer)
    return mean_interval([_mean_preference(after[p]) - _mean_preference(before[p]) for p in before if p in after])


def _mean_preference(texts: Iterable[str]) -> float:
    values = [hidden_preference(text) for text in texts]
    return sum(values) / len(values)


def hidden_preference_of(generation: Generation) -> Estimate | Undefined:
    """Mean hidden preference of a generation's answers to test prompts, with n the number of answers."""
    texts = evaluation_texts(generation)
    estimate = mean_interval([_mean_preference(t) for t in texts.values()])
    return replace(estimate, n=sum(len(t) for t in texts.values()))


def recovery(reward_model: RewardModel, generation: Generation) -> dict[str, object]:
    """How well a reward model orders a generation's answers to test prompts as the hidden preference does.

    A pair is two answers to one prompt that differ in h. It is *clear* where h differs by 0.5 or more.
    The interval is over prompts.

    :returns: ``test_pairs``, ``accuracy``, ``accuracy_ci`` and ``length_only_accuracy`` on clear pairs
        (of "the longer answer in words wins" and "the shorter one wins" the rule that does better;
        equal lengths count half), and ``accuracy_all`` on all of them.
    """
    by_prompt: dict[int, list[tuple[str, float]]] = defaultdict(list)
    signals = reward_model.signals.filter(completion__generation=generation, completion__prompt__split="test")
    for prompt, text, value in signals.values_list("completion__prompt_id", "completion__text", "value"):
        by_prompt[prompt].append((text, value))
    right, right_clear, length_clear, clusters = [], [], [], []
    for prompt, answers in by_prompt.items():
        for (a, score_a), (b, score_b) in combinations(answers, 2):
            difference = hidden_preference(a) - hidden_preference(b)
            if difference == 0:
                continue
            right.append(_agreement(difference, score_a - score_b))
            if abs(difference) >= CLEAR_DIFFERENCE:
                right_clear.append(right[-1])
                length_clear.append(_agreement(difference, count_words(a) - count_words(b)))
                clusters.append(prompt)
    clear = clustered_share(right_clear, clusters)
    longer = sum(length_clear) / len(length_clear) if length_clear else None
    return {
        "test_pairs": clear.n,
        "accuracy": clear.value,
        "accuracy_ci": clear.interval,
        "length_only_accuracy": None if longer is None else max(longer, 1 - longer),
        "accuracy_all": sum(right) / len(right) if right else None,
    }


def _agreement(truth: float, guess: float) -> float:
    """1 when both have the same sign, 0 when they differ, ½ for a guess of zero."""
    return 0.5 if guess == 0 else float((truth > 0) == (guess > 0))
