"""Runs: what is refused before it is queued, who carries one out, and how it ends."""

from __future__ import annotations

import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connections

from annotate.models import AuditEvent, Completion, Generation, Item, RewardModel, Run
from annotate.services import Conflict, Refused, gate, promotion
from annotate.services.execute import execute
from annotate.services.files import check_model_folder, run_folder
from annotate.services.generations import serving
from annotate.services.items import make_evaluate_items
from annotate.services.loop import Loop
from annotate.services.runs import launch_evaluate, launch_generate, launch_improve, launch_train_reward
from tests.annotate.factory import World, completions, model_folder, world
from tests.policy.conftest import make_model

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage() -> World:
    return world(prompts=3)


@pytest.fixture
def engine_in_process(settings) -> None:
    settings.HONE_ENGINE = "transformers"


@pytest.fixture
def real_model(stage: World, engine_in_process: None) -> Iterator[Path]:
    """A tiny model in place of the stage's generation 0."""
    folder = Path(settings.MODELS_DIR) / "tiny"
    shutil.rmtree(folder, ignore_errors=True)
    make_model(folder)
    Generation.objects.filter(pk=stage.generation.pk).update(weights_path=str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def next_generation(stage: World) -> Generation:
    return Generation.objects.create(
        project=stage.project, number=1, parent=stage.generation, weights_path=stage.generation.weights_path
    )


def test_the_same_kind_twice_is_refused_and_leaves_one_run(stage: World) -> None:
    launch_generate(project=stage.project, actor=stage.alice, ring=False)
    with pytest.raises(Conflict, match="already queued or running"):
        launch_generate(project=stage.project, actor=stage.alice, ring=False)
    assert Run.objects.count() == 1
    assert AuditEvent.objects.filter(action="launched generate", actor=stage.alice).count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_leads_pressing_the_same_button_at_once_start_one_run() -> None:
    stage = world(prompts=1)
    outcomes: list[str] = []

    def press() -> None:
        try:
            launch_generate(project=stage.project, actor=stage.alice, ring=False)
            outcomes.append("run")
        except Conflict:
            outcomes.append("conflict")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=press) for _n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["conflict"] * 5 + ["run"]


def test_a_reward_model_without_comparisons_is_refused_and_leaves_nothing(stage: World) -> None:
    with pytest.raises(Refused, match="no comparisons"):
        launch_train_reward(project=stage.project, actor=stage.alice, ring=False)
    assert not Run.objects.exists()
    assert not stage.project.snapshots.exists()


def test_improving_without_a_reward_model_is_refused(stage: World) -> None:
    with pytest.raises(Refused, match="no reward model"):
        launch_improve(project=stage.project, actor=stage.alice, ring=False)


def test_evaluating_the_base_model_is_refused(stage: World) -> None:
    with pytest.raises(Refused, match="no parent"):
        launch_evaluate(project=stage.project, actor=stage.alice, ring=False)


def test_a_setting_out_of_range_is_refused_by_name(stage: World) -> None:
    with pytest.raises(Refused, match="samples must be at least 1"):
        launch_generate(project=stage.project, actor=None, settings={"samples": 0}, ring=False)
    with pytest.raises(Refused, match="no field 'sample'"):
        launch_generate(project=stage.project, actor=None, settings={"sample": 1}, ring=False)


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("config.json", "config.json is missing"),
        ("model.safetensors", "no safetensors weights"),
    ],
)
def test_a_model_folder_that_will_not_do_is_refused_with_what_is_missing(missing: str, sentence: str) -> None:
    folder = model_folder("incomplete")
    (folder / missing).unlink()
    with pytest.raises(Refused, match=sentence):
        check_model_folder(str(folder))


def test_a_model_folder_outside_the_allowed_roots_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="outside the allowed folders"):
        check_model_folder(str(tmp_path))


def test_a_generate_run_makes_completions_and_items_that_know_where_they_come_from(
    stage: World, real_model: Path
) -> None:
    stage.project.max_tokens = 4
    stage.project.save()
    asked = launch_generate(project=stage.project, actor=stage.alice, seed=7, ring=False)
    assert execute(asked.pk)
    asked.refresh_from_db()
    assert asked.state == "succeeded", asked.error + asked.log_tail
    made = Completion.objects.filter(run=asked)
    assert made.count() == 12
    first = made[0]
    assert (first.generation, first.engine, first.sampling["temperature"]) == (stage.generation, "transformers", 0.7)
    assert first.engine_version
    assert first.sum_logprob is not None
    assert asked.events.count() >= 1
    assert Item.objects.count() == 3
    assert (run_folder(asked) / "spec.json").exists()


def test_a_run_that_fails_keeps_its_error_and_last_log_lines_and_makes_nothing(stage: World, real_model: Path) -> None:
    (real_model / "config.json").write_text("{}")
    asked = launch_generate(project=stage.project, actor=None, ring=False)
    (real_model / "config.json").unlink()
    assert execute(asked.pk)
    asked.refresh_from_db()
    assert asked.state == "failed"
    assert "config.json" in asked.error
    assert "error: " in asked.log_tail
    assert not Completion.objects.exists()


def test_a_run_is_carried_out_once_however_often_it_is_rung(stage: World, real_model: Path) -> None:
    asked = launch_generate(project=stage.project, actor=None, splits=["train"], ring=False)
    assert [execute(asked.pk), execute(asked.pk)] == [True, False]
    asked.refresh_from_db()
    assert (asked.attempt, asked.state) == (1, "succeeded")


def test_evaluate_items_pair_one_answer_of_each_generation_a_test_prompt(stage: World) -> None:
    newer = next_generation(stage)
    earlier = completions(newer, samples=8, kind="evaluate")
    completions(stage.generation, samples=8, kind="evaluate", made_by=earlier)
    evaluated = completions(newer, samples=8, kind="evaluate", first=8)
    completions(stage.generation, samples=8, kind="evaluate", first=8, made_by=evaluated)
    assert make_evaluate_items(project=stage.project, newer=newer, older=stage.generation, run=evaluated, seed=1) == 1
    item = Item.objects.get()
    assert (item.purpose, item.prompt.split) == ("evaluate", "test")
    assert {c.generation_id for c in item.completions.all()} == {newer.pk, stage.generation.pk}
    assert {c.run for c in item.completions.all()} == {evaluated}  # settings may have changed since the earlier one
    assert make_evaluate_items(project=stage.project, newer=newer, older=stage.generation, run=evaluated, seed=1) == 0


def test_promotion_serves_the_generation_and_a_rejection_rolls_back(stage: World) -> None:
    newer = next_generation(stage)
    assert serving(stage.project) == stage.generation
    promotion.promote(generation=newer, actor=stage.alice)
    assert serving(stage.project) == newer
    assert Run.objects.get().generation == newer
    with pytest.raises(Refused, match="already"):
        promotion.promote(generation=newer, actor=stage.alice)
    promotion.reject(generation=newer, actor=stage.alice)
    assert serving(stage.project) == stage.generation
    assert list(AuditEvent.objects.filter(object_type="generation").values_list("action", flat=True)) == [
        "rejected",
        "promoted",
    ]


def test_the_base_model_is_neither_promoted_nor_rejected(stage: World) -> None:
    with pytest.raises(Refused, match="base model"):
        promotion.reject(generation=stage.generation, actor=stage.alice)


def test_an_unknown_run_is_not_carried_out() -> None:
    assert not execute(uuid.uuid4())


@pytest.mark.django_db(transaction=True)
def test_the_whole_loop_runs_on_a_tiny_model(settings) -> None:
    """Every stage for real, small: generate, judge, train, improve, evaluate, compare, promote."""
    settings.HONE_ENGINE = "transformers"
    folder = Path(settings.MODELS_DIR) / "tiny-loop"
    shutil.rmtree(folder, ignore_errors=True)
    make_model(folder)
    stage = world(prompts=9, max_tokens=12)
    Generation.objects.update(weights_path=str(folder))
    small = {
        "train_reward": {"epochs": 1},
        "improve": {"updates": 2, "prompts_per_update": 3, "samples_per_prompt": 2, "minibatches": 1, "epochs": 1},
    }
    loop = Loop(stage.project, seed=3, say=lambda line: None, settings=small)
    loop.go_round()
    report = loop.report()
    newer = stage.project.generations.get(number=1)
    assert newer.state == "promoted"
    assert newer.run is not None
    assert newer.run.reward_model == RewardModel.objects.get()
    assert RewardModel.objects.get().snapshot.revisions.exists()
    assert report["judgements"] == 9 * 2 + 3
    assert report["completions"] == 9 * 8 + 3 * 8 * 2
    assert [g["k"] for g in report["generations"]] == [0, 1]
    assert report["generations"][1]["n"] == 3 * 8
    assert report["win_rate"][0]["n"] == 3
    assert 0 <= report["reward_model"]["accuracy_all"] <= 1
    assert [update["update"] for update in report["policy"]] == [1, 2]
    assert set(report["seconds"]) == {"generate", "judge", "train_reward", "improve", "evaluate", "total"}
    another_reward_model_shows_how_far_the_first_drifted(stage, newer)


def another_reward_model_shows_how_far_the_first_drifted(stage: World, newer: Generation) -> None:
    """Train one with the next seed, evaluate again, and find both models' scores of the same answers."""
    shared: dict[str, Any] = {"project": stage.project, "actor": None, "ring": False}
    assert gate.report(newer).disagreement.passed is None
    second = launch_train_reward(kinds=("simulated",), settings={"epochs": 1}, **shared)
    assert second.job["seed"] == 4
    assert execute(second.pk)
    again = launch_evaluate(seed=9, **shared)
    assert execute(again.pk)
    found = gate.report(newer)
    assert found.reward_model is not None
    assert found.other_model is not None
    assert (found.reward_model.number, found.other_model.number) == (1, 2)
    assert (found.reward.change.n, found.disagreement.change.n) == (3, 3)
    values: dict[int, dict[int, float]] = {1: {}, 2: {}}
    for number, completion, value in again.signals.values_list("reward_model__number", "completion", "value"):
        values[number][completion] = value
    assert set(values[1]) == set(values[2]) == set(Completion.objects.filter(run=again).values_list("pk", flat=True))
    of_newer = Completion.objects.filter(run=again, generation=newer).values_list("pk", flat=True)
    gaps = [values[1][pk] - values[2][pk] for pk in of_newer]
    assert found.disagreement.newer.value == pytest.approx(sum(gaps) / len(gaps))
