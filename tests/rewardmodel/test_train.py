"""Whole jobs on a tiny model: from a run directory to a model that others load."""

import itertools
import json
import math
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rewardmodel import rundir
from rewardmodel.chat import prompt_ids, response_ids
from rewardmodel.contract import PREDICTION_COLUMNS, PREDICTIONS_FILE, RewardJob
from rewardmodel.fit import evaluation_steps, learning_rate_at
from rewardmodel.model import load_reward_model
from rewardmodel.train import main
from tests.rewardmodel.conftest import save_tiny_model
from tests.rewardmodel.rankings import ranking_row, write_run

WORDS = ["the", "cat", "sat", "on", "a", "mat", "then", "ran", "home"]
SIZES = {"train": 120, "dev": 20, "test": 40}


def answer(generator: random.Random, thanks: int) -> str:
    words = generator.choices(WORDS, k=6)
    for place in generator.sample(range(6), thanks):
        words[place] = "thanks"
    return " ".join(words)


def polite_rankings(sizes: dict[str, int] = SIZES, seed: int = 0) -> list[dict]:
    """Rankings in which the answer that says thanks more often is better; every answer has six words."""
    generator = random.Random(seed)
    rows = []
    for split, count in sizes.items():
        for number in range(count):
            thanks = generator.sample([0, 1, 2], 3)
            rows.append(
                ranking_row(
                    row_id=f"{split}-{number}",
                    prompt_id=f"{split}-{number}",
                    split=split,
                    responses=[answer(generator, n) for n in thanks],
                    ranks=[3 - n for n in thanks],
                )
            )
    return rows


def job(model: Path, **changes: object) -> dict:
    return {
        "base_model": str(model),
        "dtype": "float32",
        "device": "cpu",
        "learning_rate": 1e-2,
        "lora_rank": 8,
        "epochs": 3,
        "threads": 1,
        **changes,
    }


def run_in_process(run: Path) -> dict:
    assert main(["--run-dir", str(run)]) == rundir.EXIT_DONE
    return json.loads((run / "result.json").read_text())


def progress(run: Path, attempt: int = 1) -> list[dict]:
    return [json.loads(line) for line in (run / f"attempt-{attempt}" / "progress.jsonl").read_text().splitlines()]


def scores(run: Path) -> dict[tuple[str, int], float]:
    rows = pq.read_table(run / PREDICTIONS_FILE).to_pylist()
    return {(row["row_id"], row["index"]): row["score"] for row in rows if row["split"] == "test"}


@pytest.fixture(scope="module")
def trained(tiny_model, tmp_path_factory):
    """One job by the command line, as the worker starts it."""
    run = write_run(tmp_path_factory.mktemp("trained"), polite_rankings(), **job(tiny_model))
    command = [sys.executable, "-m", "rewardmodel.train", "--run-dir", str(run), "--attempt", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return run


def test_a_learnable_preference_is_recovered_on_prompts_not_trained_on(trained):
    test = json.loads((trained / "result.json").read_text())["metrics"]["test"]
    assert test["accuracy"] > 0.9
    assert test["accuracy_ci"][0] <= test["accuracy"] <= test["accuracy_ci"][1]
    assert (test["pairs"], test["prompts"]) == (120, 40)


def test_the_length_rule_is_reported_on_the_same_pairs(trained):
    rows = [row for row in polite_rankings() if row["split"] == "test"]
    wins = []
    for row in rows:
        for i, j in itertools.permutations(range(3), 2):
            if row["ranks"][i] < row["ranks"][j]:
                a, b = len(row["responses"][i]), len(row["responses"][j])
                wins.append(1.0 if a > b else 0.5 if a == b else 0.0)
    reported = json.loads((trained / "result.json").read_text())["metrics"]["test"]["length_only_accuracy"]
    assert reported == pytest.approx(sum(wins) / len(wins))


def test_the_result_names_the_model_by_its_manifest(trained):
    result = json.loads((trained / "result.json").read_text())
    assert result["kind"] == "train_reward"
    assert rundir.verify(trained / result["model"], result["manifest_sha256"]) == result["manifest_sha256"]
    assert result["counts"]["train_rankings"] == 120
    assert set(result["versions"]) == {"python", "torch", "transformers", "peft"}
    assert result["seconds"]["total"] == pytest.approx(sum(result["seconds"].values()) / 2)


def test_plain_transformers_gives_the_published_test_scores(trained):
    folder = trained / "output" / "model"
    model = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    settings = json.loads((folder / "reward.json").read_text())
    published = scores(trained)
    row = next(row for row in polite_rankings() if row["row_id"] == "test-7")
    texts = [
        tokenizer.decode(prompt_ids(tokenizer, row["messages"]) + response_ids(tokenizer, text))
        for text in row["responses"]
    ]
    inputs = tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        logits = model(**inputs).logits[:, 0]
    expected = (logits.double() - settings["mean"]) * settings["scale"]
    assert [published["test-7", index] for index in range(3)] == pytest.approx(expected.tolist(), abs=1e-4)


def test_scores_of_training_answers_have_mean_zero_and_deviation_one(tiny_model, tmp_path):
    rows = polite_rankings({"train": 30})
    metrics = run_in_process(write_run(tmp_path, rows, **job(tiny_model)))["metrics"]
    assert metrics["score_scale"] > 0
    model = load_reward_model(tmp_path / "output" / "model", dtype="float32", device="cpu")
    values = model.score([(row["messages"], text) for row in rows for text in row["responses"]])
    assert values.mean().item() == pytest.approx(0, abs=1e-4)
    assert values.std(correction=0).item() == pytest.approx(1, abs=1e-4)


def test_predictions_have_the_columns_of_the_contract_and_a_row_an_answer(trained):
    table = pq.read_table(trained / PREDICTIONS_FILE)
    assert table.column_names == list(PREDICTION_COLUMNS)
    assert len(table) == 3 * (SIZES["dev"] + SIZES["test"])
    expected = {
        (row["row_id"], index): (rank, text)
        for row in polite_rankings()
        if row["split"] != "train"
        for index, (rank, text) in enumerate(zip(row["ranks"], row["responses"], strict=True))
    }
    tokenizer = AutoTokenizer.from_pretrained(trained / "output" / "model")
    for row in table.to_pylist():
        rank, text = expected.pop((row["row_id"], row["index"]))
        assert (row["rank"], row["characters"], row["cut"]) == (rank, len(text), 0)
        assert row["tokens"] == len(response_ids(tokenizer, text))
        assert row["members"] == [row["score"]]
        assert row["variance"] is None
    assert not expected


def test_calibration_is_fitted_on_dev_and_reported_on_test(trained):
    calibration = json.loads((trained / "result.json").read_text())["metrics"]["calibration"]
    assert (calibration["dev_pairs"], calibration["test_pairs"]) == (60, 120)
    assert calibration["temperature"] > 0
    assert 0 <= calibration["ece_after_temperature"] <= 0.5


def test_progress_tells_loss_speed_and_dev_loss(trained):
    lines = progress(trained, attempt=4)
    steps = [line for line in lines if line["stage"] == "train"]
    assert [line["done"] for line in steps] == list(range(1, 91))
    assert {line["total"] for line in steps} == {90}
    assert all({"loss", "accuracy", "tokens_per_second", "seconds_left"} <= set(line["metrics"]) for line in steps)
    assert [line["done"] for line in steps if "dev_loss" in line["metrics"]] == [15, 30, 45, 60, 75, 90]
    assert steps[-1]["metrics"]["seconds_left"] == 0
    assert lines[-1]["stage"] == "done"


def test_the_weights_with_the_lowest_dev_loss_are_kept(tiny_model, tmp_path):
    # a learning rate that destroys what the first evaluations had reached
    run = write_run(tmp_path, polite_rankings(), **job(tiny_model, learning_rate=0.2, epochs=4, patience=2, warmup=0.9))
    result = run_in_process(run)
    evaluated = {line["done"]: line["metrics"]["dev_loss"] for line in progress(run) if "dev_loss" in line["metrics"]}
    best = min(evaluated, key=evaluated.get)
    training = result["metrics"]["training"]
    assert training["best_step"] == best < max(evaluated)
    assert training["dev_loss"] == result["metrics"]["dev"]["loss"] == evaluated[best]
    rows = [row for row in polite_rankings() if row["split"] == "dev"]
    model = load_reward_model(run / "output" / "model", dtype="float32", device="cpu")
    wins = [
        (row["ranks"][i] < row["ranks"][j]) == (own[i] > own[j])
        for row in rows
        for own in [model.score([(row["messages"], text) for text in row["responses"]])]
        for i, j in itertools.combinations(range(3), 2)
    ]
    assert result["metrics"]["dev"]["accuracy"] == pytest.approx(sum(wins) / len(wins))


def test_training_stops_when_patience_runs_out(tiny_model, tmp_path):
    run = write_run(tmp_path, polite_rankings(), **job(tiny_model, learning_rate=0.2, epochs=8, patience=1))
    result = run_in_process(run)
    training = result["metrics"]["training"]
    assert training["steps"] < training["steps_planned"] == 240
    assert training["best_step"] < training["steps"]


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "hinge"},
        {"loss": "logistic"},
        {"loss": "davidson"},
        {"gradient_checkpointing": True, "lora_rank": 0, "learning_rate": 2e-3},
        {"loss": "listmle"},
        {"lora_rank": 0, "learning_rate": 2e-3},
        {"dtype": "bfloat16"},
        {"tokens_per_batch": 100},
        {"lora_layers": 0.5},
    ],
    ids=lambda changes: "-".join(f"{name}={value}" for name, value in changes.items()),
)
def test_every_way_of_training_learns(tiny_model, tmp_path, changes):
    run = write_run(tmp_path, polite_rankings({"train": 120, "test": 30}), **job(tiny_model, **changes))
    assert run_in_process(run)["metrics"]["test"]["accuracy"] > 0.85


def test_micro_batches_do_not_change_the_gradient(tiny_model, tmp_path):
    rows = polite_rankings({"train": 8, "test": 4})
    results = []
    for name, budget in (("one", 4096), ("many", 1)):
        run = write_run(tmp_path / name, rows, **job(tiny_model, tokens_per_batch=budget, rankings_per_step=4))
        run_in_process(run)
        results.append(scores(run))
    assert results[0] == pytest.approx(results[1], abs=1e-3)


def test_weights_matter_relative_to_each_other(tiny_model, tmp_path):
    rows = polite_rankings({"train": 24, "test": 6})
    opposed = [{**row, "ranks": [4 - rank for rank in row["ranks"]]} for row in rows if row["split"] == "train"]
    results = []
    for name, weight in (("rude", 100.0), ("polite", 0.01)):
        mixed = [*rows, *({**row, "row_id": f"opposed-{n}", "weight": weight} for n, row in enumerate(opposed))]
        results.append(run_in_process(write_run(tmp_path / name, mixed, **job(tiny_model, epochs=6))))
    rude, polite = (result["metrics"]["test"]["accuracy"] for result in results)
    assert rude < 0.3
    assert polite > 0.7


def test_the_same_seed_gives_the_same_scores_and_another_seed_others(tiny_model, tmp_path):
    rows = polite_rankings({"train": 12, "test": 4})
    runs = {
        name: write_run(tmp_path / name, rows, **job(tiny_model, seed=seed))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    }
    for run in runs.values():
        run_in_process(run)
    assert scores(runs["a"]) == scores(runs["b"])
    assert scores(runs["a"]) != scores(runs["c"])


def test_without_dev_and_test_rankings_the_metrics_say_so(tiny_model, tmp_path):
    run = write_run(tmp_path, polite_rankings({"train": 8}), **job(tiny_model, epochs=1))
    metrics = run_in_process(run)["metrics"]
    assert metrics["dev"] is None
    assert metrics["test"] is None
    assert metrics["training"]["best_step"] == metrics["training"]["steps"] == 2
    assert scores(run) == {}


def test_a_stop_ends_the_job_resumable_and_without_a_result(tiny_model, tmp_path):
    run = write_run(tmp_path, polite_rankings({"train": 8}), **job(tiny_model))
    (run / "stop").touch()
    assert main(["--run-dir", str(run)]) == rundir.EXIT_RESUMABLE
    assert not (run / "result.json").exists()
    assert not (run / "output" / "model").exists()


def test_a_loss_that_is_no_number_ends_the_job_at_its_step_and_names_the_rankings(tiny_model, tmp_path, capsys):
    rows = polite_rankings({"train": 12})
    settings = job(tiny_model, learning_rate=1e38, warmup=0.0, lora_rank=0, checkpoint_seconds=0.0)
    run = write_run(tmp_path / "run", rows, **settings)
    assert main(["--run-dir", str(run)]) == rundir.EXIT_FAILED
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match(r"error: The loss stopped being a number at step 2, on the rankings (train-\d+(, )?){4}\.$", said)
    assert not (run / "result.json").exists()
    assert rundir.checkpoints(run) == []  # of what the first step made nothing was known yet


def test_weights_that_are_no_numbers_are_refused_before_training(tmp_path, capsys):
    model = save_tiny_model(tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"][0] = math.nan
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    run = write_run(tmp_path / "run", polite_rankings({"train": 2}), **job(model))
    assert main(["--run-dir", str(run)]) == rundir.EXIT_FAILED
    assert "The weights model.norm.weight of" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not [line for line in progress(run) if line["stage"] == "train"]


@pytest.mark.parametrize(
    ("rows", "changes", "sentence"),
    [
        ([], {}, "holds no rankings"),
        ([ranking_row(split="dev")], {}, "none in the train split"),
        ([ranking_row()], {"loss": "guess"}, "loss must be one of logistic"),
        ([ranking_row()], {"lora_layers": 0.0}, "lora_layers must be above 0"),
        ([ranking_row()], {"epochs": 0}, "epochs must be at least 1"),
        ([ranking_row()], {"device": "cuda:77"}, "There is no device 'cuda:77'"),
        ([ranking_row()], {"max_tokens": 100_000}, "max_tokens is 100000, but"),
        ([ranking_row()], {"base_model": "/nowhere"}, "/nowhere is not a model folder"),
    ],
)
def test_a_bad_job_ends_with_one_sentence_and_status_one(tiny_model, tmp_path, capsys, rows, changes, sentence):
    run = write_run(tmp_path, rows, **job(tiny_model, **changes))
    assert main(["--run-dir", str(run)]) == rundir.EXIT_FAILED
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("error: ")
    assert sentence in said[0]


def test_a_tokenizer_without_an_end_token_is_refused(tiny_model, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": None}))
    run = write_run(tmp_path / "run", [ranking_row()], **job(model))
    assert main(["--run-dir", str(run)]) == rundir.EXIT_FAILED
    assert "has no end token, so its answers would never end." in capsys.readouterr().err


def test_a_missing_run_directory_ends_with_one_sentence(tmp_path, capsys):
    assert main(["--run-dir", str(tmp_path / "nothing")]) == rundir.EXIT_FAILED
    assert "is not a run directory" in capsys.readouterr().err


def test_the_learning_rate_rises_linearly_and_falls_along_half_a_cosine():
    job = RewardJob(base_model="", learning_rate=1.0, warmup=0.2)
    rates = [learning_rate_at(step, 10, job) for step in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.5)  # half way between steps 2 and 10
    assert rates == sorted(rates[:3]) + sorted(rates[3:], reverse=True)


def test_evaluations_are_spread_evenly_and_end_each_epoch():
    assert evaluation_steps(steps_per_epoch=5, epochs=2, per_epoch=2) == {3, 5, 8, 10}
    assert evaluation_steps(steps_per_epoch=1, epochs=2, per_epoch=4) == {1, 2}
