"""Scoring answers as a job: the scores are the model's own, and a job that was broken off goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rewardmodel.chat import load_tokenizer
from rewardmodel.contract import ScoreJob, to_spec
from rewardmodel.model import Settings, load_reward_model, new_reward_model
from rewardmodel.publish import file_sha256, publish
from rewardmodel.score import ROWS_PER_FILE, main

ROWS: list[dict[str, Any]] = [
    {"row_id": f"item-{n}", "messages": [{"role": "user", "content": f"Question {n}?"}], "responses": ["Yes.", "No."]}
    for n in range(ROWS_PER_FILE + 1)
]


@pytest.fixture(scope="module")
def reward_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = Settings(base_model=str(tiny_model), loss="listmle", max_tokens=256, mean=0.3, scale=2.0)
    model = new_reward_model(
        load_tokenizer(tiny_model), settings, dtype=torch.float32, device=torch.device("cpu"), seed=0
    )
    folder = tmp_path_factory.mktemp("reward") / "model"
    publish(folder, model.save)
    return folder


def run_folder(folder: Path, reward_model: Path, rows: list[dict[str, Any]] | None = ROWS) -> Path:
    (folder / "data").mkdir(parents=True)
    job = ScoreJob(reward_model=str(reward_model), dtype="float32", threads=1)
    (folder / "spec.json").write_text(json.dumps(to_spec("score", job)))
    if rows is not None:
        pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "answers.parquet")
    return folder


def test_each_answer_gets_the_score_that_the_model_gives_it_alone(tmp_path: Path, reward_model: Path) -> None:
    folder = run_folder(tmp_path / "run", reward_model)
    assert main(["--run-dir", str(folder)]) == 0
    result = json.loads((folder / "result.json").read_text())
    assert result["metrics"] == {"completions": 2 * len(ROWS)}
    assert len(result["shards"]) == 2
    scores: dict[tuple[str, int], float] = {}
    for name, sha256 in result["shards"].items():
        assert file_sha256(folder / name) == sha256
        scores |= {(row["row_id"], row["index"]): row["score"] for row in pq.read_table(folder / name).to_pylist()}
    assert len(scores) == 2 * len(ROWS)
    model = load_reward_model(reward_model, dtype="float32", device="cpu")
    for row in (ROWS[0], ROWS[-1]):
        for index, text in enumerate(row["responses"]):
            alone = model.score([(row["messages"], text)]).item()
            assert scores[row["row_id"], index] == pytest.approx(alone, abs=1e-4)


def test_a_job_that_was_broken_off_keeps_what_it_had_published(tmp_path: Path, reward_model: Path) -> None:
    whole = run_folder(tmp_path / "whole", reward_model)
    assert main(["--run-dir", str(whole)]) == 0
    broken = run_folder(tmp_path / "broken", reward_model)
    (broken / "output").mkdir()
    first = "output/scores-00000.parquet"
    shutil.copy(whole / first, broken / first)
    before = (broken / first).stat().st_mtime_ns
    assert main(["--run-dir", str(broken)]) == 0
    assert (broken / first).stat().st_mtime_ns == before
    results = [json.loads((folder / "result.json").read_text())["shards"] for folder in (whole, broken)]
    assert results[0] == results[1]


def test_a_job_stops_when_it_is_asked_and_can_go_on(tmp_path: Path, reward_model: Path) -> None:
    folder = run_folder(tmp_path / "run", reward_model)
    (folder / "stop").touch()
    assert main(["--run-dir", str(folder)]) == 75
    (folder / "stop").unlink()
    assert main(["--run-dir", str(folder)]) == 0


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (None, "is missing; there is nothing to score"),
        ([{"row_id": "a", "messages": []}], "lacks the column responses"),
        ([{**ROWS[0], "responses": ["Yes.", None]}], "Row 0 of data/answers.parquet lacks a value"),
    ],
)
def test_answers_that_will_not_do_are_refused_in_a_sentence(
    tmp_path: Path,
    reward_model: Path,
    capsys: pytest.CaptureFixture[str],
    rows: list[dict[str, Any]] | None,
    sentence: str,
) -> None:
    assert main(["--run-dir", str(run_folder(tmp_path / "run", reward_model, rows))]) == 1
    assert sentence in capsys.readouterr().err
