"""A reward-model training that was interrupted ends in the very weights of one that was not."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rewardmodel import loop, rundir, train
from tests.rewardmodel.conftest import VOCABULARY, byte_tokenizer
from tests.rewardmodel.rankings import write_run
from tests.rewardmodel.test_train import job, polite_rankings, progress, run_in_process

SIZES = {"train": 24, "dev": 6, "test": 4}


class Killed(BaseException):
    """Plays the end of a process; nothing that the training does on the way out may catch it."""


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch):
    """Trains with an end before each of some steps, then to the end; a checkpoint after every step."""
    monkeypatch.setattr(rundir, "CHECKPOINT_SHARE", 1.0)

    def run(path: Path, steps: list[int], end) -> dict[str, Any]:
        real = loop.train_step
        for step in steps:
            made = 0

            def counted(*arguments, step=step):
                nonlocal made
                made += 1
                if made > step:
                    end(path)
                return real(*arguments)

            monkeypatch.setattr(loop, "train_step", counted)
            with contextlib.suppress(Killed):
                assert train.main(["--run-dir", str(path)]) == rundir.EXIT_RESUMABLE
            (path / "stop").unlink(missing_ok=True)
        monkeypatch.setattr(loop, "train_step", real)
        return run_in_process(path)

    return run


def kill(path: Path) -> None:
    raise Killed


def stop(path: Path) -> None:
    (path / "stop").touch()


@pytest.mark.parametrize(
    ("changes", "steps", "end"),
    [
        ({}, [1, 3], kill),
        ({}, [5], stop),
        ({"dtype": "bfloat16"}, [5], kill),
        ({"lora_rank": 0, "learning_rate": 1e-3}, [2], kill),
        ({"learning_rate": 0.2, "patience": 1}, [2], stop),
    ],
    ids=["adapters, killed", "adapters, stopped", "bfloat16", "all weights", "early stopping"],
)
def test_straight_and_interrupted_training_end_in_equal_models(tiny_model, tmp_path, interrupted, changes, steps, end):
    settings = job(tiny_model, epochs=2, checkpoint_seconds=0.0, **changes)
    straight = run_in_process(write_run(tmp_path / "straight", polite_rankings(SIZES), **settings))
    cut = write_run(tmp_path / "cut", polite_rankings(SIZES), **settings)
    resumed = interrupted(cut, steps, end)
    assert resumed["manifest_sha256"] == straight["manifest_sha256"]
    assert [resumed["metrics"][name] for name in ("dev", "test")] == [
        straight["metrics"][name] for name in ("dev", "test")
    ]
    trained = [part["metrics"]["training"] for part in (resumed, straight)]
    assert all(trained[0][name] == trained[1][name] for name in ("steps", "best_step", "tokens"))
    # Asked to stop, it still finishes the step in hand; killed, it has not yet saved what its last step made.
    made = sum(steps) + (len(steps) if end is stop else -len(steps))
    last = [line["done"] for line in progress(cut, attempt=len(steps) + 1) if line["stage"] == "train"]
    assert last == list(range(made + 1, trained[0]["steps"] + 1))


def test_a_base_model_with_dropout_resumes_exactly_too(tmp_path, interrupted):
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=1024, resid_pdrop=0.3, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    model = tmp_path / "gpt2"
    GPT2LMHeadModel(config).save_pretrained(model)
    byte_tokenizer().save_pretrained(model)
    settings = job(model, epochs=1, checkpoint_seconds=0.0, lora_layers=1.0)
    straight = run_in_process(write_run(tmp_path / "straight", polite_rankings(SIZES), **settings))
    resumed = interrupted(write_run(tmp_path / "cut", polite_rankings(SIZES), **settings), [2], kill)
    assert resumed["manifest_sha256"] == straight["manifest_sha256"]


def test_a_training_that_was_stopped_before_its_first_step_can_go_on(tiny_model, tmp_path):
    settings = job(tiny_model, epochs=1)
    straight = run_in_process(write_run(tmp_path / "straight", polite_rankings(SIZES), **settings))
    run = write_run(tmp_path / "cut", polite_rankings(SIZES), **settings)
    (run / "stop").touch()
    assert train.main(["--run-dir", str(run)]) == rundir.EXIT_RESUMABLE
    (run / "stop").unlink()
    assert run_in_process(run)["manifest_sha256"] == straight["manifest_sha256"]


def test_a_checkpoint_of_another_model_is_refused_and_kept(tiny_model, tmp_path, monkeypatch, capsys):
    settings = job(tiny_model, epochs=1, checkpoint_seconds=0.0)
    run = write_run(tmp_path, polite_rankings(SIZES), **settings)
    (run / "stop").touch()
    assert train.main(["--run-dir", str(run)]) == rundir.EXIT_RESUMABLE
    (run / "stop").unlink()
    write_run(run, polite_rankings(SIZES), **{**settings, "lora_rank": 4})
    assert train.main(["--run-dir", str(run)]) == rundir.EXIT_FAILED
    assert "is of another model than the job trains" in capsys.readouterr().err
    assert [rundir.step_of(kept) for kept in rundir.checkpoints(run)] == [0]


def test_a_stop_saves_the_steps_made_since_the_last_checkpoint(tiny_model, tmp_path, interrupted):
    run = write_run(tmp_path, polite_rankings(SIZES), **job(tiny_model, epochs=1, checkpoint_seconds=3600.0))
    interrupted(run, [3], stop)
    assert [line["done"] for line in progress(run, attempt=2) if line["stage"] == "train"] == [5, 6]


def test_checkpoints_take_at_most_a_twentieth_of_the_time(monkeypatch):
    now = 0.0
    monkeypatch.setattr(rundir.time, "monotonic", lambda: now)
    clock = rundir.CheckpointClock(10.0)
    spent = 0.0

    def take_three_seconds() -> None:
        nonlocal now, spent
        now += 3.0
        spent += 3.0

    while now < 10_000:
        now += 0.5
        if clock.due:
            clock.write(take_three_seconds)
    assert spent / now == pytest.approx(3 / 60, rel=0.01)
