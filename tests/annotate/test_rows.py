"""From judgements to rows: what each kind makes, and what several raters make together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from annotate.models import (
    Completion,
    NormVersion,
    Run,
    User,
)
from annotate.services import Refused
from annotate.services.export import export
from annotate.services.inputs import prepare
from annotate.services.looking import look
from annotate.services.recipe import Recipe
from annotate.services.rows import rankings
from annotate.services.runs import launch_train_reward
from annotate.services.snapshots import content_sha256, create_snapshot
from rewardmodel.contract import OPTIONAL_RANKING_COLUMNS, RANKING_COLUMNS
from tests.annotate.factory import World, user
from tests.annotate.judged import by_three, frozen, ids_of, judge, judged_world, member, pair, ranked, ranks, shown

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage() -> World:
    return judged_world()


@pytest.fixture
def three(stage: World) -> World:
    return by_three(stage)


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


def test_reward_training_reads_the_rows_with_their_weights(three: World, settings: Any, tmp_path: Path) -> None:
    settings.RUNS_DIR = tmp_path
    snapshot = create_snapshot(project=three.project, actor=None, recipe=Recipe(aggregation="reliability"))
    run = launch_train_reward(project=three.project, actor=None, snapshot=snapshot, ring=False)
    prepare(Run.objects.get(pk=run.pk))
    table = pq.read_table(tmp_path / str(run.pk) / "data" / "rankings.parquet")
    assert table.schema.names == [*RANKING_COLUMNS, *OPTIONAL_RANKING_COLUMNS]
    assert table["ranks"].to_pylist() == [[1, 2, 3, 4]]
    assert table["weight"].to_pylist() == pytest.approx([5 / 6])
