"""Best-of-n: which answers are kept, what is said of the sampler, and rejection sampling on a tiny model."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from policy import bestofn
from policy.bestofn import next_part
from policy.contract import EngineConfig, Sampling
from policy.engines.base import start_engine
from policy.methods import KEPT_FILE, BestOfNJob, best_of, best_of_n_kl_bound
from rewardmodel.chat import Message, load_tokenizer
from rewardmodel.contract import JobError
from rewardmodel.model import RewardModel, Settings, new_reward_model
from rewardmodel.publish import verify
from rewardmodel.rundir import Stopped, open_run
from tests.policy.conftest import make_model, progress_of, write_run
from tests.policy.learners import FAST, loaded

PROMPTS = [(f"p{i}", split, f"Say {i}") for i, split in enumerate(["train"] * 6 + ["dev", "dev", "test"])]


@pytest.fixture(scope="module")
def reward_model(tiny_model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "reward"
    settings = Settings(base_model=str(tiny_model), loss="logistic", max_tokens=64)
    tokenizer, device = load_tokenizer(tiny_model), torch.device("cpu")
    new_reward_model(tokenizer, settings, dtype=torch.float32, device=device, seed=0).save(folder)
    return folder


@pytest.fixture
def brevity(monkeypatch) -> None:
    """A reward by which the shorter answer is better."""

    def score(self, conversations):
        return torch.tensor([-float(len(text)) for _messages, text in conversations])

    monkeypatch.setattr(RewardModel, "score", score)


def best_job(policy, reward, **changes) -> BestOfNJob:
    return BestOfNJob(
        **{
            "policy": str(policy),
            "reward_model": str(reward),
            "n": 4,
            "prompts_per_part": 3,
            "learning_rate": 2e-2,
            "epochs": 8,
            "examples_per_step": 3,
            "patience": 99,
            "sampling": Sampling(temperature=1.0, max_tokens=12),
            "temperature": 1.0,
            "no_end_penalty": 0.0,
            "engine": EngineConfig(name="transformers", dtype="float32"),
            **FAST,
            **changes,
        }
    )


def run_best(folder: Path, attempt: int = 1) -> dict:
    with open_run(folder, attempt) as run:
        bestofn.main(run)
    return json.loads((folder / "result.json").read_text())


def test_the_best_of_each_n_in_a_row_is_kept_the_first_of_equals():
    assert best_of([1.0, 3.0, 2.0, 5.0, 5.0, 4.0], 3) == [1, 3]


@pytest.mark.parametrize("n", [2, 4, 16])
def test_the_bound_on_the_samplers_kl_is_that_of_the_best_of_n_uniform_numbers(n):
    """Where no scores tie, the best of n has density n·u^(n−1) in the rank u: its KL to uniform, integrated."""
    u = (np.arange(1_000_000) + 0.5) / 1_000_000
    density = n * u ** (n - 1)
    assert best_of_n_kl_bound(n) == pytest.approx(float(np.mean(density * np.log(density))), abs=1e-4)
    assert best_of_n_kl_bound(4) == pytest.approx(math.log(4) - 0.75)


def test_what_is_kept_scores_best_and_the_policy_learns_it(tiny_model, reward_model, tmp_path, brevity):
    run_dir = write_run(tmp_path / "run", "bestofn", best_job(tiny_model, reward_model, lora_layers=1.0), PROMPTS)
    (run_dir / "output").mkdir()
    result = run_best(run_dir)
    assert verify(run_dir / result["model"], result["manifest_sha256"])
    kept = pq.read_table(run_dir / KEPT_FILE).to_pylist()
    assert [row["prompt_id"] for row in kept] == [f"p{n}" for n in range(8)]  # none of a test prompt
    assert all(row["score"] >= row["mean_score"] for row in kept)
    metrics = result["metrics"]
    assert metrics["best_score"] > metrics["mean_score"]
    assert metrics["kl_bound"] == pytest.approx(math.log(4) - 0.75)
    assert metrics["counts"] == {"train": 6, "dev": 2, "samples": 32, "left_out": 0}
    shorter = [_mean_length(folder, tmp_path) for folder in (tiny_model, run_dir / result["model"])]
    assert shorter[1] < shorter[0]


def _mean_length(folder: Path, tmp_path: Path) -> float:
    """Mean characters of the model's answers to prompts that it was not trained on."""
    from policy.engines.base import generate, make_request
    from rewardmodel.chat import prompt_ids

    engine = start_engine(EngineConfig(name="transformers", dtype="float32"), folder, tmp_path / "log.txt")
    tokenizer = load_tokenizer(folder)
    chats: list[list[Message]] = [[{"role": "user", "content": f"Say {n}"}] for n in range(20, 60)]
    sampling = Sampling(temperature=1.0, max_tokens=12)
    requests = [make_request(sampling, chat, prompt_ids(tokenizer, chat), n) for n, chat in enumerate(chats)]
    return float(np.mean([len(answer.text) for answer in generate(engine, requests)]))


def test_a_stopped_run_keeps_the_parts_that_it_drew_and_ends_in_the_same_model(
    tiny_model, reward_model, tmp_path, monkeypatch
):
    job = best_job(tiny_model, reward_model, epochs=1)
    straight = run_best(_prepared(tmp_path / "straight", job))
    cut = _prepared(tmp_path / "cut", job)
    real, scored = RewardModel.score, []

    def stop_in_the_second_part(self, conversations):
        scored.append(len(conversations))
        if len(scored) == 2 and not (cut / "attempt-2").exists():
            (cut / "stop").touch()
        return real(self, conversations)

    monkeypatch.setattr(RewardModel, "score", stop_in_the_second_part)
    with pytest.raises(Stopped):
        run_best(cut)
    (cut / "stop").unlink()
    scored.clear()
    assert run_best(cut, attempt=2)["manifest_sha256"] == straight["manifest_sha256"]
    assert sum(scored) == 8 * 4 - 3 * 4
    parts = [line["done"] for line in progress_of(cut, attempt=2) if line["stage"] == "sample"]
    assert parts == [6, 8]


def _prepared(folder: Path, job: BestOfNJob) -> Path:
    write_run(folder, "bestofn", job, PROMPTS)
    (folder / "output").mkdir()
    return folder


def test_an_answer_that_was_cut_off_loses_the_penalty(tiny_model, reward_model, tmp_path, monkeypatch):
    """Among answers of equal score those that end are kept where there are any."""
    monkeypatch.setattr(RewardModel, "score", lambda self, pairs: torch.zeros(len(pairs)))
    job = best_job(
        tiny_model, reward_model, no_end_penalty=1.0, epochs=1, sampling=Sampling(temperature=1.0, max_tokens=60)
    )
    run_dir = _prepared(tmp_path / "run", job)
    run_best(run_dir)
    end = load_tokenizer(tiny_model).eos_token_id
    for row in pq.read_table(run_dir / KEPT_FILE).to_pylist():
        assert row["score"] == (0.0 if row["token_ids"][-1] == end else -1.0)
        assert (row["token_ids"][-1] == end) == (row["mean_score"] > -1.0)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_ends_the_run_with_a_sentence_that_names_the_prompt(
    tiny_model, reward_model, tmp_path, monkeypatch, score
):
    def broken(self, pairs):
        return torch.tensor([score if messages[0]["content"] == "Say 1" else 0.5 for messages, _text in pairs])

    monkeypatch.setattr(RewardModel, "score", broken)
    with pytest.raises(JobError, match="The reward of an answer is not a number, on the prompts p1, so no best one"):
        run_best(_prepared(tmp_path / "run", best_job(tiny_model, reward_model)))


def test_drawing_is_done_in_two_thirds_of_the_limit_at_the_pace_of_the_part_before():
    """Of 90 seconds 60 are for drawing: 2 a prompt leave 26 after 34, which is 13 prompts, and then 1 a prompt all."""
    job = best_job("policy", "reward", max_seconds=90.0, prompts_per_part=8)
    assert next_part(replace(job, max_seconds=0.0), 100, []) == 8
    assert next_part(replace(job, max_seconds=0.0), 100, [(8, 1000.0)] * 12) == 4
    assert next_part(job, 100, []) == 1
    assert next_part(job, 100, [(1, 2.0)]) == 2
    assert next_part(job, 100, [(1, 2.0), (2, 4.0)]) == 4
    assert next_part(job, 100, [(1, 2.0), (2, 4.0), (4, 8.0)]) == 8
    assert next_part(job, 100, [(1, 2.0), (2, 4.0), (4, 8.0), (8, 16.0)]) == 8
    assert next_part(job, 20, [(1, 2.0), (2, 4.0), (4, 8.0), (8, 16.0)]) == 5
    assert next_part(job, 100, [(1, 2.0), (2, 4.0), (4, 8.0), (8, 16.0), (8, 24.0)]) == 2  # 6 seconds left, 3 each
    assert next_part(job, 100, [(1, 2.0), (2, 4.0), (4, 8.0), (8, 40.0)]) == 1  # 6 left, 5 each
    assert next_part(job, 100, [(1, 61.0)]) == 0
    assert next_part(job, 100, [(1, 31.0)]) == 0  # a second prompt would end after 62


def test_a_limit_that_one_prompt_uses_up_leaves_a_train_prompt_to_learn_from(tiny_model, reward_model, tmp_path):
    job = best_job(tiny_model, reward_model, max_seconds=1e-3)
    for seed in range(3):
        run_dir = _prepared(tmp_path / f"run-{seed}", replace(job, seed=seed))
        result = run_best(run_dir)
        assert result["metrics"]["counts"] == {"train": 1, "dev": 0, "samples": 4, "left_out": 7}
        assert result["metrics"]["training"]["steps"] == 1
        assert pq.read_table(run_dir / KEPT_FILE)["split"].to_pylist() == ["train"]
    said = [line["message"] for line in progress_of(run_dir) if line["stage"] == "sample"]
    assert said[-1] == "The time for drawing is over after 1 of 8 prompts: what was kept is learned from."


def test_drawing_counts_what_earlier_attempts_took(tiny_model, reward_model, tmp_path, monkeypatch):
    """The first attempt is stopped after a part that took all the time; the second only learns."""
    run_dir = _prepared(tmp_path / "run", best_job(tiny_model, reward_model, max_seconds=600.0, epochs=1))
    real = bestofn.write_rows

    def slowly(path, rows, columns):
        if path.parent.name == bestofn.SAMPLES_FOLDER:
            rows = [{**row, "seconds": 500.0} for row in rows]
            (run_dir / "stop").touch()
        real(path, rows, columns)

    monkeypatch.setattr(bestofn, "write_rows", slowly)
    with pytest.raises(Stopped):
        run_best(run_dir)
    (run_dir / "stop").unlink()
    result = run_best(run_dir, attempt=2)
    assert result["metrics"]["counts"]["samples"] == 4
    assert result["seconds"]["generate"] == 0.0


def test_with_a_limit_that_is_not_reached_every_prompt_is_drawn_for(tiny_model, reward_model, tmp_path):
    run_dir = _prepared(tmp_path / "run", best_job(tiny_model, reward_model, max_seconds=600.0, epochs=1))
    assert run_best(run_dir)["metrics"]["counts"] == {"train": 6, "dev": 2, "samples": 32, "left_out": 0}
    kept = pq.read_table(run_dir / KEPT_FILE)["prompt_id"].to_pylist()
    assert sorted(kept) == [f"p{n}" for n in range(8)]
    assert kept != sorted(kept)  # the order is drawn
    assert [line["done"] for line in progress_of(run_dir) if line["stage"] == "sample"] == [1, 3, 6, 8]


def test_vllm_draws_the_answers_and_takes_the_published_weights(tiny_model, reward_model, tmp_path, vllm_engine):
    """SFT, DPO and best-of-n publish by one function."""
    engine = EngineConfig(name="vllm", dtype="float32", kv_cache_bytes=1 << 26, max_sequences=16)
    run_dir = _prepared(tmp_path / "run", best_job(tiny_model, reward_model, epochs=1, engine=engine))
    result = run_best(run_dir)
    assert "vllm" in result["versions"]
    from policy.engines.base import generate, make_request
    from rewardmodel.chat import prompt_ids

    published = run_dir / result["model"]
    vllm_engine.load_weights(published)
    tokenizer, chat = load_tokenizer(published), [{"role": "user", "content": "说点什么"}]
    request = make_request(Sampling(temperature=1.0, max_tokens=8), chat, prompt_ids(tokenizer, chat), "x")
    [answer] = generate(vllm_engine, [request])
    vllm_engine.load_weights(tiny_model)
    with torch.no_grad():
        logits = loaded(published)(torch.tensor([request.prompt_ids + answer.token_ids])).logits[0]
    logprobs = logits[len(request.prompt_ids) - 1 : -1].log_softmax(-1)
    expected = logprobs.gather(1, torch.tensor(answer.token_ids)[:, None])[:, 0].tolist()
    assert answer.logprobs == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "prompts", "sentence"),
    [
        ({"reward_model": "/nowhere"}, PROMPTS, "/nowhere is not a model folder"),
        ({}, PROMPTS[6:], "None of the prompts belongs to the split train"),
        ({}, [*PROMPTS, ("long", "train", "x" * 300)], "Prompt long has 302 tokens, and with an answer of 12"),
        ({"device": "cuda:7"}, PROMPTS, "There is no device 'cuda:7' on this machine"),
    ],
)
def test_a_job_that_cannot_run_is_refused_before_anything_is_loaded(
    tiny_model, reward_model, tmp_path, changes, prompts, sentence
):
    job = best_job(tiny_model, changes.pop("reward_model", reward_model), **changes)
    run_dir = write_run(tmp_path / "run", "bestofn", job, prompts)
    with open_run(run_dir, 1) as run, pytest.raises(JobError, match=sentence):
        bestofn.main(run)
    assert progress_of(run_dir) == []


def test_a_reward_model_with_another_template_is_refused(reward_model, tmp_path):
    other = make_model(tmp_path / "other")
    template = other / "chat_template.jinja"
    template.write_text(template.read_text() + "!")
    with pytest.raises(JobError, match="reads text with another tokenizer or chat template"):
        run_best(_prepared(tmp_path / "run", best_job(other, reward_model)))


def test_settings_that_make_no_sense_are_refused_by_name():
    with pytest.raises(JobError, match="n must be at least 2"):
        best_job("policy", "reward", n=1)
    with pytest.raises(JobError, match="which a server does not have"):
        best_job(
            "policy",
            "reward",
            engine=EngineConfig(name="openai", base_url="https://host/v1", served_model="m"),
        )


def test_more_draws_never_score_worse():
    scores = np.random.default_rng(0).normal(size=64).tolist()
    means = [np.mean([scores[place] for place in best_of(scores, n)]) for n in (1, 2, 4, 8, 16)]
    assert all(one <= other for one, other in pairwise(means))
