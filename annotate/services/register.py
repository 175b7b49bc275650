"""Registering what a run made: completions while it runs, models when it is done.

Registering twice changes nothing: completions are unique by generation, prompt and sample, and a
model belongs to its run.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from django.db import transaction
from django.utils.translation import gettext as _

from annotate.models import Completion, Generation, RewardModel, Run, Signal
from annotate.services import Refused, items, uncertainty
from annotate.services.files import read_json, run_folder, stored
from annotate.services.methods import method_of, spec_kind
from rewardmodel.publish import BrokenFolder, file_sha256, verify

log = logging.getLogger(__name__)

MODEL_FIELDS: dict[str, type] = {"model": str, "manifest_sha256": str, "metrics": dict}
SHARD_FIELDS: dict[str, type] = {"shards": dict, "metrics": dict}
RESULT_FIELDS = {
    Run.Kind.GENERATE: SHARD_FIELDS,
    Run.Kind.EVALUATE: SHARD_FIELDS,
    Run.Kind.TRAIN_REWARD: MODEL_FIELDS,
    Run.Kind.IMPROVE: MODEL_FIELDS,
    Run.Kind.SCORE: SHARD_FIELDS,
}
"""What ``result.json`` must hold beside its kind."""


def shard(run: Run, name: str, sha256: str) -> None:
    """Register a published file of completions or scores; completions of a *generate* run become items at once.

    :param name: the file's path within the run directory.
    :param sha256: of the file, as the job announced it.
    :raises Refused: when the file is not the one that the job wrote.
    """
    path = _inside(run, name)
    if not path.is_file() or file_sha256(path) != sha256:
        raise Refused(_("%(file)s is not the file that the run wrote; nothing of it was registered.") % {"file": path})
    rows = pq.read_table(path).to_pylist()
    if run.kind == Run.Kind.SCORE:
        if "texts" not in run.selection:
            with transaction.atomic():
                uncertainty.register(run, rows)
        return
    generations = {g.number: g for g in run.project.generations.all()}
    sampling = run.job["sampling"]
    with transaction.atomic():
        Completion.objects.bulk_create(
            (
                Completion(
                    prompt_id=int(row["prompt_id"]),
                    generation=generations[row["generation"]],
                    sample=row["sample"],
                    run=run,
                    text=row["text"].replace("\x00", ""),
                    token_count=row["token_count"],
                    finish_reason=row["finish_reason"],
                    sum_logprob=row["sum_logprob"],
                    sampling={k: sampling[k] for k in ("temperature", "top_p", "max_tokens")} | _chosen_among(run, row),
                    seed=row["seed"],
                    engine=row["engine"],
                    engine_version=row["engine_version"],
                )
                for row in rows
            ),
            ignore_conflicts=True,
        )
        _register_scores(run, rows, generations)
        if run.kind == Run.Kind.GENERATE:
            assert run.generation is not None
            items.make_collect_items(project=run.project, generation=run.generation)


def _chosen_among(run: Run, row: dict[str, Any]) -> dict[str, Any]:
    """Of an answer that is the best of several: of how many, by which reward model, and its score."""
    count = run.job.get("best_of", 1)
    if count == 1 or run.reward_model is None:
        return {}
    return {"best_of": count, "reward_model": run.reward_model.number, "score": row["score"]}


def _register_scores(run: Run, rows: list[dict[str, Any]], generations: dict[int, Generation]) -> None:
    other = run.project.reward_models.filter(number=run.selection.get("other_reward_model")).first()
    by_column = {"score": run.reward_model, "other_score": other}
    if not any(by_column.values()):
        return
    found = Completion.objects.filter(run=run).only("generation_id", "prompt_id", "sample")
    ids = {(c.generation_id, c.prompt_id, c.sample): c.pk for c in found}
    Signal.objects.bulk_create(
        (
            Signal(
                project=run.project,
                completion_id=ids[generations[row["generation"]].pk, int(row["prompt_id"]), row["sample"]],
                source="reward_model",
                version=str(model.number),
                reward_model=model,
                run=run,
                value=row[column],
            )
            for column, model in by_column.items()
            if model is not None
            for row in rows
            if row.get(column) is not None
        ),
        ignore_conflicts=True,
    )


def read_result(run: Run) -> dict[str, Any]:
    """Read and check ``result.json`` of a run directory.

    :raises Refused: naming the file, when it is missing or not the result of this run.
    """
    path = run_folder(run) / "result.json"
    if not path.exists():
        raise Refused(_("The process ended without %(file)s.") % {"file": path})
    needed = {"kind": str, **RESULT_FIELDS[Run.Kind(run.kind)]}
    try:
        outcome: Any = read_json(path.read_text())
    except ValueError:
        outcome = None
    fits = isinstance(outcome, dict) and all(isinstance(outcome.get(name), kind) for name, kind in needed.items())
    if not fits or outcome["kind"] != spec_kind(run):
        raise Refused(
            _(
                "%(file)s is not the result of this run, so nothing was registered: delete it and resume the run "
                "to have it made again."
            )
            % {"file": path}
        )
    result: dict[str, Any] = outcome
    return result


def result(run: Run, outcome: dict[str, Any]) -> Generation | RewardModel | None:
    """Register the result of a finished run, in the caller's transaction.

    :param outcome: what :func:`read_result` gave.
    :returns: the model that it made, if it made one.
    :raises Refused: when a file that it published is not as it was published.
    """
    type(run.project).objects.select_for_update().get(pk=run.project_id)
    if run.kind == Run.Kind.TRAIN_REWARD:
        return _register_reward_model(run, outcome)
    if run.kind == Run.Kind.IMPROVE:
        return _register_generation(run, outcome)
    for name, sha256 in outcome["shards"].items():
        shard(run, name, sha256)  # again, for those that a supervisor did not live to register
    if run.kind == Run.Kind.EVALUATE:
        _register_evaluation(run, outcome)
    return None


def _register_reward_model(run: Run, outcome: dict[str, Any]) -> RewardModel:
    assert run.snapshot is not None
    folder = _published(run, outcome)
    latest = run.project.reward_models.order_by("-number").first()
    return RewardModel.objects.create(
        project=run.project,
        number=latest.number + 1 if latest else 1,
        run=run,
        snapshot=run.snapshot,
        weights_path=stored(folder),
        manifest_sha256=outcome["manifest_sha256"],
        loss=run.job["loss"],
        metrics=outcome["metrics"],
    )


def _register_generation(run: Run, outcome: dict[str, Any]) -> Generation:
    folder = _published(run, outcome)
    return Generation.objects.create(
        project=run.project,
        number=run.project.generations.latest("number").number + 1,
        parent=run.generation,
        run=run,
        weights_path=stored(folder),
        manifest_sha256=outcome["manifest_sha256"],
        how_made={"method": method_of(run).label, "job": run.job, "metrics": outcome["metrics"]},
    )


def _register_evaluation(run: Run, outcome: dict[str, Any]) -> None:
    newer = run.generation
    assert newer is not None
    assert newer.parent is not None
    newer.gate = {"run": str(run.pk), **outcome["metrics"]}
    newer.save(update_fields=["gate"])
    items.make_evaluate_items(
        project=run.project,
        newer=newer,
        older=newer.parent,
        run=run,
        seed=run.job["sampling"]["seed"],
        evaluation=newer.evaluations.last(),
        number=run.selection.get("draw"),
    )


def _published(run: Run, outcome: dict[str, Any]) -> Path:
    folder = _inside(run, outcome["model"])
    try:
        verify(folder, outcome["manifest_sha256"])
    except BrokenFolder as problem:
        sentence = _("%(problem)s Nothing was registered; delete %(file)s and resume the run to have it made again.")
        raise Refused(sentence % {"problem": problem, "file": run_folder(run) / "result.json"}) from problem
    return folder


def _inside(run: Run, name: str) -> Path:
    """A path within the run directory, which a name in a file that was changed by hand could lead out of."""
    path = run_folder(run) / name
    if not path.resolve().is_relative_to(run_folder(run).resolve()):
        raise Refused(_("%(file)s is not in the folder of its run, so nothing was registered.") % {"file": path})
    return path


def follow_up(run: Run, made: Generation | RewardModel | None) -> None:
    """Ask for what naturally comes next.

    A new reward model is measured for the leads; a new generation is evaluated, so that raters can compare it; after
    new answers or a new reward model the open items are scored, so that raters get the most uncertain first.
    """
    from annotate.services import background, runs
    from annotate.services.reward_reports import report

    if isinstance(made, RewardModel) and run.selection.get("report_after"):
        asked = {"reward_model": made.number}
        background.ask(project=run.project, kind=report.KIND, asked=asked, actor=run.requested_by)
    try:
        if isinstance(made, Generation) and run.selection.get("evaluate_after"):
            runs.launch_evaluate(project=run.project, actor=run.requested_by, generation=made)
        if run.selection.get("score_after") and run.project.random_share < 1:
            runs.launch_score(project=run.project, actor=run.requested_by)
    except Refused as refusal:
        log.info("nothing is asked for after run %s: %s", run.pk, refusal)
