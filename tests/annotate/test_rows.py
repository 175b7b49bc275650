"""From judgements to rows: what each kind makes, what several raters make together, and what a recipe takes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import uuid
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.db import DatabaseError, transaction

from annotate.formats.writing.ranking import Ranking
from annotate.models import (
    Comparison,
    Completion,
    Demonstration,
    Membership,
    Norm,
    NormVersion,
    Prompt,
    RankedAnswer,
    RankedList,
    Run,
    Slot,
    Snapshot,
    User,
)
from annotate.services import Refused
from annotate.services.claiming import claim
from annotate.services.differences import difference
from annotate.services.export import export
from annotate.services.inputs import RANKINGS, prepare
from annotate.services.judging import submit
from annotate.services.looking import look
from annotate.services.recipe import Recipe, parse_recipe, recipe_of
from annotate.services.rows import rankings
from annotate.services.runs import launch_train_reward
from annotate.services.snapshots import content_sha256, create_snapshot
from rewardmodel.contract import OPTIONAL_RANKING_COLUMNS, RANKING_COLUMNS
from tests.annotate.factory import World, collect_items, user, world

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage() -> World:
    made = world(prompts=3, overlap=3, norms_on=True)
    norm = Norm.objects.create(project=made.project, name="Honesty")
    NormVersion.objects.create(norm=norm, number=1, text="Say what is true.")
    collect_items(made)
    return made


def member(stage: World, name: str) -> User:
    made = user(name)
    Membership.objects.create(user=made, project=stage.project, role=Membership.Role.RATER)
    return made


def ids_of(stage: World, split: str = "train") -> list[int]:
    return sorted(Completion.objects.filter(prompt__split=split, edit_of=None).values_list("pk", flat=True))


def judge(stage: World, raw: dict[str, Any], *, rater: User | None = None, split: str = "train") -> Slot:
    rater = rater or stage.bob
    Slot.objects.filter(item__prompt__split=split).update(priority=-1)
    slot = claim(user=rater, project=stage.project)
    assert slot is not None
    Slot.objects.update(priority=0)
    submit(user=rater, slot=slot, uuid=uuid.uuid4(), raw=raw)
    return slot


def ranks(ids: list[int], *places: int) -> dict[str, Any]:
    return {"ranks": {str(pk): place for pk, place in zip(ids, places, strict=False)}}


def frozen(stage: World, **fields: Any) -> list[Ranking]:
    return list(rankings(create_snapshot(project=stage.project, actor=None, recipe=Recipe(**fields))))


def ranked(
    stage: World, source: str, texts: str, *ranks: int | None, scores: Sequence[float] = (), **fields: Any
) -> RankedList:
    """An imported order of answers, each of one letter; to the training prompt."""
    prompt = Prompt.objects.get(split="train")
    made = RankedList.objects.create(project=stage.project, prompt=prompt, source=source, digest=uuid.uuid4(), **fields)
    for position, (text, rank, score) in enumerate(zip_longest(texts, ranks, scores)):
        answer = Completion.objects.create(prompt=prompt, text=text)
        RankedAnswer.objects.create(ranked_list=made, position=position, completion=answer, rank=rank, score=score)
    return made


def shown(stage: World, source: str, text: str, **fields: Any) -> Demonstration:
    """An imported answer to imitate, to the training prompt."""
    answer = Completion.objects.create(prompt=Prompt.objects.get(split="train"), text=text)
    return Demonstration.objects.create(project=stage.project, completion=answer, source=source, **fields)


def pair(stage: World, source: str, number: int = 0, *, split: str = "train", **fields: Any) -> Comparison:
    prompt = Prompt.objects.get(split=split)
    chosen, rejected = (Completion.objects.create(prompt=prompt, text=f"{word} {number}") for word in ("good", "bad"))
    return Comparison.objects.create(
        project=stage.project, prompt=prompt, chosen=chosen, rejected=rejected, source=source, **fields
    )


def test_an_imported_ranking_comes_whole_after_judgements_and_pairs(stage: World) -> None:
    pair(stage, "a")
    made = ranked(stage, "lab", "pqr", 2, None, 1, strength=1.5, weight=0.5)
    judge(stage, ranks(ids_of(stage)[:2], 1, 2))
    *_others, row = rows = frozen(stage)
    assert [each.kind for each in rows] == ["order", "comparison", "ranked"]
    assert (row.responses, row.ranks, row.strength, row.weight) == (["p", "q", "r"], [2, None, 1], 1.5, 0.5)
    assert (row.origin, row.source, row.models) == ("imported", "lab", ["imported"] * 3)
    assert row.provenance["ranking"] == made.pk
    assert list(row.pairs()) == [("r", "p")]


def test_scores_say_how_much_better_each_answer_of_a_ranking_is(stage: World) -> None:
    ranked(stage, "scores", "pqr", 2, 1, 3, scores=(4.0, 9.0, 2.5))
    (row,) = frozen(stage)
    assert [(*row_pair, row.strength_of(*row_pair)) for row_pair in row.places()] == [
        (0, 2, 1.5),
        (1, 0, 5.0),
        (1, 2, 6.5),
    ]
    strong = frozen(stage, min_strength=5)
    assert [(each.responses, each.ranks, each.strength) for each in strong] == [
        (["q", "p"], [1, 2], 5.0),
        (["q", "r"], [1, 2], 6.5),
    ]
    assert look(stage.project, Recipe(min_strength=7)).entries == 0


def test_answers_of_a_ranking_that_are_too_long_are_taken_out_of_it(stage: World) -> None:
    ranked(stage, "lab", "pqr", 1, 2, 3)
    Completion.objects.filter(text="q").update(text="q" * 50)
    (row,) = frozen(stage, longest=10)
    assert (row.responses, row.ranks) == (["p", "r"], [1, 3])


def test_demonstrations_are_rows_to_imitate_and_nothing_to_compare(stage: World, tmp_path: Path) -> None:
    shown(stage, "experts", "So it is.", weight=2.0)
    snapshot = create_snapshot(project=stage.project, actor=None)
    (row,) = rankings(snapshot)
    assert (row.kind, row.responses, row.weight, row.labels(), list(row.pairs())) == (
        *("demonstration", ["So it is."], 2.0, [None], []),
    )
    assert snapshot.counts["demonstrations_train"] == snapshot.counts["prompts_train"] == 1
    assert "rankings_train" not in snapshot.counts
    assert content_sha256(snapshot) == snapshot.sha256
    files = export(snapshot, tmp_path, file_types=["jsonl"])
    assert {file.path.split("/")[0] for file in files} == {
        *("prompt-completion", "prompt-completion-plain", "prompt-only", "prompt-only-plain", "provenance"),
    }
    written = json.loads((tmp_path / "prompt-completion" / "train.jsonl").read_text())
    assert written["completion"] == [{"role": "assistant", "content": "So it is."}]
    assert (written["source"], written["weight"]) == ("experts", 2.0)
    with pytest.raises(Refused, match="no comparisons"):
        frozen(stage, demonstrations=False)
    with pytest.raises(Refused, match="no comparisons on training prompts"):
        launch_train_reward(project=stage.project, actor=None, snapshot=snapshot, ring=False)


def test_reward_training_reads_no_demonstrations(stage: World, settings: Any, tmp_path: Path) -> None:
    settings.RUNS_DIR = tmp_path
    ranked(stage, "lab", "pq", 1, 2)
    shown(stage, "experts", "So it is.")
    snapshot = create_snapshot(project=stage.project, actor=None)
    run = launch_train_reward(project=stage.project, actor=None, snapshot=snapshot, ring=False)
    prepare(Run.objects.get(pk=run.pk))
    table = pq.read_table(tmp_path / str(run.pk) / "data" / "rankings.parquet")
    assert table["responses"].to_pylist() == [["p", "q"]]


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


def test_verdicts_on_a_norm_put_compliance_above_violation_with_the_stated_weight(stage: World) -> None:
    a, b, c, d = ids_of(stage)
    version = str(NormVersion.objects.get().pk)
    verdicts = {a: "comply", b: "violate", c: "na", d: "comply"}
    judge(stage, {"norms": {str(pk): {version: {"verdict": word, "quote": ""}} for pk, word in verdicts.items()}})
    (row,) = frozen(stage, norm_weight=0.25)
    assert (row.kind, row.ranks, row.weight) == ("norm", [1, 2, None, 1], 0.25)
    with pytest.raises(Refused, match="no comparisons"):
        frozen(stage, parts=["order", "edits"])


def test_verdicts_that_all_agree_prefer_nothing(stage: World) -> None:
    version = str(NormVersion.objects.get().pk)
    judge(stage, {"norms": {str(pk): {version: {"verdict": "comply", "quote": ""}} for pk in ids_of(stage)}})
    with pytest.raises(Refused, match="no comparisons"):
        frozen(stage)


def test_a_judgement_that_calls_all_bad_ties_and_labels_them(stage: World) -> None:
    judge(stage, {"both_bad": True})
    judge(stage, ranks(ids_of(stage, "dev"), 1, 2), split="dev")
    bad, order = frozen(stage)
    assert (bad.kind, bad.ranks, list(bad.pairs())) == ("both bad", [1, 1, 1, 1], [])
    assert bad.labels() == [False] * 4
    assert order.labels() == [True, False, None, None]


def test_the_answers_in_the_middle_are_neither_good_nor_bad(stage: World) -> None:
    judge(stage, ranks(ids_of(stage), 1, 2, 2, 3))
    (row,) = frozen(stage)
    assert row.labels() == [True, None, None, False]


def test_origin_and_source_tell_people_programs_and_imports_apart(stage: World) -> None:
    order = ranks(ids_of(stage), 1, 2)
    judge(stage, order)
    judge(stage, order, rater=user("robot", kind=User.Kind.SIMULATED))
    judge(stage, order, rater=user("judge", kind=User.Kind.AI))
    pair(stage, "helpsteer", strength=2.0)
    rows = frozen(stage, kinds=["human", "simulated", "ai"])
    assert [(row.origin, row.source) for row in rows] == [
        ("human", "human"),
        ("simulated", "simulated"),
        ("ai", "ai"),
        ("imported", "helpsteer"),
    ]
    assert rows[-1].strength == 2.0
    assert {row.origin for row in frozen(stage, kinds=["ai"], sources=[])} == {"ai"}


@pytest.fixture
def three(stage: World) -> World:
    """Three raters: Bob and Dora put a above b above c, Eve the other way round; d is Eve's alone."""
    a, b, c, d = ids_of(stage)
    judge(stage, ranks([a, b, c], 1, 2, 3))
    judge(stage, ranks([a, b, c], 1, 2, 3), rater=member(stage, "dora"))
    judge(stage, ranks([a, b, c, d], 3, 2, 1, 4), rater=member(stage, "eve"))
    return stage


def test_every_rater_stands_alone_unless_the_recipe_says_otherwise(three: World) -> None:
    assert [row.ranks for row in frozen(three)] == [[1, 2, 3, None], [1, 2, 3, None], [3, 2, 1, 4]]


def test_the_majority_makes_one_ranking_of_an_item(three: World) -> None:
    (row,) = frozen(three, aggregation="majority")
    # d is below a, b and c for the one rater who ranked it.
    assert (row.ranks, row.weight, len(row.provenance["raters"])) == ([1, 2, 3, 4], 1.0, 3)


def test_reliability_weighs_raters_by_agreement_and_rows_by_what_stands_behind_them(three: World) -> None:
    # Agreement of Bob and Dora is 1, of Eve with each 0; so means 1/2, 1/2, 0: all weigh 0.05.
    (row,) = frozen(three, aggregation="reliability")
    # Of six ordered pairs three have 2/3 of the weight behind them, three (with d, by Eve alone) all of it.
    assert row.ranks == [1, 2, 3, 4]
    assert row.weight == pytest.approx((3 * 2 / 3 + 3) / 6)


def test_majorities_that_contradict_each_other_become_pairs(stage: World) -> None:
    a, b, c, _d = ids_of(stage)
    for name, order in (("dora", (1, 2, 3)), ("eve", (3, 1, 2)), ("finn", (2, 3, 1))):
        judge(stage, ranks([a, b, c], *order), rater=member(stage, name))
    rows = frozen(stage, aggregation="majority")
    texts = {pk: Completion.objects.get(pk=pk).text for pk in (a, b, c)}
    assert {tuple(row.responses) for row in rows} == {
        (texts[a], texts[b]),
        (texts[b], texts[c]),
        (texts[c], texts[a]),
    }


def test_people_and_programs_are_never_taken_together(stage: World) -> None:
    a, b, *_rest = ids_of(stage)
    judge(stage, ranks([a, b], 1, 2))
    judge(stage, ranks([a, b], 2, 1), rater=user("robot", kind=User.Kind.SIMULATED))
    rows = frozen(stage, kinds=["human", "simulated"], aggregation="majority")
    assert [(row.origin, row.ranks[:2]) for row in rows] == [("human", [1, 2]), ("simulated", [2, 1])]


def test_edits_stay_their_raters_own_under_the_majority(stage: World) -> None:
    a, b, *_rest = ids_of(stage)
    judge(stage, {**ranks([a, b], 1, 2), "edits": {str(a): "Better."}})
    judge(stage, ranks([a, b], 1, 2), rater=member(stage, "dora"))
    assert [row.kind for row in frozen(stage, aggregation="majority")] == ["order", "edit"]


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
    # Pairs of raters: Bob and Dora agree on 3 of 3 pairs, Eve with neither on any.
    assert counts["agreement"] == {"mean": pytest.approx(1 / 3), "pairs": 3}
    assert counts["first_preferred"]["pairs"] == 3 + 3 + 6


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


def test_reward_training_reads_the_rows_with_their_weights(three: World, settings: Any, tmp_path: Path) -> None:
    settings.RUNS_DIR = tmp_path
    snapshot = create_snapshot(project=three.project, actor=None, recipe=Recipe(aggregation="reliability"))
    run = launch_train_reward(project=three.project, actor=None, snapshot=snapshot, ring=False)
    prepare(Run.objects.get(pk=run.pk))
    table = pq.read_table(tmp_path / str(run.pk) / "data" / "rankings.parquet")
    assert table.schema.names == [*RANKING_COLUMNS, *OPTIONAL_RANKING_COLUMNS] == RANKINGS.names
    assert table["ranks"].to_pylist() == [[1, 2, 3, 4]]
    assert table["weight"].to_pylist() == pytest.approx([5 / 6])
