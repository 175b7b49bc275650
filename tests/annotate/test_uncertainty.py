"""Open items by how little a reward model knows of them: how uncertain they are, and who is offered what first."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from annotate.models import Generation, Item, Lease, Prompt, Purpose, RewardModel, Run, Signal, Slot
from annotate.services import Refused, claiming, register, uncertainty
from annotate.services.claiming import claim
from annotate.services.execute import execute
from annotate.services.files import run_folder
from annotate.services.items import make_evaluate_items
from annotate.services.ondemand import make_on_demand
from annotate.services.runs import launch_generate, launch_score, launch_train_reward
from annotate.services.simulate import judge_everything
from annotate.stats.uncertainty import mean_pair_entropy
from tests.annotate.factory import World, collect_items, completions, run, world
from tests.policy.conftest import make_model

pytestmark = pytest.mark.django_db


def reward_model_of(stage: World, scale: float = 1.0) -> RewardModel:
    snapshot = stage.project.snapshots.create(name="v1", sha256="0" * 64, recipe={}, counts={})
    return RewardModel.objects.create(
        project=stage.project,
        number=1,
        run=run(stage.project, "train_reward", state=Run.State.QUEUED),
        snapshot=snapshot,
        weights_path="nowhere",
        manifest_sha256="0" * 64,
        loss="listmle",
        metrics={"score_scale": scale},
    )


def rows(item: Item, *scores: float) -> list[dict[str, object]]:
    return [{"row_id": str(item.pk), "index": index, "score": score} for index, score in enumerate(scores)]


def test_entropy_is_a_bit_for_equals_and_what_the_odds_say_otherwise() -> None:
    assert mean_pair_entropy([0.7, 0.7]) == pytest.approx(1.0)
    # Odds of 3 to 1: −¾·log₂ ¾ − ¼·log₂ ¼.
    assert mean_pair_entropy([math.log(3), 0.0]) == pytest.approx(0.8112781)
    # Of three pairs, one is open and two are all but certain.
    assert mean_pair_entropy([40.0, 0.0, 0.0]) == pytest.approx(1 / 3)
    assert mean_pair_entropy([1e4, -1e4]) == 0.0


def test_what_an_ensemble_disagrees_on_is_open() -> None:
    # A variance of 24/π of the difference shrinks it by √(1 + 3) = 2, here from ln 9 to ln 3.
    assert mean_pair_entropy([math.log(9), 0.0], [12 / math.pi, 12 / math.pi]) == pytest.approx(0.8112781)
    assert mean_pair_entropy([math.log(3), 0.0], [0.0, 0.0]) == mean_pair_entropy([math.log(3), 0.0])


def test_an_item_on_which_the_members_disagree_comes_before_one_on_which_they_agree() -> None:
    stage = world(prompts=2, completions_per_item=2, random_share=0)
    collect_items(stage, samples=2)
    agreed, disputed = Item.objects.order_by("pk")
    scored = run(stage.project, "score", reward_model=reward_model_of(stage, scale=2.0))
    found = [
        {**row, "variance": variance}
        for item, variance in ((agreed, 0.0), (disputed, 48 / math.pi))
        for row in rows(item, 2 * math.log(9), 0.0)
    ]
    uncertainty.register(scored, found)
    disputed.refresh_from_db()
    assert disputed.uncertainty == pytest.approx(0.8112781)
    first = claim(user=stage.bob, project=stage.project)
    assert first is not None
    assert first.item == disputed


def test_the_item_of_which_least_is_known_is_offered_first_and_everything_once_before_anything_twice() -> None:
    stage = world(prompts=3, overlap=2, completions_per_item=2, random_share=0)
    collect_items(stage, samples=2)
    sure, open_one, unsure = Item.objects.order_by("pk")
    scored = run(stage.project, "score", reward_model=reward_model_of(stage))
    found = [*rows(sure, 5.0, -5.0), *rows(open_one, 0.1, 0.1), *rows(unsure, 1.0, 0.0)]
    uncertainty.register(scored, found)
    order = [(slot.item_id, slot.number) for slot in Slot.objects.order_by("priority").only("item_id", "number")]
    by_need = [open_one.pk, unsure.pk, sure.pk]
    assert order == [(pk, 0) for pk in by_need] + [(pk, 1) for pk in by_need]
    first = claim(user=stage.bob, project=stage.project)
    assert first is not None
    assert first.item == open_one


@pytest.mark.parametrize(("drawn", "at_random"), [(0.19, True), (0.21, False)])
def test_a_share_of_the_items_is_drawn_at_random_and_the_lease_says_which(
    monkeypatch: pytest.MonkeyPatch, drawn: float, at_random: bool
) -> None:
    stage = world(prompts=2, random_share=0.2)
    collect_items(stage)
    next_one, lucky = Slot.objects.order_by("pk")
    Slot.objects.filter(pk=next_one.pk).update(priority=1, lottery=2)
    Slot.objects.filter(pk=lucky.pk).update(priority=2, lottery=1)
    monkeypatch.setattr(claiming, "draw", lambda: drawn)
    assert claim(user=stage.bob, project=stage.project) == (lucky if at_random else next_one)
    lease = Lease.objects.get()
    assert (lease.at_random, lease.random_share) == (at_random, 0.2)


def test_what_is_asked_of_somebody_by_name_was_not_drawn() -> None:
    stage = world(prompts=1, random_share=1.0)
    collect_items(stage)
    make_on_demand(item=Item.objects.get(), purpose=Purpose.GOLD, rater=stage.bob, actor=None)
    claim(user=stage.bob, project=stage.project)
    lease = Lease.objects.get()
    assert (lease.at_random, lease.random_share) == (None, None)


def test_blind_pairs_come_first_in_the_lottery_too() -> None:
    stage = world(prompts=2, random_share=1.0)
    collect_items(stage)
    later = Generation.objects.create(project=stage.project, number=1, parent=stage.generation, weights_path="x")
    evaluated = completions(stage.generation, samples=1, kind="evaluate", first=10)
    completions(later, samples=1, kind="evaluate", made_by=evaluated)
    Prompt.objects.update(split="test")
    assert make_evaluate_items(project=stage.project, newer=later, older=stage.generation, run=evaluated, seed=0) == 2
    offered = [claim(user=person, project=stage.project) for person in (stage.alice, stage.bob)]
    assert [slot.purpose for slot in offered if slot] == ["evaluate", "evaluate"]


def test_scores_are_read_in_the_units_of_the_loss_that_made_them() -> None:
    stage = world(prompts=1, completions_per_item=2)
    collect_items(stage, samples=2)
    item = Item.objects.get()
    # A difference of 2·ln 3 on a scale that was stretched by 2 is one of ln 3.
    scored = run(stage.project, "score", reward_model=reward_model_of(stage, scale=2.0))
    uncertainty.register(scored, rows(item, 2 * math.log(3), 0.0))
    item.refresh_from_db()
    assert item.uncertainty == pytest.approx(0.8112781)


def test_registering_the_same_scores_again_changes_nothing() -> None:
    stage = world(prompts=1, completions_per_item=2)
    collect_items(stage, samples=2)
    scored = run(stage.project, "score", reward_model=reward_model_of(stage))
    for _again in range(2):
        uncertainty.register(scored, rows(Item.objects.get(), 1.0, 0.0))
    signals = Signal.objects.order_by("completion__sample")
    assert list(signals.values_list("value", "source", "version")) == [
        (1.0, "reward_model", "1"),
        (0.0, "reward_model", "1"),
    ]


def test_scoring_without_a_reward_model_or_open_items_is_refused() -> None:
    stage = world(prompts=1, completions_per_item=2)
    with pytest.raises(Refused, match="no reward model"):
        launch_score(project=stage.project, actor=stage.alice, ring=False)
    reward_model_of(stage)
    with pytest.raises(Refused, match="nothing to score"):
        launch_score(project=stage.project, actor=stage.alice, ring=False)
    assert not Run.objects.filter(kind="score").exists()


@pytest.fixture
def trained(settings) -> Iterator[World]:
    """A project with a tiny model, judged answers of train prompts and a reward model; open items are left."""
    settings.HONE_ENGINE = "transformers"
    folder = make_model(Path(settings.MODELS_DIR) / "tiny")
    stage = world(prompts=6, max_tokens=8)
    Generation.objects.update(weights_path=str(folder))
    execute(launch_generate(project=stage.project, actor=None, ring=False).pk)
    judge_everything(project=stage.project, seed=1)
    job = {"epochs": 1, "dtype": "float32", "threads": 1}
    execute(launch_train_reward(project=stage.project, actor=None, kinds=("simulated",), settings=job, ring=False).pk)
    execute(launch_generate(project=stage.project, actor=None, ring=False).pk)
    yield stage
    shutil.rmtree(folder)


@pytest.mark.django_db(transaction=True)
def test_a_run_scores_the_open_items_and_nothing_else(trained: World) -> None:
    asked = launch_score(project=trained.project, actor=trained.alice, ring=False)
    assert execute(asked.pk)
    asked.refresh_from_db()
    assert asked.state == "succeeded", asked.error + asked.log_tail
    open_items = Item.objects.filter(slots__state="free")
    assert open_items.count() == 6
    assert all(0 < item.uncertainty <= 1 for item in open_items if item.uncertainty is not None)
    assert set(Item.objects.filter(uncertainty__isnull=False)) == set(open_items)
    written = pq.read_table(run_folder(asked) / "output" / "scores-00000.parquet").to_pylist()
    item = open_items.first()
    assert item is not None
    own = [row["score"] for row in written if row["row_id"] == str(item.pk)]
    stored = Signal.objects.filter(run=asked, completion__in=item.completions.all())
    assert list(stored.order_by("completion__entries__position").values_list("value", flat=True)) == own
    with pytest.raises(Refused, match="nothing to score"):
        launch_score(project=trained.project, actor=trained.alice, ring=False)


@pytest.mark.parametrize(("random_share", "runs"), [(0.2, 1), (1.0, 0)])
def test_new_answers_are_scored_by_themselves_unless_everything_is_drawn_at_random(
    random_share: float, runs: int
) -> None:
    stage = world(prompts=1, random_share=random_share)
    collect_items(stage)
    reward_model_of(stage)
    ended = run(stage.project, "generate", selection={"score_after": True}, requested_by=stage.alice)
    register.follow_up(ended, None)
    assert Run.objects.filter(kind="score", state="queued", requested_by=stage.alice).count() == runs


def test_a_new_reward_model_is_measured_by_itself() -> None:
    stage = world(prompts=1)
    made = reward_model_of(stage)
    trained = run(stage.project, "train_reward", selection={"report_after": True}, requested_by=stage.alice)
    register.follow_up(trained, made)
    task = stage.project.background_tasks.get()
    assert (task.kind, task.asked, task.created_by) == ("reward_report", {"reward_model": 1}, stage.alice)
