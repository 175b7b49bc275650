"""What a run that improves the policy shows while it goes: answers to fixed prompts, where the time goes, what to fear.

Everything is read from the lines of its progress. A warning compares the first :data:`WINDOW` updates with the last
ones, and is given once there are enough of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from django.utils.translation import gettext as _

from annotate.models import Prompt, Run

WINDOW = 3
"""Updates at either end that are compared; ten times as many steps of DPO, which are small."""
REWARD_APART = 0.1
"""By so much, in standard deviations of the scores, a reward must rise and another fall to be told apart from noise."""
LENGTH_DRIFT = 1.5
"""Times longer or shorter."""
REPETITION_DRIFT = 0.1
"""Of the share of repeated runs of words."""
ENTROPY_LEFT = 0.3
"""Share of the first entropy below which answers have become nearly the same."""
KL_OVER = 2.0
"""Times the KL that is aimed at."""
PREFERRED_LOST = -1.0
"""Implicit reward of preferred answers below which DPO makes them clearly less likely than the parent does."""

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Share:
    """How long a part of the updates took."""

    stage: str
    seconds: float
    """Mean of an update."""
    share: float
    """Of all parts, from 0 to 1."""


@dataclass(frozen=True)
class Shown:
    """A fixed prompt with what was answered to it."""

    prompt: Prompt
    answers: list[tuple[int, str]]
    """Update and answer: the first, one in the middle and the latest."""


def updates_of(run: Run) -> list[Metrics]:
    """Metrics of each update that PPO, RLOO or GRPO made, in order; of one that was made again, the latest.

    Beside its own stand those of who watches (:mod:`policy.watch`). Updates behind the result, which went too far, are
    left out.
    """
    events = run.events.filter(stage__in=["ppo", "watch"]).order_by("attempt", "sequence")
    found: dict[str, dict[float, dict[str, Any]]] = {"ppo": {}, "watch": {}}
    for stage, done, metrics in events.values_list("stage", "done", "metrics"):
        found[stage][done] = metrics
    kept = len(_metrics(run).get("updates", found["ppo"]))
    return [found["watch"].get(done, {}) | found["ppo"][done] for done in sorted(found["ppo"])[:kept]]


def _metrics(run: Run) -> Metrics:
    metrics: Metrics = (run.result or {}).get("metrics", {})
    return metrics


def shares(updates: Sequence[Metrics]) -> list[Share]:
    """Where the time of an update goes."""
    names = [
        name for name in (updates[-1] if updates else {}) if name.startswith("seconds_") and name != "seconds_left"
    ]
    means = {name: fmean(update.get(name, 0.0) for update in updates) for name in names}
    total = sum(means.values())
    return [Share(name, mean, mean / total) for name, mean in means.items()] if total else []


def shown(run: Run, updates: Sequence[Metrics]) -> list[Shown]:
    """The answers to fixed prompts as training goes."""
    with_examples = [(number, update["examples"]) for number, update in enumerate(updates, 1) if update.get("examples")]
    if not with_examples:
        return []
    places = sorted({0, len(with_examples) // 2, len(with_examples) - 1})
    chosen = [with_examples[place] for place in places]
    prompts = run.project.prompts.in_bulk([int(number) for number in chosen[-1][1]])
    return [
        Shown(prompts[int(number)], [(update, texts[number]) for update, texts in chosen if number in texts])
        for number in chosen[-1][1]
        if int(number) in prompts
    ]


def warnings(run: Run, updates: Sequence[Metrics]) -> list[str]:
    """What a lead should look at: an early end, and signs that the reward is exploited or the policy falls apart."""
    found = [_ended_early(run, updates)] if _by_kl(run) else []
    unwatched = [number for number, update in enumerate(updates, 1) if update.get("other_reward_missing")]
    if unwatched:
        found.append(_unwatched(unwatched[0]))
    if len(updates) >= 2 * WINDOW:
        found += _of_updates(updates[:WINDOW], updates[-WINDOW:], run.job.get("kl_target"))
    elif run.job.get("beta") is not None:
        found += _of_preferences(run)
    return found


def _by_kl(run: Run) -> bool:
    metrics = _metrics(run)
    return metrics.get("ended_by") == "kl" or bool(metrics.get("ended_by_kl"))  # so older results say it


def _ended_early(run: Run, updates: Sequence[Metrics]) -> str:
    return _(
        "Training ended by itself after update %(made)d of %(planned)d: the next policy was further than %(limit)s "
        "nats an answer from its parent. The result is the last policy before it. A lower learning rate or "
        "a larger KL coefficient gets further."
    ) % {"made": len(updates), "planned": run.job["updates"], "limit": f"{run.job['kl_limit']:g}"}


def _unwatched(update: int) -> str:
    return _(
        "The second reward model gave answers a score that is not a number, first in update %(update)d: its figure is "
        "left out of such updates, and a reward that is exploited may not show. Look at that reward model."
    ) % {"update": update}


def _of_updates(first: Sequence[Metrics], last: Sequence[Metrics], kl_target: float | None) -> list[str]:
    found = []
    rise, second = _change("reward", first, last), _change("other_reward", first, last)
    if rise is not None and second is not None and rise > REWARD_APART and second < -REWARD_APART:
        found.append(
            _(
                "The reward has risen by %(rise).2f while the second reward model's score has fallen by %(fall).2f: "
                "the policy may exploit mistakes of the first. Compare the answers below, and stop where they get "
                "worse."
            )
            % {"rise": rise, "fall": -second}
        )
    before, after = _mean("length", first), _mean("length", last)
    if before and after and not 1 / LENGTH_DRIFT <= after / before <= LENGTH_DRIFT:
        found.append(
            _("Answers went from %(before).0f to %(after).0f tokens: the reward may be paid for length alone.")
            % {"before": before, "after": after}
        )
    repeated = _change("repetition", first, last)
    if repeated is not None and repeated > REPETITION_DRIFT:
        found.append(
            _("Answers repeat themselves more than at first: %(share).0f %% of their runs of four words, by now.")
            % {"share": 100 * (_mean("repetition", last) or 0)}
        )
    before, after = _mean("entropy", first), _mean("entropy", last)
    if before and after is not None and after < ENTROPY_LEFT * before:
        found.append(_("The entropy has fallen to a third and less: the policy says nearly the same every time."))
    kl = _mean("kl", last)
    if kl is not None and kl_target and kl > KL_OVER * kl_target:
        found.append(
            _("KL to the parent is %(kl).1f nats, and %(target).1f are aimed at: lower the learning rate.")
            % {"kl": kl, "target": kl_target}
        )
    return found


def _of_preferences(run: Run) -> list[str]:
    lines = list(run.events.filter(stage="train").order_by("-attempt", "-sequence").values_list("metrics", flat=True))
    reward = _mean("chosen_reward", lines[: 10 * WINDOW])
    if len(lines) < 10 * WINDOW or reward is None or reward >= PREFERRED_LOST:
        return []
    return [
        _(
            "Preferred answers have become less likely than under the parent, too: a lower learning rate, fewer epochs "
            "or a larger β keep them."
        )
    ]


def _change(name: str, first: Sequence[Metrics], last: Sequence[Metrics]) -> float | None:
    before, after = _mean(name, first), _mean(name, last)
    return None if before is None or after is None else after - before


def _mean(name: str, updates: Sequence[Metrics]) -> float | None:
    values = [update[name] for update in updates if update.get(name) is not None]
    return fmean(values) if values else None
