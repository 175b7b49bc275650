"""Asking for heavy work: each function makes one queued :class:`~annotate.models.Run` and rings for a worker.

At most one run of a kind is active in a project; the database decides between two people who press
the same button. What a run needs is checked here, before it is queued.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Sequence
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from annotate.models import Generation, Project, RewardModel, Run, Snapshot, Split, User
from annotate.services import Conflict, Refused, audit, estimates, evaluations, files, improving, jobs, space
from annotate.services.generations import serving
from annotate.services.jobs import Settings
from annotate.services.methods import WAYS
from annotate.services.recipe import Recipe
from annotate.services.scorers import scorers, unused_seed
from annotate.services.snapshots import create_snapshot
from annotate.services.uncertainty import unscored
from policy.contract import EvaluateJob, GenerateJob
from rewardmodel.contract import RewardJob, ScoreJob

log = logging.getLogger(__name__)

RING_SECONDS = 2.0
"""How long a request waits for the broker, at most."""


def launch_generate(
    *,
    project: Project,
    actor: User | None,
    generation: Generation | None = None,
    samples: int | None = None,
    splits: Sequence[str] = tuple(Split.values),
    best_of: int = 1,
    seed: int = 0,
    settings: Settings | None = None,
    ring: bool = True,
) -> Run:
    """Ask for answers to the project's prompts.

    :param generation: who answers; the served one when None.
    :param samples: answers a prompt; one item's worth when None.
    :param splits: prompts of which splits.
    :param best_of: tries of which the latest reward model keeps one for each answer; 1 keeps what is drawn.
    :param seed: seed of the sampling.
    :param settings: fields of the job that differ from their defaults.
    :param ring: whether to call a worker; False leaves the run to the caller.
    :raises Refused: when there are no prompts, no reward model that could choose, or the model folder will not do.
    """
    generation = generation or serving(project)
    prompts = project.prompts.filter(split__in=splits)
    if not prompts.exists():
        raise Refused(_("There are no prompts to answer: import some first."))
    model = files.check_model_folder(generation.weights_path)
    reward_model = improving.latest_reward_model(project) if best_of > 1 else None
    values = {
        "model": str(model),
        "generation": generation.number,
        "samples": samples or project.completions_per_item,
        "first_sample": jobs.next_sample(generation),
        "best_of": best_of,
        "reward_model": str(files.located(reward_model.weights_path)) if reward_model else None,
        "sampling": jobs.sampling(project, seed),
        "engine": jobs.engine(),
        **(settings or {}),
    }
    return _launch(
        project,
        Run.Kind.GENERATE,
        jobs.checked(GenerateJob, values),
        actor=actor,
        ring=ring,
        generation=generation,
        reward_model=reward_model,
        selection={"splits": list(splits), "score_after": ring},
    )


def launch_train_reward(
    *,
    project: Project,
    actor: User | None,
    snapshot: Snapshot | None = None,
    seed: int | None = None,
    settings: Settings | None = None,
    kinds: Sequence[str] = (User.Kind.HUMAN,),
    ring: bool = True,
) -> Run:
    """Ask for a reward model trained on a snapshot, on the backbone of the served generation.

    Where a worker carries it out, the open items are then scored.

    :param snapshot: what to learn from; the judgements as they are now when None.
    :param seed: one that no reward model of the project had, when None.
    :param kinds: whose judgements that takes.
    :raises Refused: when there are no comparisons to learn from.
    """
    generation = serving(project)
    model = files.check_model_folder(generation.weights_path)
    with transaction.atomic():
        snapshot = snapshot or create_snapshot(project=project, actor=actor, recipe=Recipe(kinds=list(kinds)))
        if not snapshot.counts.get("pairs_train"):
            raise Refused(_("There are no comparisons on training prompts yet: rate more items, then try again."))
        longest = min(RewardJob.max_tokens, files.context_length(model) or RewardJob.max_tokens)
        if seed is None:
            seed = unused_seed(project)
        values = {"base_model": str(model), "max_tokens": longest, "seed": seed, **(settings or {})}
        job = jobs.checked(RewardJob, values)
        return _launch(
            project,
            Run.Kind.TRAIN_REWARD,
            job,
            actor=actor,
            ring=ring,
            generation=generation,
            snapshot=snapshot,
            selection={"score_after": ring, "report_after": ring},
        )


def launch_improve(
    *,
    project: Project,
    actor: User | None,
    wish: improving.Wish | None = None,
    kinds: Sequence[str] = (User.Kind.HUMAN,),
    seed: int = 0,
    ring: bool = True,
) -> Run:
    """Ask for the next generation, made from the served one.

    Where a worker carries it out, the new generation is then evaluated beside its parent. What the wish says of that
    comparison is kept with the run, for whoever evaluates first.

    :param wish: the method and what it works with; PPO against the latest reward model when None.
    :param kinds: whose judgements a method that learns from a snapshot takes where the wish names none.
    :raises Refused: when what the method needs is not there.
    """
    wish = wish or improving.Wish()
    with transaction.atomic():
        if not WAYS[wish.method].draws and wish.snapshot is None:
            wish = dataclasses.replace(
                wish, snapshot=create_snapshot(project=project, actor=actor, recipe=Recipe(kinds=list(kinds)))
            )
        planned = improving.plan(
            project=project,
            wish=estimates.within_time(project, wish),
            seed=seed,
        )
        planned.inputs["selection"]["evaluate_after"] = ring
        return _launch(
            project,
            Run.Kind.IMPROVE,
            jobs.checked(planned.job, planned.values),
            actor=actor,
            ring=ring,
            **planned.inputs,
        )


def launch_evaluate(
    *,
    project: Project,
    actor: User | None,
    generation: Generation | None = None,
    planned: int | None = None,
    leads_rate: bool | None = None,
    begun: bool | None = None,
    seed: int = 0,
    settings: Settings | None = None,
    ring: bool = True,
) -> Run:
    """Ask for answers of a generation and of its parent to the test prompts, sampled alike and scored.

    What raters will compare of them is planned with it.

    :param generation: the newest when None.
    :param planned: how many test prompts raters compare, or how many more where they have begun; both of these and
        what None means are said in ``evaluations.plan``.
    :param leads_rate: whether leads are among those whose judgements count.
    :param begun: whether raters had begun when this was asked for; None where that does not matter.
    :raises Refused: when there is nothing to compare with, or no test prompt, or fewer than were planned, or leads come
        too late, or raters have begun meanwhile.
    """
    generation = generation or project.generations.latest("number")
    if generation.parent is None:
        raise Refused(_("Generation 0 has no parent to be compared with: improve the policy first."))
    if not project.prompts.filter(split=Split.TEST).exists():
        raise Refused(_("There are no test prompts: import some first."))
    pair = [generation.parent, generation]
    reward_model, other = scorers(generation, project.reward_models.select_related("run"))
    values: Settings = {
        "models": [{"generation": g.number, "path": str(files.check_model_folder(g.weights_path))} for g in pair],
        "reward_model": str(files.located(reward_model.weights_path)) if reward_model else None,
        "other_reward_model": str(files.located(other.weights_path)) if other else None,
        "first_sample": max(jobs.next_sample(g) for g in pair),
        "sampling": jobs.sampling(project, seed),
        "engine": jobs.engine(),
        **(settings or {}),
    }
    with transaction.atomic():
        number = evaluations.plan(newer=generation, number=planned, leads_rate=leads_rate, actor=actor, begun=begun)
        return _launch(
            project,
            Run.Kind.EVALUATE,
            jobs.checked(EvaluateJob, values),
            actor=actor,
            ring=ring,
            generation=generation,
            reward_model=reward_model,
            selection={"draw": number} | ({"other_reward_model": other.number} if other else {}),
        )


def launch_score(*, project: Project, actor: User | None, ring: bool = True) -> Run:
    """Ask for the newest reward model's scores of the open items, so that the most uncertain are offered first.

    :raises Refused: when there is no reward model, or it has scored every open item.
    """
    reward_model = project.reward_models.order_by("-number").first()
    if reward_model is None:
        raise Refused(_("There is no reward model yet: train one first."))
    if not unscored(project, reward_model).exists():
        raise Refused(_("There is nothing to score: the reward model has seen every open item."))
    job = jobs.checked(ScoreJob, {"reward_model": str(files.located(reward_model.weights_path))})
    return _launch(project, Run.Kind.SCORE, job, actor=actor, ring=ring, reward_model=reward_model)


def launch_score_texts(*, reward_model: RewardModel, count: int, actor: User | None, ring: bool = True) -> Run:
    """Ask for a reward model's scores of texts that the caller puts into the run's folder in the same transaction.

    :param count: prompts whose answers are scored.
    """
    job = jobs.checked(ScoreJob, {"reward_model": str(files.located(reward_model.weights_path))})
    return _launch(
        reward_model.project,
        Run.Kind.SCORE,
        job,
        key="score texts",
        actor=actor,
        ring=ring,
        reward_model=reward_model,
        selection={"texts": count},
    )


def call_worker(run: Run) -> None:
    """Tell the workers that a run is queued, once the current transaction is committed.

    A broker that cannot be reached loses nothing: the row stays queued and is rung again by the sweeper.
    """
    from annotate.tasks import run_job

    def send() -> None:
        try:
            run_job.delay(str(run.pk))
        except run_job.OperationalError:
            log.warning("The broker cannot be reached; run %s waits for the next sweep.", run.pk)

    def ring() -> None:
        # A broker's host that swallows packets keeps a connection waiting for minutes; a page must not wait so long.
        ringing = threading.Thread(target=send, daemon=True)
        ringing.start()
        ringing.join(RING_SECONDS)

    transaction.on_commit(ring)


def _launch(
    project: Project, kind: Run.Kind, job: Settings, *, actor: User | None, ring: bool, key: str = "", **inputs: Any
) -> Run:
    """Queue a run.

    :param key: one run of that key is active in a project at most; the kind when empty.
    """
    space.check(kind, job)
    try:
        with transaction.atomic():
            run = Run.objects.create(project=project, kind=kind, key=key or kind, job=job, requested_by=actor, **inputs)
            audit.record(f"launched {kind}", run, actor=actor, project=project)
            if ring:
                call_worker(run)
    except IntegrityError as problem:
        if "run_key_active_once" in str(problem):
            raise Conflict(
                _("“%(kind)s” is already queued or running in this project.") % {"kind": kind.label}
            ) from problem
        raise
    return run
