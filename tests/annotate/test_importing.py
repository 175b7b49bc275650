"""Bringing data into a project: all or nothing, never twice, and taken back while nothing was made of it."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.errors import DiskFull

from annotate.models import (
    AuditEvent,
    Comparison,
    Completion,
    Demonstration,
    Import,
    Project,
    Prompt,
    RankedList,
    Signal,
    Snapshot,
)
from annotate.services import Refused, import_stages, importing, imports
from annotate.services.importing import BadRows, Report, Request
from annotate.services.loading import Loader
from annotate.services.snapshots import create_snapshot
from tests.annotate.access_table import fingerprint
from tests.annotate.brought import PAIR, brought, file_of
from tests.annotate.factory import World, model_folder, world

pytestmark = pytest.mark.django_db
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "hh_harmless_dev.jsonl.gz"


@pytest.fixture
def stage(db: None) -> World:
    return world(prompts=0)


def bring(stage: World, path: Path, **more: Any) -> Report:
    chosen, _found = importing.choose_format(path)
    request = Request(path, chosen, "test", skip_bad=more.pop("skip_bad", False))
    return imports.bring_file(project=stage.project, request=request, licence="", actor=stage.alice, **more)


def outcome(report: Report) -> dict[str, int]:
    return {name: report.counts[name] for name in ("new", "known", "changed", "left_out", "bad") if report.counts[name]}


def content() -> list[Any]:
    return list(
        Comparison.objects.order_by("pk").values_list(
            "prompt__messages", "chosen__text", "rejected__text", "strength", "weight", "source", "number"
        )
    )


def test_pairs_come_in_the_order_of_the_file_with_what_stands_beside_them(stage: World, tmp_path: Path) -> None:
    other = {**PAIR, "prompt": "Why?", "split": "test", "source": "lab", "strength": 2, "weight": 0.5}
    report = bring(stage, file_of(tmp_path, PAIR, other))
    sky, why = ([{"role": "user", "content": text}] for text in (PAIR["prompt"], "Why?"))
    assert content() == [
        (sky, PAIR["chosen"], PAIR["rejected"], None, 1.0, "test", 1),
        (why, PAIR["chosen"], PAIR["rejected"], 2.0, 0.5, "lab", 1),
    ]
    assert Prompt.objects.get(messages=why).split == "test"
    assert outcome(report) == {"new": 2}
    made = Import.objects.get()
    assert (made.state, made.format, made.created_by) == (Import.State.DONE, "trl-preference", stage.alice)
    assert AuditEvent.objects.latest("pk").action == "imported data"


def test_a_file_that_was_brought_before_writes_nothing(stage: World, tmp_path: Path) -> None:
    path = file_of(tmp_path, PAIR, {**PAIR, "prompt": "Why?"}, PAIR)
    assert outcome(bring(stage, path)) == {"new": 3}
    before = content()
    assert outcome(bring(stage, path)) == {"known": 3}
    assert content() == before


def test_equal_pairs_of_a_file_stay_apart_as_two_raters_answers_do(stage: World, tmp_path: Path) -> None:
    bring(stage, file_of(tmp_path, PAIR, PAIR))
    assert outcome(bring(stage, file_of(tmp_path, PAIR, PAIR, PAIR))) == {"new": 1, "known": 2}
    assert sorted(Comparison.objects.values_list("number", flat=True)) == [1, 2, 3]
    assert Completion.objects.count() == 2


def test_a_pair_with_another_strength_is_told_and_kept_as_it_was(stage: World, tmp_path: Path) -> None:
    bring(stage, file_of(tmp_path, PAIR))
    report = bring(stage, file_of(tmp_path, {**PAIR, "strength": 3}))
    assert outcome(report) == {"changed": 1}
    assert report.problems[0][0] == 1
    assert Comparison.objects.get().strength is None


def test_a_prompt_that_is_here_keeps_its_part_and_its_words(stage: World, tmp_path: Path) -> None:
    bring(stage, file_of(tmp_path, {**PAIR, "split": "dev"}))
    bring(stage, file_of(tmp_path, {**PAIR, "prompt": "What  colour is the sky?", "chosen": "Blue!", "split": "test"}))
    assert list(Prompt.objects.values_list("split", "messages")) == [
        ("dev", [{"role": "user", "content": PAIR["prompt"]}])
    ]
    assert Comparison.objects.count() == 2


RANKED = {"prompt": "x", "responses": ["c", "a", "b", "d"], "ranks": [3, 1, 1, None]}


def orders() -> list[Any]:
    return [
        (
            list(each.answers.order_by("position").values_list("completion__text", "rank", "score")),
            *(each.strength, each.weight, each.source, each.number),
        )
        for each in RankedList.objects.order_by("pk")
    ]


def test_a_ranking_comes_whole_with_its_ties_and_what_is_unranked(stage: World, tmp_path: Path) -> None:
    path = file_of(tmp_path, RANKED, {**RANKED, "strength": 2, "weight": 0.5, "source": "lab"}, RANKED)
    assert outcome(bring(stage, path)) == {"new": 3}
    answers = [("c", 3, None), ("a", 1, None), ("b", 1, None), ("d", None, None)]
    assert orders() == [
        (answers, None, 1.0, "test", 1),
        (answers, 2.0, 0.5, "lab", 2),
        (answers, None, 1.0, "test", 3),
    ]
    assert (Comparison.objects.count(), Completion.objects.count()) == (0, 4)
    assert outcome(bring(stage, path)) == {"known": 3}
    other = file_of(tmp_path, {**RANKED, "weight": 2}, {**RANKED, "ranks": [1, 1, 1, 1]})
    assert outcome(bring(stage, other)) == {"changed": 1, "new": 1}


def test_scores_are_kept_and_say_how_much_better(stage: World, tmp_path: Path) -> None:
    scored = [{"response": text, "score": score} for text, score in (("meh", 2.5), ("good", 8), ("odd", None))]
    bring(stage, file_of(tmp_path, {"instruction": "x", "completions": scored}))
    assert orders() == [([("meh", 2, 2.5), ("good", 1, 8.0)], None, 1.0, "test", 1)]


def test_a_ranking_is_undone_with_its_answers_unless_a_snapshot_holds_it(stage: World) -> None:
    found = brought(stage, RANKED)
    imports.confirm(of=found, actor=stage.alice)
    found.refresh_from_db()
    imports.take_back(of=found, actor=stage.alice)
    assert [model.objects.count() for model in (RankedList, Completion, Prompt)] == [0, 0, 0]
    again = brought(stage, RANKED)
    imports.confirm(of=again, actor=stage.alice)
    create_snapshot(project=stage.project, actor=None)
    again.refresh_from_db()
    with pytest.raises(Refused, match="snapshot"):
        imports.take_back(of=again, actor=stage.alice)


def test_demonstrations_and_labels_are_records_of_their_own(stage: World, tmp_path: Path) -> None:
    shown = file_of(tmp_path, {"prompt": "x", "completion": "good answer"})
    liked = file_of(tmp_path, {"prompt": "x", "completion": "meh", "label": False}, name="labels.jsonl")
    assert outcome(bring(stage, shown)) == outcome(bring(stage, liked)) == {"new": 1}
    assert outcome(bring(stage, shown)) == outcome(bring(stage, liked)) == {"known": 1}
    assert Demonstration.objects.get().completion.text == "good answer"
    assert list(Signal.objects.values_list("completion__text", "source", "value")) == [("meh", "label", 0.0)]


def test_one_bad_row_and_nothing_is_written(stage: World, tmp_path: Path) -> None:
    before = fingerprint()
    with pytest.raises(BadRows, match=r"line 2: lacks rejected") as caught:
        bring(stage, file_of(tmp_path, PAIR, {"prompt": "x", "chosen": "y"}, {**PAIR, "chosen": "It is green."}))
    assert [line for line, _reason, _bad in caught.value.report.problems] == [2, 3]
    assert fingerprint() == before


def test_the_good_rows_go_in_where_that_is_asked_for(stage: World, tmp_path: Path) -> None:
    report = bring(stage, file_of(tmp_path, PAIR, {"prompt": "x", "chosen": "y"}), skip_bad=True)
    assert outcome(report) == {"new": 1, "bad": 1}
    assert Comparison.objects.count() == 1


def test_a_bad_row_far_down_takes_back_what_stood_before_it(
    stage: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "CHUNK_ROWS", 2)
    before = fingerprint()
    with pytest.raises(BadRows, match="line 8"):
        bring(stage, file_of(tmp_path, *({**PAIR, "prompt": f"{n}"} for n in range(7)), {}))
    assert fingerprint() == before


def test_a_dry_run_says_what_would_be_and_writes_nothing(stage: World, tmp_path: Path) -> None:
    bring(stage, file_of(tmp_path, PAIR))
    before = fingerprint()
    path = file_of(tmp_path, PAIR, PAIR, {**PAIR, "prompt": "new"})
    request = Request(path, importing.choose_format(path)[0], "test")
    report = importing.bring(project=stage.project, request=request, batch="", dry_run=True)
    assert outcome(report) == {"new": 2, "known": 1}
    assert fingerprint() == before


def test_a_full_disk_of_the_database_halfway_leaves_nothing(
    stage: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "CHUNK_ROWS", 2)
    add = Loader.add

    def full(loader: Loader, rows: Any) -> None:
        add(loader, rows)
        if Comparison.objects.count() == 4:
            raise OperationalError from DiskFull()

    monkeypatch.setattr(Loader, "add", full)
    before = fingerprint()
    with pytest.raises(Refused, match="disk is full; nothing was imported"):
        bring(stage, file_of(tmp_path, *({**PAIR, "prompt": f"{n}"} for n in range(9))))
    assert fingerprint() == before


def test_a_reward_model_can_learn_from_what_was_brought(stage: World, tmp_path: Path) -> None:
    bring(stage, file_of(tmp_path, PAIR | {"split": "train"}))
    snapshot = create_snapshot(project=stage.project, actor=stage.alice)
    assert snapshot.counts["pairs_train"] == 1


def test_an_import_is_undone_with_all_that_it_brought(stage: World, tmp_path: Path) -> None:
    bring(stage, file_of(tmp_path, PAIR))
    counted = [model.objects.count() for model in (Prompt, Completion, Comparison)]
    found = brought(stage, {**PAIR, "prompt": "Why?"}, {**PAIR, "chosen": "Blue."})
    imports.confirm(of=found, actor=stage.alice)
    found.refresh_from_db()
    assert found.state == Import.State.DONE
    imports.take_back(of=found, actor=stage.alice)
    found.refresh_from_db()
    assert found.state == Import.State.UNDONE
    assert [model.objects.count() for model in (Prompt, Completion, Comparison)] == counted == [1, 2, 1]


def test_what_a_snapshot_holds_is_undone_no_more(stage: World) -> None:
    found = brought(stage)
    imports.confirm(of=found, actor=stage.alice)
    create_snapshot(project=stage.project, actor=None)
    found.refresh_from_db()
    with pytest.raises(Refused, match="snapshot"):
        imports.take_back(of=found, actor=stage.alice)
    assert Comparison.objects.count() == 1


def test_an_answer_that_another_import_refers_to_stays(stage: World) -> None:
    first, second = brought(stage), None
    imports.confirm(of=first, actor=stage.alice)
    second = brought(stage, {**PAIR, "rejected": "Grey."})
    imports.confirm(of=second, actor=stage.alice)
    first.refresh_from_db()
    imports.take_back(of=first, actor=stage.alice)
    assert set(Completion.objects.values_list("text", flat=True)) == {PAIR["chosen"], "Grey."}
    assert Prompt.objects.count() == 1


def test_an_import_whose_worker_was_killed_is_begun_again_and_fails_at_the_third_loss(stage: World) -> None:
    found = brought(stage)
    Import.objects.update(state=Import.State.WRITING, attempt=1, heartbeat_at="2020-01-01T00:00Z")
    assert import_stages.sweep() == [found]
    import_stages.carry_on(found.pk)
    found.refresh_from_db()
    assert (found.state, Comparison.objects.count()) == (Import.State.DONE, 1)
    Import.objects.update(state=Import.State.WRITING, attempt=3, heartbeat_at="2020-01-01T00:00Z")
    assert import_stages.sweep() == []
    found.refresh_from_db()
    assert found.state == Import.State.FAILED
    assert "3 times" in found.error


def test_one_import_is_worked_on_at_a_time(stage: World) -> None:
    at_work, waiting = brought(stage), brought(stage)
    Import.objects.filter(pk=at_work.pk).update(state=Import.State.WRITING, heartbeat_at="2999-01-01T00:00Z")
    Import.objects.filter(pk=waiting.pk).update(state=Import.State.WRITING, heartbeat_at=None)
    import_stages.carry_on(waiting.pk)
    waiting.refresh_from_db()
    assert (waiting.state, waiting.attempt) == (Import.State.WRITING, 0)


def test_the_command_makes_the_project_and_says_what_became_of_each_row(
    db: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model_folder("SmolLM2-135M-Instruct")
    path = file_of(tmp_path, PAIR, {**PAIR, "chosen": " "})
    command = ["import_comparisons", str(path), "--project", "hh", "--source", "Lab", "--license", "MIT"]
    call_command(*command, "--dry-run")
    assert not Project.objects.exists()
    assert "Would be: 1 new, 0 known already, 1 left out." in capsys.readouterr().out
    call_command(*command)
    said = capsys.readouterr().out
    assert "Format: trl-preference" in said
    assert "line 2: left out: chosen is empty" in said
    assert "Made the project hh." in said
    assert Import.objects.get().licence == "MIT"
    assert Comparison.objects.get().source == "Lab"
    call_command(*command)
    assert "Imported: 0 new, 1 known already" in capsys.readouterr().out


def test_the_command_leaves_no_project_behind_where_a_row_is_bad(db: None, tmp_path: Path) -> None:
    model_folder("SmolLM2-135M-Instruct")
    with pytest.raises(CommandError, match="1 of 2 records are bad"):
        call_command("import_comparisons", str(file_of(tmp_path, PAIR, {**PAIR, "chosen": 3})), "--project", "hh")
    assert not Project.objects.exists()


def test_columns_are_mapped_by_the_command(stage: World, tmp_path: Path) -> None:
    path = file_of(tmp_path, {"question": "x", "good": "a", "poor": "b"})
    maps = [part for pair in ("prompt=question", "chosen=good", "rejected=poor") for part in ("--map", pair)]
    call_command("import_comparisons", str(path), "--project", "garden", *maps)
    assert Comparison.objects.get().chosen.text == "a"


def test_real_comparisons_come_in_whole(stage: World) -> None:
    if not SHARED.exists():
        if os.environ.get("REQUIRE_SHARED_DATA"):
            raise AssertionError(f"{SHARED} is missing")
        pytest.skip("the shared comparisons are not here")
    report = bring(stage, SHARED)
    assert outcome(report) == {"new": 1196, "left_out": 4}
    assert {reason for _line, reason, _bad in report.problems} == {"chosen is empty"}


FORMS: list[bytes] = [
    b"".join(json.dumps({**PAIR, "prompt": f"{n}", "strength": n}).encode() + b"\n" for n in range(6)),
    json.dumps([{**PAIR, "prompt": [{"role": "user", "content": f"{n}"}]} for n in range(5)]).encode(),
    b"prompt,chosen,rejected\n" + b"".join(b'%d,"yes, %d",no\n' % (n, n) for n in range(5)),
]
FORMS += [gzip.compress(each, mtime=0) for each in FORMS]

Mutation = Callable[[bytes], bytes]


def mutations() -> st.SearchStrategy[bytes]:
    """A file with a few bytes flipped, cut out, doubled or put in, or cut off."""
    place = st.integers(0, 2000)
    odd = st.sampled_from(
        [b"\x00", b"\xff", b'"', b"{", b"]", b",", b"\n", b"NaN", b"\\ud800", b"\xef\xbb\xbf", b"null"]
    )

    def mutate(content: bytes, steps: list[tuple[int, int, bytes]]) -> bytes:
        for kind, at, piece in steps:
            at %= len(content) + 1
            if kind == 0:
                content = content[:at]
            elif kind == 1:
                content = content[:at] + piece + content[at:]
            elif kind == 2:
                content = content[:at] + piece + content[at + len(piece) :]
            elif kind == 3:
                content = content[:at] + content[at + 7 :]
            else:
                content = content[:at] + content[max(at - 30, 0) :]
        return content

    steps = st.lists(st.tuples(st.integers(0, 4), place, odd), min_size=1, max_size=4)
    return st.builds(mutate, st.sampled_from(FORMS), steps)


@settings(
    max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(content=mutations())
def test_no_mutated_file_breaks_the_import_or_comes_in_by_half(stage: World, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mutated"
    path.write_bytes(content)
    before = Comparison.objects.count()
    try:
        chosen, _found = importing.choose_format(path)
        request = Request(path, chosen, "mutated")
        report = imports.bring_file(project=stage.project, request=request, licence="", actor=None)
    except Refused:
        assert Comparison.objects.count() == before
    else:
        assert report.written
        assert not report.counts["bad"]
        brought_now = report.counts["new"] if chosen.name == "trl-preference" else 0
        assert Comparison.objects.count() == before + brought_now
        assert Snapshot.objects.count() == 0
