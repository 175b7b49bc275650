"""What a recipe takes, and that a snapshot of it stays what it is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import uuid
from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.test import Client
from django.urls import reverse

from annotate.models import (
    Completion,
    Slot,
    Snapshot,
)
from annotate.services import Refused
from annotate.services.card import card
from annotate.services.differences import difference
from annotate.services.judging import submit
from annotate.services.looking import look
from annotate.services.recipe import Recipe, parse_recipe, recipe_of
from annotate.services.rows import rankings
from annotate.services.snapshots import content_sha256, create_snapshot
from tests.annotate.factory import World
from tests.annotate.judged import by_three, frozen, ids_of, judge, judged_world, member, pair, ranked, ranks, shown
from tests.annotate.keyed import new_instructions

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage() -> World:
    return judged_world()


@pytest.fixture
def three(stage: World) -> World:
    return by_three(stage)


def test_a_mix_takes_comparisons_of_a_source_first_then_rankings_then_demonstrations(stage: World) -> None:
    for number in range(3):
        pair(stage, "lab", number)
        shown(stage, "lab", f"shown {number}")
    ranked(stage, "lab", "pq", 1, 2)
    seen = look(stage.project, Recipe(most={"lab": 5}))
    assert (seen.comparisons, seen.ranked_lists, seen.demonstrations) == (3, 1, 1)
    assert seen.by_source == {"lab": 5}
    assert [(entry.what, entry.reason, entry.count) for entry in seen.left_out] == [("demonstrations", "mix", 2)]
    assert look(stage.project, Recipe(shares={"lab": 1.0})).by_source == {"lab": 7}


def test_snapshots_that_list_other_rankings_and_demonstrations_differ(stage: World) -> None:
    ranked(stage, "lab", "pq", 1, 2)
    first = create_snapshot(project=stage.project, actor=None)
    ranked(stage, "lab", "rs", 1, 2)
    shown(stage, "lab", "So it is.")
    found = difference(first, create_snapshot(project=stage.project, actor=None))
    assert not found.is_empty
    assert found.ranked_lists == {"added": 1, "removed": 0, "same": 1}
    assert found.demonstrations == {"added": 1, "removed": 0, "same": 0}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tags": ["zh"]}, "tags"),
        ({"splits": ["dev"]}, "split"),
        ({"raters": ["dora"]}, "raters"),
        ({"guideline_from": 2}, "guideline_from"),
        ({"since": "2999-01-01"}, "since"),
        ({"until": "2001-01-01"}, "until"),
        ({"min_strength": 2}, "min_strength"),
        ({"min_raters": 2}, "min_raters"),
        ({"most": {"human": 0}}, "mix"),
    ],
)
def test_each_filter_says_how_many_judgements_it_left_out(stage: World, fields: dict[str, Any], reason: str) -> None:
    judge(stage, ranks(ids_of(stage), 1, 2))
    seen = look(stage.project, Recipe(**fields))
    assert [(entry.what, entry.reason, entry.count) for entry in seen.left_out] == [("judgements", reason, 1)]
    assert seen.entries == 0
    assert look(stage.project, Recipe()).entries == 1


def test_what_is_left_out_is_counted_by_the_first_reason_only(stage: World) -> None:
    pair(stage, "a", strength=1.0)
    pair(stage, "b", 1, strength=3.0)
    pair(stage, "b", 2)
    pair(stage, "b", 3, strength=3.0, split="dev")
    seen = look(stage.project, Recipe(sources=["b"], min_strength=2, splits=["train"]))
    assert [(entry.reason, entry.count) for entry in seen.left_out] == [
        ("sources", 1),
        ("split", 1),
        ("min_strength", 1),
    ]
    assert (seen.comparisons, seen.by_source, seen.by_split) == (1, {"b": 1}, {"train": 1})


def test_flagged_and_overlong_answers_are_taken_out_of_the_order(stage: World) -> None:
    a, b, c, d = ids_of(stage)
    Completion.objects.filter(pk=c).update(text="x" * 500)
    judge(stage, {**ranks([a, b, c, d], 1, 2, 3, 4), "flags": {str(b): "unsafe"}})
    snapshot = create_snapshot(project=stage.project, actor=None, recipe=Recipe(leave_out_flagged=True, longest=400))
    (row,) = rankings(snapshot)
    assert (len(row.responses), row.ranks) == (2, [1, 4])
    assert snapshot.counts["left_out"] == [
        {"what": "answers", "reason": "flagged", "count": 1},
        {"what": "answers", "reason": "longest", "count": 1},
    ]


def test_a_mix_is_drawn_by_its_seed_and_keeps_the_shares(stage: World) -> None:
    for number in range(30):
        pair(stage, "large" if number < 24 else "small", number)
    seen = look(stage.project, Recipe(shares={"large": 0.5, "small": 0.5}))
    assert seen.by_source == {"large": 6, "small": 6}
    drawn = [{row.row_id for row in frozen(stage, most={"large": 5}, sources=["large"], seed=s)} for s in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [len(rows) for rows in drawn] == [5, 5, 5]


def test_a_snapshot_counts_what_its_card_tells(three: World) -> None:
    counts = create_snapshot(project=three.project, actor=None).counts
    assert counts["raters"] == {"human": 3}
    assert counts["guidelines"] == {"1": 3}
    # Pairs of raters: Bob and Dora agree on 3 of 3 pairs, Eve with neither on any; of one item nothing says more.
    of_one_item = {"mean": pytest.approx(1 / 3), "interval": None, "pairs": 3, "items": 1, "apart": 0}
    assert counts["agreement"] == of_one_item
    assert counts["first_preferred"]["pairs"] == 3 + 3 + 6


def test_the_agreement_in_a_snapshot_has_an_interval_over_items_and_is_under_the_same_instructions(
    client: Client, stage: World
) -> None:
    dora, eve = member(stage, "dora"), member(stage, "eve")
    for split, places in (("train", (1, 2, 3, 4)), ("dev", (4, 3, 2, 1)), ("test", (1, 2, 4, 3))):
        ids = ids_of(stage, split)
        judge(stage, ranks(ids, 1, 2, 3, 4), split=split)
        judge(stage, ranks(ids, *places), rater=dora, split=split)
    new_instructions(stage)
    judge(stage, ranks(ids_of(stage), 4, 3, 2, 1), rater=eve)
    snapshot = create_snapshot(project=stage.project, actor=stage.alice)
    found = dict(snapshot.counts["agreement"])
    low, high = found.pop("interval")
    assert found == {"mean": pytest.approx((1 + 0 + 5 / 6) / 3), "pairs": 3, "items": 3, "apart": 2}
    assert 0 <= low < found["mean"] < high <= 1
    assert f"0.611 (95 % interval over items {low:.3f} to {high:.3f}), mean over n = 3 pairs" in card(snapshot)
    assert "; 2 pairs under different instructions are left out" in card(snapshot)
    client.force_login(stage.alice)
    html = re.sub(r"\s+", " ", client.get(reverse("snapshot", args=["garden", snapshot.pk])).content.decode())
    assert f'61.1% <span class="soft">({low:.1%} – {high:.1%} · n = 3)</span>' in html
    assert "left out, since the instructions had changed: 2" in html


@pytest.mark.parametrize("aggregation", ["every rater", "majority", "reliability"])
def test_a_snapshot_gives_its_hash_again_after_later_edits(three: World, aggregation: Any) -> None:
    pair(three, "imported")
    recipe = Recipe(aggregation=aggregation)
    snapshot = create_snapshot(project=three.project, actor=None, recipe=recipe)
    slot = Slot.objects.filter(rater=three.bob, state="done").get()
    submit(user=three.bob, slot=slot, uuid=uuid.uuid4(), raw=ranks(ids_of(three), 4, 3, 2, 1), version=1)
    pair(three, "imported", 1)
    assert content_sha256(snapshot) == snapshot.sha256
    newer = create_snapshot(project=three.project, actor=None, recipe=recipe)
    assert newer.sha256 != snapshot.sha256
    found = difference(snapshot, newer)
    assert (found.judgements, found.comparisons) == (
        {"added": 0, "removed": 0, "changed": 1, "same": 2},
        {"added": 1, "removed": 0, "same": 1},
    )
    assert [judgement.rater for judgement in found.judgement_samples["changed"]] == [three.bob]
    assert found.recipe == []


def test_recipes_that_differ_are_told_apart(three: World) -> None:
    first = create_snapshot(project=three.project, actor=None)
    second = create_snapshot(project=three.project, actor=None, recipe=Recipe(raters=["bob"]))
    found = difference(first, second)
    assert found.judgements["removed"] == 2
    assert found.recipe == [("raters", [], ["bob"])]


def test_a_snapshot_of_the_first_form_gives_its_hash_still(stage: World) -> None:
    """The hash is of what an earlier version wrote for such a judgement and pair."""
    judge(stage, {**ranks(ids_of(stage), 1, 2), "both_bad": False})
    snapshot = create_snapshot(project=stage.project, actor=None)
    (row,) = rankings(snapshot)
    fields = ("row_id", "prompt_id", "split", "messages", "responses", "ranks", "weight")
    line = json.dumps({name: getattr(row, name) for name in fields}, ensure_ascii=False, sort_keys=True) + "\n"
    old = Snapshot(pk=snapshot.pk, project=stage.project, recipe={"kinds": ["human"], "purposes": ["collect"]})
    assert content_sha256(old) == hashlib.sha256(line.encode()).hexdigest()


def test_a_snapshot_of_the_second_form_gives_its_hash_still(stage: World) -> None:
    """The hash is of what an earlier version wrote, which knew no scores."""
    judge(stage, ranks(ids_of(stage), 1, 2))
    snapshot = create_snapshot(project=stage.project, actor=None)
    (row,) = rankings(snapshot)
    fields = dataclasses.asdict(row)
    del fields["scores"]
    line = json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n"
    old = Snapshot(pk=snapshot.pk, project=stage.project, recipe={**snapshot.recipe, "form": 2})
    assert content_sha256(old) == hashlib.sha256(line.encode()).hexdigest()


def test_the_database_refuses_to_alter_a_snapshot(three: World) -> None:
    snapshot = create_snapshot(project=three.project, actor=None)
    for change in (
        lambda: Snapshot.objects.update(name="other"),
        lambda: snapshot.revision_entries.all().delete(),
        lambda: Snapshot.objects.all().delete(),
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            change()
    assert content_sha256(snapshot) == snapshot.sha256


@pytest.mark.parametrize(
    "values",
    [
        {"kinds": ["robots"]},
        {"aggregation": "loudest"},
        {"splits": []},
        {"since": "yesterday"},
        {"until": "9999-12-31"},
        {"min_strength": float("nan")},
        {"longest": 1, "shortest": 2},
        {"most": {"human": 1.5}},
        {"most": {"human": True}},
        {"shares": {"human": 0.5}},
        {"shares": {"human": 1.0}, "most": {"human": 1}},
        {"seed": -1},
        {"tags": ["\x00"]},
        {"colour": "blue"},
        [],
        None,
    ],
)
def test_a_recipe_that_will_not_do_is_refused(values: Any) -> None:
    with pytest.raises(Refused):
        parse_recipe(values)


def test_a_recipe_is_kept_with_its_snapshot(three: World) -> None:
    recipe = Recipe(aggregation="majority", splits=["train"], min_strength=None, licence="cc0-1.0")
    snapshot = create_snapshot(project=three.project, actor=None, recipe=recipe)
    snapshot.refresh_from_db()
    assert recipe_of(snapshot.recipe) == (recipe, 3)
    assert parse_recipe(dataclasses.asdict(recipe)) == recipe
