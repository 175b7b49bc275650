"""What is measured of a reward model, from scores given by hand to answers that two people judged."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import (
    AuditEvent,
    BackgroundTask,
    Completion,
    Item,
    Judgement,
    Membership,
    RewardModel,
    RewardModelReport,
    User,
)
from annotate.services import Refused, background
from annotate.services.claiming import claim
from annotate.services.files import run_folder
from annotate.services.guidelines import mark_read
from annotate.services.judging import submit
from annotate.services.reward_reports import predictions
from annotate.services.reward_reports import rankings as rankings_tested
from annotate.services.reward_reports.report import make_report
from annotate.services.rows import rankings
from annotate.services.snapshots import create_snapshot
from rewardmodel.calibration import fit_temperature
from rewardmodel.contract import PREDICTIONS_FILE
from tests.annotate.factory import World, collect_items, run, world
from tests.annotate.lineage import ended, reward_model_of

pytestmark = pytest.mark.django_db

# Of the three answers to each prompt, in the order of their making; prompts are train, dev, test, train, dev, test.
SCORES = [[0, 0, 0], [1, 0, -1], [2, 1, 0], [0, 0, 0], [0, 1, -1], [0, 1, -1]]
LENGTHS = [[9, 9, 9], [9, 9, 9], [30, 20, 10], [9, 9, 9], [9, 9, 9], [9, 9, 9]]


def judge_all(stage: World, person: User, *, reverse_last: bool = False, scores: dict[int, int] | None = None) -> None:
    """Rank every item in the order of its answers' making; the last prompt's backwards, or with scores beside."""
    prompts = list(stage.project.prompts.order_by("pk"))
    while slot := claim(user=person, project=stage.project):
        answers = list(slot.item.completions.order_by("pk"))
        last = slot.item.prompt == prompts[-1]
        places = [3, 2, 1] if last and reverse_last else [1, 2, 3]
        raw: dict[str, Any] = {"ranks": {str(a.pk): place for a, place in zip(answers, places, strict=True)}}
        if last and scores:
            raw["scores"] = {str(a.pk): {str(stage.criterion.pk): scores[place]} for place, a in enumerate(answers)}
        submit(user=person, slot=slot, uuid=uuid.uuid4(), raw=raw)


def trained(
    stage: World, scores: list[list[int]], number: int = 1, spread: list[list[int]] | None = None
) -> RewardModel:
    """A reward model that is said to have given these scores.

    :param spread: of an ensemble of two, by how much one member's score is above and the other's below.
    """
    snapshot = create_snapshot(project=stage.project, actor=stage.alice)
    made_by = run(stage.project, "train_reward", snapshot=snapshot, generation=stage.generation, **ended())
    if number == 1:
        model = reward_model_of(made_by, weight_hash="a" * 64, loss="listmle", metrics={})
    else:
        model = RewardModel.objects.create(
            project=stage.project, number=number, run=made_by, snapshot=snapshot, loss="listmle", metrics={}
        )
    place_of = {str(prompt.pk): place for place, prompt in enumerate(stage.project.prompts.order_by("pk"))}
    rows = [
        {
            "row_id": ranking.row_id,
            "prompt_id": ranking.prompt_id,
            "split": ranking.split,
            "index": index,
            "rank": rank,
            "score": float(scores[place][index]),
            "members": [scores[place][index] + side * spread[place][index] for side in (1.0, -1.0)]
            if spread
            else [float(scores[place][index])],
            "characters": LENGTHS[place][index],
        }
        for ranking in rankings(snapshot)
        if ranking.split != "train"
        for place in (place_of[ranking.prompt_id],)
        for index, rank in enumerate(ranking.ranks)
    ]
    write(run_folder(made_by) / PREDICTIONS_FILE, rows)
    return model


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.fixture
def stage() -> World:
    stage = world(prompts=6, overlap=2, completions_per_item=3)
    collect_items(stage, samples=3)
    judge_all(stage, stage.alice, scores={0: 1, 1: 3, 2: 3})
    judge_all(stage, stage.bob, reverse_last=True)
    assert Judgement.objects.count() == 2 * Item.objects.count() == 12
    return stage


@pytest.fixture
def model(stage: World) -> RewardModel:
    return trained(stage, SCORES)


def brief(figure: dict[str, Any]) -> tuple[float, int]:
    return figure["value"], figure["n"]


def test_accuracy_stands_beside_length_and_beside_what_people_reach(model: RewardModel) -> None:
    found = make_report(reward_model=model).figures["accuracy"]
    # Of Alice's pairs 3 and 2 are right, of Bob's 3 and 1; they agree on all of one prompt and on nothing of the other.
    assert brief(found["model"]) == (9 / 12, 12)
    assert brief(found["model with rater"]) == (9 / 12, 12)
    assert brief(found["rater with rater"]) == (0.5, 12)
    nothing = {"reason": "NO_DATA", "n": 0}
    assert found["model with majority of others"] == found["rater with majority of others"] == nothing
    # One prompt's longer answers are preferred, those of the other are equally long.
    assert brief(found["length"]) == (0.75, 12)
    assert 0 <= found["model"]["low"] < 0.75 < found["model"]["high"] <= 1


def test_the_model_is_compared_with_the_same_majorities_as_a_rater() -> None:
    stage = world(prompts=6, overlap=3, completions_per_item=3)
    Membership.objects.create(user=stage.charlie, project=stage.project, role=Membership.Role.RATER)
    mark_read(user=stage.charlie, guideline=stage.project.guidelines.get())
    collect_items(stage, samples=3)
    for person in (stage.alice, stage.bob, stage.charlie):
        judge_all(stage, person, reverse_last=person == stage.bob)
    model = trained(stage, SCORES)
    found = make_report(reward_model=model).figures["accuracy"]
    # On one test prompt all agree, three pairs for each of three raters. On the other only Bob's two others do, with
    # whom he never agrees and the model on two pairs of three; Alice's and Charlie's others are divided.
    assert brief(found["model with majority of others"]) == (11 / 12, 12)
    assert brief(found["rater with majority of others"]) == (9 / 12, 12)
    # Each of Alice's and Charlie's agrees with one of two on the other prompt, none of Bob's: a third of 9.
    assert brief(found["rater with rater"]) == (pytest.approx((9 + 3) / 18), 18)


def test_raters_of_the_same_two_answers_are_known_to_be(stage: World, model: RewardModel) -> None:
    predicted = predictions.read(model.run)
    assert predicted is not None
    found = rankings_tested.judged_pairs(rankings_tested.tested(model.snapshot, predicted, None))
    # Alice and Bob each order the three pairs of both prompts, those of the last one the other way round.
    by_pair: dict[int, list[float]] = {}
    for pair, margin in zip(found.pairs, found.margins, strict=True):
        by_pair.setdefault(pair, []).append(margin)
    assert sorted(map(sorted, by_pair.values())) == [[-2, 2], [-1, 1], [-1, 1], [1, 1], [1, 1], [2, 2]]


def test_a_report_of_before_a_figure_was_measured_is_shown_without_it(model: RewardModel, client: Client) -> None:
    report = make_report(reward_model=model)
    del report.figures["accuracy"]["model with majority of others"]
    report.save()
    client.force_login(User.objects.get(username="alice"))
    html = client.get(reverse("reward_model", args=["garden", 1])).content.decode()
    assert "This reward model with one rater" in html
    assert "This reward model with a majority of raters" not in html


def test_slices_tell_raters_criteria_and_lengths_apart(stage: World, model: RewardModel) -> None:
    slices = make_report(reward_model=model).figures["slices"]
    by_rater = {entry["key"]: brief(entry) for entry in slices["rater"]}
    assert by_rater == {stage.alice.pk: (5 / 6, 6), stage.bob.pk: (4 / 6, 6)}
    # Alice scores the second and third answer above the first; the model only the second.
    assert [(entry["key"], *brief(entry)) for entry in slices["criterion"]] == [(stage.criterion.pk, 0.5, 2)]
    lengths = {entry["key"]: entry["n"] for entry in slices["lengths"]}
    # 30 to 20 is 1.5 times, not more; 20 to 10 and 30 to 10 are.
    assert lengths == {"preferred much longer": 4, "of like length": 8}
    assert sum(entry["n"] for entry in slices["position"]) == 12
    assert {entry["key"] for entry in slices["script"]} == {"Latin"}
    assert slices["norm"] == []


def test_good_and_bad_are_told_apart_by_a_threshold_from_dev(model: RewardModel) -> None:
    found = make_report(reward_model=model).figures["classification"]
    # On dev the first places have 1 and 0, the last ones −1: from 0 on. On test 3 good and 3 bad ones reach that.
    assert found["threshold"] == 0.0
    assert brief(found["precision"]) == (0.5, 6)
    assert brief(found["recall"]) == (0.75, 4)
    assert brief(found["f1"]) == pytest.approx((0.6, 8))
    assert brief(found["base"]) == (0.5, 8)


def test_the_temperature_is_the_one_that_training_fits_on_dev(model: RewardModel) -> None:
    found = make_report(reward_model=model).figures["calibration"]
    dev = np.array([1.0, 1.0, 2.0, -1.0, 1.0, 2.0] * 2)
    assert found["temperature"]["value"] == pytest.approx(fit_temperature(dev), rel=1e-3)
    assert found["before"]["n"] == found["after"]["n"] == 12


def test_pairs_that_are_ordered_wrongly_lead_to_their_judgements(stage: World, model: RewardModel) -> None:
    wrong = make_report(reward_model=model).figures["wrong"]
    by_bob = Judgement.objects.get(rater=stage.bob, item__prompt=stage.project.prompts.latest("pk"))
    texts = list(Completion.objects.filter(prompt=by_bob.item.prompt).order_by("pk").values_list("text", flat=True))
    assert len(wrong) == 3
    assert wrong[0]["judgements"] == [by_bob.pk]
    assert (wrong[0]["preferred"], wrong[0]["other"], wrong[0]["scores"]) == (texts[2], texts[1], [-1.0, 1.0])
    assert wrong[0]["confidence"] > wrong[1]["confidence"] == wrong[2]["confidence"] > 0.5


def test_pairs_are_told_by_how_far_the_members_of_an_ensemble_disagree(stage: World, client: Client) -> None:
    model = trained(stage, SCORES, spread=[[0, 0, 0]] * 5 + [[0, 1, 3]])
    found = make_report(reward_model=model).figures["disagreement"]
    # Nothing of the first test prompt; of the last, of which Alice's and Bob's orders are opposite, 1, 2 and 3.
    assert [(group["middle"], *brief(group)) for group in found] == [(0.0, 1.0, 6), (1.5, 0.5, 4), (3.0, 0.5, 2)]
    client.force_login(stage.alice)
    assert "Where the ensemble disagrees" in client.get(reverse("reward_model", args=["garden", 1])).content.decode()


def test_a_single_model_disagrees_with_nobody(stage: World, model: RewardModel, client: Client) -> None:
    assert make_report(reward_model=model).figures["disagreement"] == []
    client.force_login(stage.alice)
    assert "ensemble disagrees" not in client.get(reverse("reward_model", args=["garden", 1])).content.decode()


def test_scores_are_told_by_author_and_by_length(model: RewardModel) -> None:
    figures = make_report(reward_model=model).figures
    (row,) = figures["authors"]["rows"]
    assert (row["author"], *brief(row["mean"])) == ("generation 0", 0.5, 6)
    assert sum(row["shares"]) == pytest.approx(1)
    assert brief(figures["length"]["longer"]) == (1.0, 6)
    assert sum(group["n"] for group in figures["length"]["groups"]) == 12


def test_a_later_model_is_compared_on_the_pairs_that_both_were_tested_on(stage: World, model: RewardModel) -> None:
    judgement = Judgement.objects.get(rater=stage.alice, item__prompt=stage.project.prompts.earliest("pk"))
    raw = {"ranks": {str(a.pk): 1 for a in judgement.item.completions.all()}}
    submit(user=stage.alice, slot=judgement.slot, uuid=uuid.uuid4(), raw=raw, version=1)
    better = trained(stage, [*SCORES[:5], [2, 1, 0]], number=2)
    curve = {point["number"]: point for point in make_report(reward_model=better).figures["curve"]}
    # Of the last prompt, it has all three of Alice's pairs and none of Bob's: 9 of 12 again, three otherwise.
    assert brief(curve[2]["accuracy"]) == brief(curve[1]["accuracy"]) == (0.75, 12)
    assert brief(curve[1]["ahead"]) == (0.0, 12)
    assert curve[2]["ahead"] is None
    assert (curve[1]["pairs"], curve[2]["pairs"]) == (12, 9)


def test_a_model_whose_predictions_are_not_here_is_refused_with_advice(stage: World, model: RewardModel) -> None:
    (run_folder(model.run) / PREDICTIONS_FILE).unlink()
    with pytest.raises(Refused, match="train it again"):
        make_report(reward_model=model)


def test_a_model_without_test_rankings_is_measured_all_the_same(stage: World) -> None:
    model = trained(stage, SCORES)
    path = run_folder(model.run) / PREDICTIONS_FILE
    rows = [row for row in pq.read_table(path).to_pylist() if row["split"] == "dev"]
    pq.write_table(pa.Table.from_pylist(rows), path)
    figures = make_report(reward_model=model).figures
    assert figures["accuracy"]["model"] == figures["classification"] == {"reason": "NO_DATA", "n": 0}
    assert (figures["wrong"], figures["authors"]["rows"]) == ([], [])


def test_a_lead_has_a_model_measured_and_decides_on_its_page(stage: World, model: RewardModel, client: Client) -> None:
    client.force_login(stage.alice)
    page = reverse("reward_model", args=["garden", 1])
    assert "has not been measured" in client.get(page).content.decode()
    asked = client.post(reverse("measure", args=["garden", 1]))
    task = BackgroundTask.objects.get()
    assert asked["Location"] == reverse("background_task", args=["garden", task.pk])
    assert AuditEvent.objects.latest("pk").action == "asked for report"
    background.carry_on(task.pk)
    assert client.get(asked["Location"])["Location"] == page
    html = client.get(page).content.decode()
    wrong = make_report(reward_model=model).figures["wrong"][0]
    assert reverse("judgement", args=["garden", wrong["judgements"][0]]) in html
    for figure in ("75.0%", "83.3%", "Two raters of one pair agree in 50.0%", "bob", "Helpfulness", "Generation 0"):
        assert figure in html


def test_measuring_again_replaces_what_was_found(model: RewardModel) -> None:
    first = make_report(reward_model=model)
    RewardModelReport.objects.update(figures={}, seconds=-1)
    second = make_report(reward_model=model)
    assert (second.pk, second.figures) == (first.pk, first.figures)
    assert second.seconds >= 0
