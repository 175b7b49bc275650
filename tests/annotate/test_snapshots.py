"""Snapshots freeze judgements; exports read them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from annotate.models import Comparison, Completion, Judgement, Slot, User
from annotate.services import Refused
from annotate.services.claiming import claim
from annotate.services.items import make_collect_items
from annotate.services.judging import submit
from annotate.services.recipe import Recipe
from annotate.services.rows import rankings
from annotate.services.snapshots import create_snapshot
from tests.annotate.factory import World, collect_items, completions, user, world

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage() -> World:
    made = world(prompts=3)
    collect_items(made)
    return made


def judge(stage: World, raw: dict[str, Any] | None = None, *, rater: User | None = None, split: str = "train") -> Slot:
    """Judge the item of a split: the order of ids is the order of merit unless said otherwise."""
    rater = rater or stage.bob
    Slot.objects.filter(item__prompt__split=split).update(priority=-1)
    slot = claim(user=rater, project=stage.project)
    assert slot is not None
    Slot.objects.update(priority=0)
    ids = sorted(slot.item.completions.values_list("pk", flat=True))
    raw = raw or {"ranks": {str(pk): place for place, pk in enumerate(ids, start=1)}}
    submit(user=rater, slot=slot, uuid=uuid.uuid4(), raw=raw)
    return slot


def ids_of(stage: World, split: str) -> list[int]:
    return sorted(Completion.objects.filter(prompt__split=split).values_list("pk", flat=True))


def test_a_ranking_of_four_makes_six_pairs(stage: World) -> None:
    judge(stage)
    snapshot = create_snapshot(project=stage.project, actor=stage.alice)
    assert snapshot.counts["pairs_train"] == 6
    (ranking,) = rankings(snapshot)
    assert ranking.ranks == [1, 2, 3, 4]
    assert (ranking.split, len(list(ranking.pairs()))) == ("train", 6)


def test_ties_make_no_pair_and_unranked_answers_none_either(stage: World) -> None:
    a, b, c, _d = ids_of(stage, "train")
    judge(stage, {"ranks": {str(a): 1, str(b): 1, str(c): 2}})
    (ranking,) = rankings(create_snapshot(project=stage.project, actor=None))
    assert ranking.ranks == [1, 1, 2, None]
    assert len(list(ranking.pairs())) == 2


def test_scores_order_the_answers_where_there_are_no_ranks(stage: World) -> None:
    a, b, c, _d = ids_of(stage, "train")
    criterion = str(stage.criterion.pk)
    judge(stage, {"scores": {str(a): {criterion: 2}, str(b): {criterion: 5}, str(c): {criterion: 2}}})
    (ranking,) = rankings(create_snapshot(project=stage.project, actor=None))
    assert ranking.ranks == [2, 1, 2, None]


def test_an_edit_is_preferred_to_its_original(stage: World) -> None:
    a, *_rest = ids_of(stage, "train")
    judge(stage, {"edits": {str(a): "Better."}})
    (ranking,) = rankings(create_snapshot(project=stage.project, actor=None))
    assert ranking.responses == ["Better.", Completion.objects.get(pk=a).text]
    assert ranking.ranks == [1, 2]


def test_comparisons_without_a_rater_are_rankings_too(stage: World) -> None:
    a, b, *_rest = ids_of(stage, "dev")
    chosen, rejected = Completion.objects.get(pk=a), Completion.objects.get(pk=b)
    Comparison.objects.create(
        project=stage.project, prompt=chosen.prompt, chosen=chosen, rejected=rejected, source="import"
    )
    (ranking,) = rankings(create_snapshot(project=stage.project, actor=None))
    assert (ranking.responses, ranking.split) == ([chosen.text, rejected.text], "dev")


def test_equal_content_is_the_same_snapshot(stage: World) -> None:
    judge(stage)
    assert create_snapshot(project=stage.project, actor=None) == create_snapshot(project=stage.project, actor=None)


def test_a_snapshot_is_rebuilt_equal_after_later_edits(stage: World) -> None:
    slot = judge(stage)
    snapshot = create_snapshot(project=stage.project, actor=None)
    before = list(rankings(snapshot))
    a, b, *_rest = ids_of(stage, "train")
    raw = {"ranks": {str(b): 1, str(a): 2}}
    submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=raw, version=1)
    assert list(rankings(snapshot)) == before
    newer = create_snapshot(project=stage.project, actor=None)
    assert newer.sha256 != snapshot.sha256
    assert next(rankings(newer)).ranks == [2, 1, None, None]


def test_simulated_judgements_stay_out_unless_asked_for(stage: World) -> None:
    judge(stage, rater=user("robot", kind=User.Kind.SIMULATED))
    with pytest.raises(Refused, match="no comparisons"):
        create_snapshot(project=stage.project, actor=None)
    assert (
        create_snapshot(project=stage.project, actor=None, recipe=Recipe(kinds=["simulated"])).counts["pairs_train"]
        == 6
    )


def test_evaluate_items_never_become_training_data(stage: World) -> None:
    slot = judge(stage)
    Slot.objects.filter(pk=slot.pk).update(purpose="evaluate")
    with pytest.raises(Refused, match="no comparisons"):
        create_snapshot(project=stage.project, actor=None)


def test_a_project_without_judgements_refuses_a_snapshot(stage: World) -> None:
    with pytest.raises(Refused, match="no comparisons"):
        create_snapshot(project=stage.project, actor=None)
    assert not Judgement.objects.exists()


def test_items_leave_out_answers_with_the_same_text(stage: World) -> None:
    before = stage.project.items.count()
    completions(stage.generation, samples=2, first=4)
    Completion.objects.filter(sample__gte=4).update(text="the same")
    assert make_collect_items(project=stage.project, generation=stage.generation) == 0
    assert stage.project.items.count() == before
