"""How strong preferences are and what answers score, as a reward model learns it."""

from __future__ import annotations

import pytest

from annotate.models import Completion, Criterion
from annotate.services.recipe import Recipe
from annotate.services.snapshots import create_snapshot
from annotate.services.training_rows import training_rows
from rewardmodel.contract import OPTIONAL_RANKING_COLUMNS
from tests.annotate.factory import World, collect_items, world
from tests.annotate.test_rows import ids_of, judge, pair, ranked, ranks

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage() -> World:
    made = world(prompts=3, overlap=2, completions_per_item=2, strength_on=True)
    collect_items(made, samples=2)
    return made


def rows(stage: World, **recipe: object) -> list[tuple[float | None, list[float | None] | None]]:
    snapshot = create_snapshot(project=stage.project, actor=None, recipe=Recipe(**recipe))  # type: ignore[arg-type]
    made = list(training_rows(snapshot))
    assert all(set(OPTIONAL_RANKING_COLUMNS) <= set(row) for row in made)
    return [(row["margin"], row["ratings"]) for row in made]


def test_a_preference_gives_a_third_of_its_strength_as_margin(stage: World) -> None:
    judge(stage, {**ranks(ids_of(stage), 1, 2), "strength": 2})
    assert rows(stage) == [(pytest.approx(2 / 3), None)]


def test_an_answer_is_rated_by_the_mean_of_its_scores_over_criteria_and_raters(stage: World) -> None:
    other = Criterion.objects.create(project=stage.project, name="Grammar", anchors=stage.criterion.anchors)
    first, second = ids_of(stage)
    for rater, (helpful, correct) in ((stage.bob, (2, 5)), (stage.alice, (4, 4))):
        scores = {str(first): {str(stage.criterion.pk): helpful, str(other.pk): correct}}
        judge(stage, {**ranks([first, second], 1, 2), "scores": scores}, rater=rater)
    assert rows(stage) == [(None, [3.5, None]), (None, [4.0, None])]
    assert rows(stage, aggregation="majority") == [(None, [3.75, None])]


def test_imported_strengths_make_no_margin_and_scores_of_one_source_are_kept(stage: World) -> None:
    pair(stage, "lab", strength=40.0)
    ranked(stage, "first", "pq", 1, 2, scores=(9.0, 1.0))
    ranked(stage, "second", "rs", 2, 1, scores=(0.1, 0.2))
    assert rows(stage) == [(None, None), (None, [9.0, 1.0]), (None, None)]


def test_scores_of_judgements_are_not_mixed_with_imported_ones(stage: World) -> None:
    first, second = ids_of(stage)
    judge(stage, {**ranks([first, second], 1, 2), "scores": {str(first): {str(stage.criterion.pk): 5}}})
    ranked(stage, "lab", "pq", 1, 2, scores=(900.0, 100.0))
    assert rows(stage) == [(None, [5.0, None]), (None, None)]


def test_answers_that_were_cut_off_are_told_from_whole_ones(stage: World) -> None:
    first, second = ids_of(stage)
    Completion.objects.filter(pk=second).update(finish_reason="length")
    judge(stage, {**ranks([first, second], 2, 1), "edits": {str(second): "Whole."}})
    pair(stage, "lab")
    snapshot = create_snapshot(project=stage.project, actor=None)
    told = [(row["kind"], row["cut_off"]) for row in training_rows(snapshot)]
    assert told == [("order", [False, True]), ("edit", [False, True]), ("comparison", [False, False])]
