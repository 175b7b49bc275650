"""What a lead asks for when the policy is to be improved, turned into a job and the rows that it reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotate.models import Generation, Project, Prompt, RewardModel, Snapshot, Split
from annotate.services import Refused, files, imitation, jobs
from annotate.services.generations import serving
from annotate.services.jobs import Settings
from annotate.services.methods import POLICY_GRADIENT, WAYS, Method
from policy.contract import ImproveJob
from policy.methods import FULL_LEARNING_RATE, FineTuneJob

PROMPTS_SHOWN = 4
"""Prompts whose answers are shown as training goes."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a lead asks for; what is left at its default is chosen here."""

    method: Method = Method.PPO
    reward_model: RewardModel | None = None
    """Of methods that draw answers; the latest when None."""
    other_reward_model: RewardModel | None = None
    """Only watches, so that a reward that is exploited shows."""
    snapshot: Snapshot | None = None
    """Of methods that learn from a snapshot, which then must be there."""
    tags: Sequence[str] = ()
    """Prompts with any of these tags; none given means all training prompts."""
    samples: int | None = None
    """Answers that PPO, RLOO or GRPO draw and learn from in all; one more batch measures the result."""
    minutes: float | None = None
    """Longest time of training, minutes; see ``max_seconds`` of the jobs."""
    from_base: bool = False
    """Whether fine-tuning starts from the base model's weights and not from the parent's."""
    sources: Sequence[str] = imitation.SOURCES
    """What SFT imitates."""
    planned: int | None = None
    """Test prompts on which raters then compare what comes out with its parent; the usual number when None."""
    leads_rate: bool = False
    """Whether leads are among those raters."""
    settings: Settings = field(default_factory=dict)
    """Fields of the job that differ from their defaults."""


@dataclass(frozen=True)
class Plan:
    """A job, and the rows that its run refers to."""

    job: type[Any]
    values: Settings
    inputs: dict[str, Any]


def plan(*, project: Project, wish: Wish, seed: int) -> Plan:
    """Turn a wish into a job of the served generation's.

    :param seed: of everything that is drawn.
    :raises Refused: when what the method needs is not there.
    """
    _check_wish(wish)
    generation = serving(project)
    start = project.generations.get(number=0) if wish.from_base else generation
    values: Settings = {
        "policy": str(files.check_model_folder(start.weights_path)),
        "seed": seed,
        **({"max_seconds": 60 * wish.minutes} if wish.minutes else {}),
    }
    selection: Settings = {
        "method": wish.method.value,
        "planned": wish.planned,
        "leads_rate": wish.leads_rate,
        **({"from_base": True} if wish.from_base else {}),
    }
    _check_comparison(project, wish)
    inputs: dict[str, Any] = {"generation": generation, "selection": selection}
    if WAYS[wish.method].draws:
        inputs["reward_model"] = reward_model = wish.reward_model or latest_reward_model(project)
        values |= {
            "reward_model": str(files.located(reward_model.weights_path)),
            "sampling": jobs.sampling(project, seed),
            "engine": jobs.engine(),
        }
        selection["tags"] = list(wish.tags)
        prompts = training_prompts(project, wish.tags).count()
        if not prompts:
            raise Refused(
                _("There are no training prompts with these tags.")
                if wish.tags
                else _("There are no training prompts: import some first.")
            )
    else:
        inputs["snapshot"] = wish.snapshot
        _check_snapshot(wish, selection)
    if wish.method in POLICY_GRADIENT:
        _check_other(wish, reward_model)
        values |= _updates(project, wish, prompts, generation)
    else:
        values |= _fine_tuning(start, project.temperature)
    return Plan(WAYS[wish.method].job, values | _full_rates(wish.settings) | wish.settings, inputs)


def _check_wish(wish: Wish) -> None:
    """Refuse what a method has no use for, so that nobody believes it was heeded."""
    ours = wish.method in POLICY_GRADIENT
    if wish.samples is not None and not ours:
        raise Refused(
            _("%(method)s takes no number of answers in all: that is for PPO, RLOO and GRPO.")
            % {"method": wish.method.label},
            place="samples",
        )
    if ours and "updates" in wish.settings and (wish.samples is not None or wish.minutes):
        raise Refused(
            _("Updates, answers in all and minutes each say how long training goes on: give updates, or the others."),
            place="updates",
        )
    if wish.other_reward_model is not None and not ours:
        raise Refused(
            _("A second reward model watches PPO, RLOO or GRPO, not %(method)s.") % {"method": wish.method.label},
            place="other_reward_model",
        )
    if wish.from_base and ours:
        raise Refused(
            _("%(method)s starts from the parent: only fine-tuning can start from the base model.")
            % {"method": wish.method.label},
            place="from_base",
        )


def _check_comparison(project: Project, wish: Wish) -> None:
    """Refuse to plan a comparison on more test prompts than there are."""
    count = project.prompts.filter(split=Split.TEST).count()
    if wish.planned is not None and wish.planned > count:
        sentence = ngettext("There is only %(count)d test prompt.", "There are only %(count)d test prompts.", count)
        raise Refused(sentence % {"count": count}, place="planned")


def _check_other(wish: Wish, reward_model: RewardModel) -> None:
    """Refuse a watcher that is the reward model itself: its scores would never fall behind."""
    if wish.other_reward_model == reward_model:
        raise Refused(
            _("Reward model %(number)d cannot watch itself: choose another one, or none.")
            % {"number": reward_model.number},
            place="other_reward_model",
        )


def training_prompts(project: Project, tags: Sequence[str]) -> QuerySet[Prompt]:
    """The prompts that are practised on."""
    found = project.prompts.filter(split=Split.TRAIN)
    return found.filter(tags__overlap=list(tags)) if tags else found


def usual_answers(project: Project) -> int:
    """Answers that PPO, RLOO and GRPO draw and learn from where no number of them is asked for."""
    return ImproveJob.updates * answers_per_update(project, [], {})


def answers_per_update(project: Project, tags: Sequence[str], settings: Settings) -> int:
    """Answers that PPO, RLOO and GRPO draw for one update.

    :param settings: fields of the job that differ from their defaults.
    """
    prompts = _prompts_per_update(training_prompts(project, tags).count(), settings)
    return prompts * _samples_per_prompt(settings)


def _prompts_per_update(prompts: int, settings: Settings) -> int:
    """How many of so many prompts an update answers."""
    return min(prompts, settings.get("prompts_per_update", ImproveJob.prompts_per_update))


def _samples_per_prompt(settings: Settings) -> int:
    return int(settings.get("samples_per_prompt", ImproveJob.samples_per_prompt))


def read_prompts(project: Project, selection: Settings, fixed: Sequence[str]) -> QuerySet[Prompt]:
    """The prompts that a run reads: those that it practises on, those that are shown, and for best of n the dev ones.

    :param selection: the run's.
    :param fixed: numbers of prompts whose answers are shown.
    """
    splits = [Split.TRAIN, *([Split.DEV] if selection.get("method") == Method.BEST_OF_N else [])]
    wanted = Q(split__in=splits)
    if selection.get("tags"):
        wanted &= Q(tags__overlap=selection["tags"])
    return project.prompts.filter(wanted | Q(pk__in=[int(number) for number in fixed]))


def latest_reward_model(project: Project) -> RewardModel:
    """The newest reward model.

    :raises Refused: when there is none.
    """
    latest = project.reward_models.order_by("-number").first()
    if latest is None:
        raise Refused(_("There is no reward model yet: train one first."), place="reward_model")
    return latest


def _updates(project: Project, wish: Wish, prompts: int, generation: Generation) -> Settings:
    """What is PPO's own: how many updates, the prompts that are shown, who watches, the base model of the second KL."""
    per_update = _prompts_per_update(prompts, wish.settings)
    answers = per_update * _samples_per_prompt(wish.settings)
    values: Settings = {"prompts_per_update": per_update, "fixed_prompts": _shown(project, wish.tags)}
    if wish.samples:
        values["updates"] = math.ceil(wish.samples / answers)
    if wish.method != Method.PPO:
        values["advantage"] = wish.method.value
    if generation.number > 0:
        base = project.generations.get(number=0)
        values["base_model"] = str(files.check_model_folder(base.weights_path))
    if wish.other_reward_model is not None:
        values["other_reward_model"] = str(files.located(wish.other_reward_model.weights_path))
    return values


def _shown(project: Project, tags: Sequence[str]) -> list[str]:
    """Prompts that are not practised on, where there are any: what the policy says to them is no rote."""
    for split in (Split.DEV, Split.TRAIN):
        found = project.prompts.filter(split=split).order_by("pk")
        found = found.filter(tags__overlap=list(tags)) if tags else found
        if numbers := list(found.values_list("pk", flat=True)[:PROMPTS_SHOWN]):
            return [str(number) for number in numbers]
    return []


def _fine_tuning(start: Generation, temperature: float) -> Settings:
    """Answers are learned at the temperature at which the policy will give them."""
    longest = files.context_length(files.located(start.weights_path)) or FineTuneJob.max_tokens
    return {"temperature": temperature, "max_tokens": min(FineTuneJob.max_tokens, longest)}


def _full_rates(settings: Settings) -> Settings:
    """The learning rates of training all weights, where that is asked for."""
    if settings.get("lora_rank") != 0:
        return {}
    names = ["learning_rate", *(["value_learning_rate"] if settings.get("critic") == "separate" else [])]
    return dict.fromkeys(names, FULL_LEARNING_RATE)


def _check_snapshot(wish: Wish, selection: Settings) -> None:
    """See that a snapshot holds what the method learns from."""
    assert wish.snapshot is not None
    name = wish.snapshot.name
    if wish.method == Method.DPO:
        if not wish.snapshot.counts.get("pairs_train"):
            raise Refused(
                _("DPO learns from comparisons, and snapshot %(name)s has none on training prompts.") % {"name": name},
                place="snapshot",
            )
        return
    unknown = [source for source in wish.sources if source not in imitation.SOURCES]
    if unknown or not wish.sources:
        raise Refused(_("Choose what is imitated: edits, preferred answers or demonstrations."), place="sources")
    selection["sources"] = list(wish.sources)
    if imitation.teaches(wish.snapshot, wish.sources):
        return
    if imitation.teaches_but_for_its_end(wish.snapshot, wish.sources):
        raise Refused(
            _(
                "SFT imitates whole answers, and those of the chosen kinds to training prompts in snapshot %(name)s "
                "were all cut off before their end: allow longer answers in the settings, or have raters edit them."
            )
            % {"name": name},
            place="snapshot",
        )
    raise Refused(
        _(
            "SFT imitates answers, and snapshot %(name)s holds none of the chosen kinds to a training prompt: have "
            "raters edit or rank answers, or import demonstrations."
        )
        % {"name": name},
        place="snapshot",
    )
