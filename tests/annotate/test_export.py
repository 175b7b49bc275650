"""Every form of export: its rows, its files, and that it loads where people will load it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from django.core.management import call_command
from django.http import QueryDict
from django.test import Client
from django.urls import reverse

from annotate.formats.writing.files import cell
from annotate.formats.writing.forms import FORMS
from annotate.formats.writing.prompts import plain, transcript
from annotate.formats.writing.ranking import Ranking
from annotate.models import Snapshot
from annotate.services import Refused
from annotate.services.card import card
from annotate.services.export import export
from annotate.services.recipe import parse_recipe
from annotate.services.snapshots import create_snapshot
from annotate.views.recipes import _filled, _posted
from rewardmodel.publish import file_sha256
from tests.annotate.factory import World, collect_items, world
from tests.annotate.test_rows import ids_of, judge, pair, ranks

pytestmark = pytest.mark.django_db

QUESTION = [{"role": "user", "content": "Why?"}]
ANSWERED = Ranking(
    row_id="revision-1",
    prompt_id="1",
    split="train",
    messages=QUESTION,
    responses=["a", "b", "c"],
    ranks=[2, 1, 2],
    models=["generation 0", "edit", "imported"],
    strength=2.0,
)
ORIGIN = {"split": "train", "source": "human", "strength": 2.0, "weight": 1.0}


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        (
            "trl-preference",
            [
                {"prompt": QUESTION, "chosen": said("b"), "rejected": said("a"), **ORIGIN},
                {"prompt": QUESTION, "chosen": said("b"), "rejected": said("c"), **ORIGIN},
            ],
        ),
        (
            "trl-preference-plain",
            [
                {"prompt": "Why?", "chosen": "b", "rejected": "a", **ORIGIN},
                {"prompt": "Why?", "chosen": "b", "rejected": "c", **ORIGIN},
            ],
        ),
        (
            "trl-implicit",
            [
                {"chosen": QUESTION + said("b"), "rejected": QUESTION + said("a"), **ORIGIN},
                {"chosen": QUESTION + said("b"), "rejected": QUESTION + said("c"), **ORIGIN},
            ],
        ),
        (
            "trl-implicit-plain",
            [
                {"chosen": "Why?\nb", "rejected": "Why?\na", **ORIGIN},
                {"chosen": "Why?\nb", "rejected": "Why?\nc", **ORIGIN},
            ],
        ),
        (
            "trl-unpaired",
            [
                {"prompt": QUESTION, "completion": said("a"), "label": False, **ORIGIN},
                {"prompt": QUESTION, "completion": said("b"), "label": True, **ORIGIN},
                {"prompt": QUESTION, "completion": said("c"), "label": False, **ORIGIN},
            ],
        ),
        ("prompt-completion", [{"prompt": QUESTION, "completion": said("b"), **ORIGIN}]),
        ("prompt-completion-plain", [{"prompt": "Why?", "completion": "b", **ORIGIN}]),
        ("prompt-only", [{"prompt": QUESTION, "split": "train"}]),
        ("prompt-only-plain", [{"prompt": "Why?", "split": "train"}]),
        ("rankings", [{"messages": QUESTION, "responses": ["a", "b", "c"], "ranks": [2, 1, 2], **ORIGIN}]),
        (
            "hh",
            [
                {
                    "chosen": "\n\nHuman: Why?\n\nAssistant: b",
                    "rejected": f"\n\nHuman: Why?\n\nAssistant: {worse}",
                    "split": "train",
                    "source": "human",
                }
                for worse in "ac"
            ],
        ),
        (
            "ultrafeedback",
            [
                {
                    "source": "human",
                    "instruction": "Why?",
                    "models": ["generation 0", "edit", "imported"],
                    "completions": [
                        {"model": "generation 0", "response": "a", "overall_score": 1.0},
                        {"model": "edit", "response": "b", "overall_score": 2.0},
                        {"model": "imported", "response": "c", "overall_score": 1.0},
                    ],
                    "split": "train",
                }
            ],
        ),
    ],
)
def test_a_ranking_becomes_the_rows_of_a_form(name: str, rows: list[dict[str, Any]]) -> None:
    assert list(FORMS[name].rows(ANSWERED)) == rows


def test_battles_have_a_winner_a_tie_or_two_losers() -> None:
    rows = list(FORMS["arena"].rows(ANSWERED))
    assert [(row["model_a"], row["model_b"], row["winner"]) for row in rows] == [
        ("generation 0", "edit", "model_b"),
        ("generation 0", "imported", "tie"),
        ("edit", "imported", "model_a"),
    ]
    assert rows[0]["conversation_a"] == QUESTION + said("a")
    bad = Ranking("r", "1", "train", QUESTION, ["a", "b"], [1, 1], kind="both bad", models=["x", "y"])
    assert [row["winner"] for row in FORMS["arena"].rows(bad)] == ["tie (bothbad)"]


def test_a_chat_of_several_turns_is_a_transcript_that_asks_for_the_next_one() -> None:
    chat = [{"role": "system", "content": "Be brief."}, *QUESTION, *said("So."), *QUESTION]
    assert transcript(chat[1:]) == "\n\nHuman: Why?\n\nAssistant: So.\n\nHuman: Why?"
    assert plain(chat).startswith("\n\nSystem: Be brief.\n\nHuman: Why?")
    assert plain(chat).endswith("\n\nHuman: Why?\n\nAssistant:")
    assert plain([]) == ""


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_of_csv_is_a_formula(text: str) -> None:
    assert cell(text) == "'" + text
    assert cell("1=1") == "1=1"
    assert cell(-1.5) == -1.5


@pytest.fixture
def stage() -> World:
    made = world(prompts=3, norms_on=True)
    collect_items(made)
    return made


@pytest.fixture
def snapshot(stage: World) -> Snapshot:
    _a, b, *_rest = ids_of(stage)
    judge(stage, {**ranks(ids_of(stage), 1, 2, 3, 4), "edits": {str(b): "=Better."}})
    judge(stage, ranks(ids_of(stage, "test"), 2, 1), split="test")
    pair(stage, "helpsteer", strength=1.0)
    return create_snapshot(project=stage.project, actor=None, name="v1")


@pytest.fixture
def client_of_alice(client: Client, stage: World) -> Client:
    client.force_login(stage.alice)
    return client


def test_every_form_loads_with_datasets_split_by_split(snapshot: Snapshot, tmp_path: Path) -> None:
    out = tmp_path / "out"
    call_command("export", "garden/v1", format="all", out=out)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["sha256"] == snapshot.sha256
    listed = {file["path"]: file for file in manifest["files"]}
    assert {path.split("/")[0] for path in listed} == set(FORMS)
    found = {str(path.relative_to(out)) for path in out.rglob("*.*") if path.parent != out}
    assert found == set(listed)
    for path, file in listed.items():
        assert file_sha256(out / path) == file["sha256"]
        if path.endswith("jsonl"):
            split = Path(path).stem
            loaded = datasets.load_dataset(
                "json", data_files={split: str(out / path)}, split=split, cache_dir=str(tmp_path / "cache")
            )
            beside = datasets.load_dataset(str(out), Path(path).parent.name, split=split, cache_dir=str(tmp_path / "c"))
            assert len(loaded) == len(beside) == file["rows"] > 0, path
            assert loaded.column_names == beside.column_names == list(FORMS[Path(path).parent.name].columns)
            assert set(loaded["split"]) == {split}


def test_only_a_split_with_rows_has_a_file(snapshot: Snapshot, tmp_path: Path) -> None:
    export(snapshot, tmp_path, forms=["trl-preference"])
    assert sorted(path.name for path in (tmp_path / "trl-preference").iterdir()) == sorted(
        f"{split}.{kind}" for split in ("train", "test") for kind in ("jsonl", "parquet", "csv")
    )
    rows = [json.loads(line) for line in (tmp_path / "trl-preference" / "train.jsonl").read_text().splitlines()]
    assert [row["source"] for row in rows] == ["human"] * 7 + ["helpsteer"]
    assert rows[-1]["strength"] == 1.0


def test_csv_has_the_same_rows_and_no_formula(snapshot: Snapshot, tmp_path: Path) -> None:
    export(snapshot, tmp_path, forms=["prompt-completion-plain"], file_types=["csv"])
    with open(tmp_path / "prompt-completion-plain" / "train.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["completion"] for row in rows][1] == "'=Better."


def test_an_export_that_cannot_be_written_is_refused_and_leaves_the_earlier_one(
    snapshot: Snapshot, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Refused, match="cannot be written"):
        export(snapshot, tmp_path / "file" / "below", forms=["hh"])
    export(snapshot, tmp_path, forms=["hh"])
    before = (tmp_path / "hh" / "train.jsonl").read_bytes()
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(Refused, match="cannot be written"):
        export(snapshot, tmp_path, forms=["hh"])
    assert (tmp_path / "hh" / "train.jsonl").read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def address(snapshot: Snapshot, file: str = "train.jsonl", form: str = "trl-preference") -> str:
    return reverse("export", args=["garden", snapshot.pk, form, file])


def fetched(response: Any) -> bytes:
    return b"".join(response.streaming_content)


def test_a_download_that_broke_off_goes_on_with_the_same_bytes(client_of_alice: Client, snapshot: Snapshot) -> None:
    whole = client_of_alice.get(address(snapshot))
    content = fetched(whole)
    assert whole["Content-Length"] == str(len(content))
    assert content.count(b"\n") == 8
    part = client_of_alice.get(address(snapshot), headers={"Range": "bytes=100-", "If-Range": whole["ETag"]})
    assert (part.status_code, fetched(part)) == (206, content[100:])
    assert part["Content-Range"] == f"bytes 100-{len(content) - 1}/{len(content)}"
    first = client_of_alice.get(address(snapshot), headers={"Range": "bytes=0-99"})
    assert fetched(first) == content[:100]
    last = client_of_alice.get(address(snapshot), headers={"Range": "bytes=-10"})
    assert fetched(last) == content[-10:]


def test_parts_that_do_not_exist_and_files_that_changed_are_told(client_of_alice: Client, snapshot: Snapshot) -> None:
    whole = client_of_alice.get(address(snapshot))
    size = int(whole["Content-Length"])
    beyond = client_of_alice.get(address(snapshot), headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond["Content-Range"]) == (416, f"bytes */{size}")
    other = client_of_alice.get(address(snapshot), headers={"Range": "bytes=5-", "If-Range": '"old"'})
    assert (other.status_code, len(fetched(other))) == (200, size)
    known = client_of_alice.get(address(snapshot), headers={"If-None-Match": whole["ETag"]})
    assert known.status_code == 304
    for odd in ("bytes=a-b", "bytes=5-2", "bytes=-", "lines=1-2", "bytes=0-1,3-4"):
        assert client_of_alice.get(address(snapshot), headers={"Range": odd}).status_code == 200, odd


@pytest.mark.parametrize(
    ("form", "file"),
    [("gone", "train.jsonl"), ("hh", "all.jsonl"), ("hh", "train.exe"), ("hh", "train"), ("..", "train.jsonl")],
)
def test_files_that_no_export_has_are_not_found(
    client_of_alice: Client, snapshot: Snapshot, form: str, file: str
) -> None:
    assert client_of_alice.get(f"/p/garden/snapshots/{snapshot.pk}/export/{form}/{file}").status_code == 404


def test_a_split_without_rows_is_an_empty_file(client_of_alice: Client, snapshot: Snapshot) -> None:
    assert client_of_alice.get(address(snapshot, "dev.jsonl")).content == b""


def test_the_card_tells_what_the_data_is(client_of_alice: Client, snapshot: Snapshot) -> None:
    text = client_of_alice.get(reverse("snapshot_card", args=["garden", snapshot.pk])).content.decode()
    assert text == card(snapshot)
    assert text.startswith("---\npretty_name: ")
    for words in (
        'license: "unknown"',
        "| train | 1 | 3 | 8 |",
        "people: 1",
        "version 1 (3 rankings)",
        snapshot.sha256,
    ):
        assert words in text


def test_the_page_shows_counts_forms_and_the_difference(
    client_of_alice: Client, snapshot: Snapshot, stage: World
) -> None:
    page = client_of_alice.get(reverse("snapshot", args=["garden", snapshot.pk])).content.decode()
    for form in FORMS:
        assert address(snapshot, "train.parquet", form) in page
    assert address(snapshot, "dev.jsonl") not in page
    pair(stage, "later", 1)
    newer = create_snapshot(project=stage.project, actor=None, name="v2")
    page = client_of_alice.get(reverse("snapshot_difference", args=["garden", newer.pk])).content.decode()
    assert "Snapshot v2 against v1" in page
    assert "later" in page


def test_the_recipe_page_counts_live_and_freezes(client_of_alice: Client, stage: World) -> None:
    judge(stage, ranks(ids_of(stage), 1, 2))
    pair(stage, "helpsteer")
    address = reverse("recipe", args=["garden"])
    form = {"kinds": "human", "parts": "order", "splits": "train", "aggregation": "majority", "name": "mine"}
    look = client_of_alice.post(address, form, headers={"HX-Request": "true"})
    assert look.status_code == 200
    assert "judgements: 1 · imported pairs: 0" in look.content.decode()
    assert "from other sources" in look.content.decode()
    wrong = client_of_alice.post(address, {**form, "min_raters": "many"}, headers={"HX-Request": "true"})
    assert "is not a number" in wrong.content.decode()
    assert client_of_alice.post(address, form).status_code == 302
    made = stage.project.snapshots.get()
    assert (made.name, made.recipe["aggregation"], made.recipe["sources"]) == ("mine", "majority", [])
    again = client_of_alice.get(address, {"from": made.pk}).content.decode()
    assert 'value="majority" checked' in again


def test_a_form_that_will_not_do_comes_back_as_it_was_filled_in(client_of_alice: Client, stage: World) -> None:
    pair(stage, "helpsteer")
    form = {
        **{"kinds": ["human", "ai"], "parts": "edits", "splits": ["dev"], "aggregation": "majority"},
        **{"tags": "zh, code", "min_raters": "many", "longest": "300", "most:helpsteer": "7", "share:human": "x"},
        **{"leave_out_flagged": "on", "name": "mine", "licence": "cc0-1.0", "norm_weight": "0.25"},
    }
    answer = client_of_alice.post(reverse("recipe", args=["garden"]), form)
    html = answer.content.decode()
    assert (answer.status_code, "“many” is not a number" in html) == (422, True)
    assert answer.context["typed"] == {
        name: value[0] if isinstance(value, list) else value for name, value in form.items()
    }
    for shown in (
        'name="kinds" value="ai" checked',
        'name="parts" value="edits" checked',
        'name="splits" value="dev" checked',
        'value="majority" checked',
        'name="min_raters" type="number" min="1" value="many"',
        'name="most:helpsteer" type="number" min="0" value="7"',
        'name="share:human" inputmode="decimal" value="x"',
        'name="leave_out_flagged" checked',
        'value="zh, code"',
        'name="name" value="mine"',
    ):
        assert shown in html, shown
    for other in ('value="simulated" checked', 'value="order" checked', 'name="demonstrations" checked'):
        assert other not in html, other


@pytest.mark.parametrize(
    "values",
    [
        {},
        {
            **{"kinds": ["simulated"], "parts": ["norms"], "sources": ["b"], "splits": ["test"], "tags": ["zh", "de"]},
            **{"demonstrations": False, "raters": ["bob"], "min_raters": 2, "guideline_from": 3, "since": "2026-01-31"},
            **{"until": "2026-02-01", "min_strength": 0.0, "leave_out_flagged": True, "shortest": 5, "longest": 500},
            **{"aggregation": "reliability", "norm_weight": 0.1, "seed": 12, "licence": "cc0-1.0"},
            "shares": {"simulated": 0.3, "b": 0.7},
        },
        {"most": {"human": 0, "b": 123456789}, "norm_weight": 0.0},
    ],
)
def test_the_form_of_a_recipe_is_read_back_as_that_recipe(values: dict[str, Any]) -> None:
    recipe = parse_recipe(values)
    form = QueryDict(mutable=True)
    for name, texts in _filled(recipe, ["a", "b"]).items():
        form.setlist(name, texts)
    assert _posted(form, ["a", "b"]) == recipe


def test_a_file_of_a_recipe_is_frozen_by_command(stage: World, tmp_path: Path, capsys: Any) -> None:
    judge(stage, ranks(ids_of(stage), 1, 2))
    pair(stage, "helpsteer")
    (tmp_path / "recipe.json").write_text(json.dumps({"sources": [], "splits": ["train"]}))
    call_command("snapshot", project="garden", name="v1", recipe=tmp_path / "recipe.json")
    said = capsys.readouterr().out
    assert "train: 1 prompts, 1 rankings, 1 pairs" in said
    assert "left out: 1 comparisons (sources)" in said
