"""``python -m policy.generate``: completions come in order, piece by piece, and are never lost or doubled."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from policy.contract import COMPLETION_COLUMNS, EngineConfig, EvaluateJob, GenerateJob, Sampling
from policy.engines.base import request_seed
from policy.generate import main
from policy.scoring import Scoring
from rewardmodel.contract import JobError
from rewardmodel.rundir import Stopped, open_run
from tests.policy.conftest import ROOT, make_model, progress_of, write_run
from tests.policy.learners import make_kind

TRANSFORMERS = EngineConfig(name="transformers", dtype="float32", max_sequences=8)
SHORT = Sampling(max_tokens=12, seed=5)
PROMPTS = [(f"p{i}", "train", "word " * (i % 4 + 1)) for i in range(12)]


def generate_job(folder, **changes) -> GenerateJob:
    return GenerateJob(
        **{
            "model": str(folder),
            "generation": 1,
            "samples": 3,
            "sampling": SHORT,
            "engine": TRANSFORMERS,
            "prompts_per_shard": 4,
            **changes,
        }
    )


def run_here(run_dir, attempt=1) -> dict:
    with open_run(run_dir, attempt) as run:
        main(run)
    return json.loads((run_dir / "result.json").read_text())


def completions_of(run_dir, result: dict) -> list[dict]:
    return [row for shard in result["shards"] for row in pq.read_table(run_dir / shard).to_pylist()]


def test_every_prompt_is_answered_in_order_with_all_its_samples(tiny_model, tmp_path):
    run_dir = write_run(tmp_path / "run", "generate", generate_job(tiny_model), PROMPTS)
    result = run_here(run_dir)
    rows = completions_of(run_dir, result)
    assert [(row["prompt_id"], row["sample"]) for row in rows] == [(p[0], k) for p in PROMPTS for k in range(3)]
    assert set(rows[0]) == set(COMPLETION_COLUMNS)
    for row in rows:
        assert row["seed"] == request_seed(5, 1, row["prompt_id"], row["sample"])
        assert row["engine"] == "transformers"
        assert row["score"] is None
        assert row["sum_logprob"] < 0
        assert 1 <= row["token_count"] <= 12
    assert result["kind"] == "generate"
    assert result["completions"] == 36


def test_the_first_files_are_small_and_each_is_announced_when_it_is_whole(tiny_model, tmp_path):
    run_dir = write_run(tmp_path / "run", "generate", generate_job(tiny_model), PROMPTS)
    result = run_here(run_dir)
    prompts_in = [pq.read_table(run_dir / shard).num_rows // 3 for shard in result["shards"]]
    assert prompts_in == [1, 2, 4, 4, 1]
    announced = [line["metrics"]["shard"] for line in progress_of(run_dir) if "shard" in line["metrics"]]
    assert announced == list(result["shards"])


def test_a_second_attempt_keeps_what_was_published_and_answers_the_rest(tiny_model, tmp_path):
    whole = write_run(tmp_path / "whole", "generate", generate_job(tiny_model), PROMPTS)
    expected = completions_of(whole, run_here(whole))
    cut = write_run(tmp_path / "cut", "generate", generate_job(tiny_model), PROMPTS)
    (cut / "output").mkdir()
    for name in ("completions-00000.parquet", "completions-00001.parquet"):
        (cut / "output" / name).write_bytes((whole / "output" / name).read_bytes())
    (cut / "output" / ".completions-00002.parquet.tmp").write_bytes(b"half a file")
    result = run_here(cut, attempt=2)
    assert [(r["prompt_id"], r["sample"], r["text"]) for r in completions_of(cut, result)] == [
        (r["prompt_id"], r["sample"], r["text"]) for r in expected
    ]
    announced = [line["metrics"]["shard"] for line in progress_of(cut, 2) if "shard" in line["metrics"]]
    assert announced == list(result["shards"])


def test_a_run_whose_answers_are_all_there_loads_no_model(tiny_model, tmp_path):
    run_dir = write_run(tmp_path / "run", "generate", generate_job(tiny_model), PROMPTS[:2])
    first = run_here(run_dir)
    again = run_here(run_dir, attempt=2)
    assert again["shards"] == first["shards"]
    assert "load" not in {line["stage"] for line in progress_of(run_dir, 2)}


def test_later_samples_carry_on_the_numbering_with_other_seeds(tiny_model, tmp_path):
    run_dir = write_run(tmp_path / "run", "generate", generate_job(tiny_model, first_sample=3), PROMPTS[:2])
    rows = completions_of(run_dir, run_here(run_dir))
    assert [row["sample"] for row in rows] == [3, 4, 5, 3, 4, 5]
    assert rows[0]["seed"] == request_seed(5, 1, "p0", 3)


def test_a_stop_is_honoured_and_what_was_published_stays(tiny_model, tmp_path):
    run_dir = write_run(tmp_path / "run", "generate", generate_job(tiny_model), PROMPTS)
    (run_dir / "stop").touch()
    with open_run(run_dir, 1) as run, pytest.raises(Stopped):
        main(run)
    assert not (run_dir / "result.json").exists()


class CountsLetters:
    """A reward by which the longer answer is better."""

    def score(self, conversations):
        import torch

        return torch.tensor([float(len(answer)) for _, answer in conversations])


def test_the_best_of_several_tries_is_published_with_its_score_and_the_bound_is_reported(
    tiny_model, tmp_path, monkeypatch
):
    monkeypatch.setattr(Scoring, "_load", lambda self, folder: CountsLetters())
    job = generate_job(tiny_model, best_of=4, reward_model=str(tiny_model))
    run_dir = write_run(tmp_path / "run", "generate", job, PROMPTS)
    result = run_here(run_dir)
    rows = completions_of(run_dir, result)
    assert [(row["prompt_id"], row["sample"]) for row in rows] == [(p[0], k) for p in PROMPTS for k in range(3)]
    assert all(row["score"] == len(row["text"]) for row in rows)
    tries = {row["seed"] for row in rows}
    assert tries < {request_seed(5, 1, p[0], k, t) for p in PROMPTS for k in range(3) for t in range(4)}
    assert result["metrics"]["best_of"] == 4
    assert result["metrics"]["kl_bound"] == pytest.approx(math.log(4) - 3 / 4)
    plain = write_run(tmp_path / "plain", "generate", generate_job(tiny_model), PROMPTS)
    drawn = completions_of(plain, run_here(plain))
    assert sum(len(row["text"]) for row in rows) > sum(len(row["text"]) for row in drawn)


def test_a_second_attempt_at_the_best_of_several_keeps_what_was_published(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(Scoring, "_load", lambda self, folder: CountsLetters())
    job = generate_job(tiny_model, best_of=2, reward_model=str(tiny_model))
    whole = write_run(tmp_path / "whole", "generate", job, PROMPTS[:4])
    expected = completions_of(whole, run_here(whole))
    cut = write_run(tmp_path / "cut", "generate", job, PROMPTS[:4])
    (cut / "output").mkdir()
    name = "completions-00000.parquet"
    (cut / "output" / name).write_bytes((whole / "output" / name).read_bytes())
    again = completions_of(cut, run_here(cut, attempt=2))
    assert [(row["text"], row["score"]) for row in again] == [(row["text"], row["score"]) for row in expected]


def test_the_best_of_several_needs_a_reward_model_that_reads_the_same_text(tiny_model, tmp_path):
    with pytest.raises(JobError, match="best_of above 1 needs a reward_model"):
        generate_job(tiny_model, best_of=2)
    other = make_model(tmp_path / "other")
    (other / "chat_template.jinja").write_text("{{ messages }}")
    job = generate_job(tiny_model, best_of=2, reward_model=str(other))
    run_dir = write_run(tmp_path / "run", "generate", job, PROMPTS)
    with pytest.raises(JobError, match="reads text with another tokenizer or chat template"):
        run_here(run_dir)


def test_a_score_that_is_no_number_ends_the_run_with_a_sentence(tiny_model, tmp_path, monkeypatch):
    class Broken:
        def score(self, conversations):
            import torch

            return torch.full((len(conversations),), math.nan)

    monkeypatch.setattr(Scoring, "_load", lambda self, folder: Broken())
    job = generate_job(tiny_model, best_of=2, reward_model=str(tiny_model))
    run_dir = write_run(tmp_path / "run", "generate", job, PROMPTS)
    with pytest.raises(JobError, match=r"a score that is not a number, on the prompts p0\."):
        run_here(run_dir)


def test_models_are_compared_on_the_same_prompts_and_scored_by_two_reward_models(
    tiny_model, other_tiny_model, tmp_path, monkeypatch
):
    class Counts:
        def __init__(self, letters: str) -> None:
            self.letters = letters

        def score(self, conversations):
            import torch

            return torch.tensor([float(sum(c in self.letters for c in answer)) for _, answer in conversations])

    monkeypatch.setattr(Scoring, "_load", lambda self, folder: Counts(folder))
    job = EvaluateJob(
        models=[{"generation": 0, "path": str(tiny_model)}, {"generation": 1, "path": str(other_tiny_model)}],
        reward_model="abcdefgh",
        other_reward_model="stuvwxyz",
        samples=2,
        sampling=SHORT,
        engine=TRANSFORMERS,
    )
    run_dir = write_run(tmp_path / "run", "evaluate", job, PROMPTS[:3])
    result = run_here(run_dir)
    rows = completions_of(run_dir, result)
    assert [(r["generation"], r["prompt_id"], r["sample"]) for r in rows] == [
        (g, p, s) for g in (0, 1) for p in ("p0", "p1", "p2") for s in (0, 1)
    ]
    for column, letters in (("score", "abcdefgh"), ("other_score", "stuvwxyz")):
        assert [row[column] for row in rows] == [float(sum(c in letters for c in row["text"])) for row in rows]
    for summary in result["metrics"]["generations"]:
        own = [row for row in rows if row["generation"] == summary["generation"]]
        assert summary["score"] == pytest.approx(sum(row["score"] for row in own) / 6)
        assert summary["end_rate"] == sum(row["finish_reason"] == "stop" for row in own) / 6
        assert summary["tokens"] == pytest.approx(sum(row["token_count"] for row in own) / 6)


def test_models_of_another_shape_get_an_engine_of_their_own(tiny_model, tmp_path):
    wider = make_model(tmp_path / "wider", hidden_size=96, intermediate_size=64)
    job = EvaluateJob(
        models=[{"generation": 0, "path": str(tiny_model)}, {"generation": 1, "path": str(wider)}],
        samples=1,
        sampling=SHORT,
        engine=TRANSFORMERS,
    )
    run_dir = write_run(tmp_path / "run", "evaluate", job, PROMPTS[:2])
    assert run_here(run_dir)["completions"] == 4
    loads = [line for line in progress_of(run_dir) if line["stage"] == "load"]
    assert len(loads) == 2


@pytest.mark.parametrize(
    ("changes", "prompts", "sentence"),
    [
        ({"model": "/nowhere"}, PROMPTS, "/nowhere is not a model folder: it holds no config.json."),
        ({}, [("long", "train", "word " * 60)], "Prompt long has 302 tokens, and with an answer of 12 it is longer"),
        ({}, [("twice", "train", "a"), ("twice", "train", "b")], "names a prompt twice"),
    ],
)
def test_what_cannot_be_answered_is_refused_before_a_model_is_loaded(tiny_model, tmp_path, changes, prompts, sentence):
    run_dir = write_run(tmp_path / "run", "generate", generate_job(tiny_model, **changes), prompts)
    with open_run(run_dir, 1) as run, pytest.raises(JobError, match=sentence):
        main(run)
    assert "load" not in {line["stage"] for line in progress_of(run_dir)}


def test_a_model_that_names_its_context_in_its_own_way_answers_within_it(tmp_path):
    """GPT-2's is 256 tokens, under another name than most models', and the job would take 2048."""
    folder = make_kind(tmp_path / "gpt2", "gpt2")
    fits, too_long = ("fits", "train", "x" * 242), ("long", "train", "x" * 243)  # with two marks of the template
    result = run_here(write_run(tmp_path / "run", "generate", generate_job(folder), [fits]))
    assert result["completions"] == 3
    run_dir = write_run(tmp_path / "other", "generate", generate_job(folder), [too_long])
    sentence = "Prompt long has 245 tokens, and with an answer of 12 it is longer than the 256 that the model can read"
    with open_run(run_dir, 1) as run, pytest.raises(JobError, match=sentence):
        main(run)


def test_the_command_ends_with_one_sentence_for_people_when_refused(tmp_path):
    (tmp_path / "run").mkdir()
    ended = subprocess.run(
        [sys.executable, "-m", "policy.generate", "--run-dir", str(tmp_path / "run")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [f"error: {tmp_path / 'run'} holds no spec.json; is it a run directory?"]


def test_the_command_generates_with_vllm(tiny_model, tmp_path):
    engine = EngineConfig(dtype="float32", kv_cache_bytes=1 << 26)
    run_dir = write_run(tmp_path / "run", "generate", generate_job(tiny_model, engine=engine), PROMPTS)
    ended = subprocess.run(
        [sys.executable, "-m", "policy.generate", "--run-dir", str(run_dir), "--attempt", "1"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )
    assert ended.returncode == 0, ended.stderr
    result = json.loads((run_dir / "result.json").read_text())
    rows = completions_of(run_dir, result)
    assert [(row["prompt_id"], row["sample"]) for row in rows] == [(p[0], k) for p in PROMPTS for k in range(3)]
    assert list(result["versions"]) == ["vllm"]
