"""Supervised fine-tuning: what is learned from, how it is mixed, and whole runs on tiny models."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path

import pytest
import torch

from policy import sft
from policy.examples import mixed, read_examples
from policy.methods import BestOfNJob, DpoJob, SftJob
from policy.sft import imitation_loss
from rewardmodel import rundir
from rewardmodel.chat import load_tokenizer, prompt_ids, response_ids
from rewardmodel.contract import JobError
from rewardmodel.publish import verify
from rewardmodel.rundir import Stopped, open_run
from tests.policy.conftest import make_tokenizer, progress_of
from tests.policy.learners import (
    FAST,
    KINDS,
    example_row,
    examples,
    loaded,
    make_kind,
    plain_logprob,
    write_examples,
    write_job,
)


def sft_job(policy: Path, **changes) -> SftJob:
    return SftJob(
        **{"policy": str(policy), "epochs": 4, "learning_rate": 2e-2, "examples_per_step": 4, **FAST, **changes}
    )


def prepared(folder: Path, job: SftJob, rows) -> Path:
    write_examples(write_job(folder, "sft", job), rows)
    return folder


def run_sft(folder: Path, attempt: int = 1) -> dict:
    with open_run(folder, attempt) as run:
        sft.main(run)
    return json.loads((folder / "result.json").read_text())


def test_the_loss_is_the_weighted_cross_entropy_of_the_tokens():
    logprobs = torch.tensor([0.5, 0.25]).log()
    weights = torch.tensor([1.0, 2.0])
    assert imitation_loss(logprobs, weights, False).item() == pytest.approx(math.log(2) + 2 * math.log(4))


def test_self_feedback_scales_each_token_by_how_unsure_of_it_the_policy_is_without_a_gradient_of_its_own():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 3.0]], requires_grad=True)
    logprobs = logits.log_softmax(-1)[:, 0]
    p = logprobs.detach().exp()
    loss = imitation_loss(logprobs, torch.ones(2), True)
    assert loss.item() == pytest.approx(float(-((1 - p) * logprobs.detach()).sum()))
    [gradient] = torch.autograd.grad(loss, logits)
    # By hand: d(−(1−p)·log p_0)/d logit_v with (1−p) fixed is −(1−p)·(1[v=0] − p_v).
    expected = -(1 - p)[:, None] * (torch.tensor([1.0, 0.0, 0.0]) - logits.detach().softmax(-1))
    torch.testing.assert_close(gradient, expected)


def test_the_reported_loss_is_the_mean_negative_log_probability_of_answer_tokens_alone(tmp_path):
    folder = make_kind(tmp_path / "model", "llama")
    rows = [example_row(1), example_row(2, response="Longer words than the other.", weight=3.0)]
    job = sft_job(folder, epochs=1, temperature=0.7)
    run_sft(prepared(tmp_path / "run", job, rows))
    [step] = [line for line in progress_of(tmp_path / "run") if line["stage"] == "train"]
    model, tokenizer = loaded(folder), make_tokenizer()
    total, tokens = 0.0, 0.0
    for row in rows:
        answer = tuple(response_ids(tokenizer, row["response"]))
        total -= row["weight"] * plain_logprob(model, tuple(prompt_ids(tokenizer, row["messages"])), answer, 0.7)
        tokens += row["weight"] * len(answer)
    assert step["metrics"]["loss"] == pytest.approx(total / tokens, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tiny_model_of_each_kind_learns_its_examples_and_loads_in_plain_transformers(tmp_path, kind):
    folder = make_kind(tmp_path / "model", kind)
    result = run_sft(prepared(tmp_path / "run", sft_job(folder, lora_layers=1.0, epochs=12), examples(8)))
    assert verify(tmp_path / "run" / result["model"], result["manifest_sha256"])
    losses = [line["metrics"]["loss"] for line in progress_of(tmp_path / "run") if line["stage"] == "train"]
    assert losses[-1] < 0.5 * losses[0]
    tokenizer = load_tokenizer(tmp_path / "run" / result["model"])
    row = example_row(3)
    question, answer = tuple(prompt_ids(tokenizer, row["messages"])), tuple(response_ids(tokenizer, row["response"]))
    before, after = loaded(folder), loaded(tmp_path / "run" / result["model"])
    assert plain_logprob(after, question, answer) > 0.5 * plain_logprob(before, question, answer)


@pytest.mark.parametrize("rank", [0, 4], ids=["all weights", "adapters"])
def test_an_interrupted_run_ends_in_the_same_model_as_a_straight_one(tmp_path, monkeypatch, rank):
    monkeypatch.setattr(rundir, "CHECKPOINT_SHARE", 1.0)
    folder = make_kind(tmp_path / "model", "llama")
    job = sft_job(folder, checkpoint_seconds=0.0, lora_rank=rank, learning_rate=5e-3 if rank else 1e-4)
    rows = examples(12, dev=4)
    straight = run_sft(prepared(tmp_path / "straight", job, rows))
    cut = prepared(tmp_path / "cut", job, rows)
    real, made = sft.imitation_loss, 0

    def stop_in_the_second_epoch(*arguments):
        nonlocal made
        made += 1
        if made == 9:
            (cut / "stop").touch()
        return real(*arguments)

    monkeypatch.setattr(sft, "imitation_loss", stop_in_the_second_epoch)
    with pytest.raises(Stopped):
        run_sft(cut)
    (cut / "stop").unlink()
    assert run_sft(cut, attempt=2)["manifest_sha256"] == straight["manifest_sha256"]


def test_training_stops_when_the_loss_on_dev_rises_and_keeps_the_best_weights(tmp_path):
    folder = make_kind(tmp_path / "model", "llama")
    unlike = [example_row(100 + n, split="dev", response="zzz" * 5) for n in range(3)]
    job = sft_job(folder, epochs=50, patience=1, evaluations_per_epoch=1, lora_layers=1.0)
    training = run_sft(prepared(tmp_path / "run", job, [*examples(8), *unlike]))["metrics"]["training"]
    assert training["steps"] < training["steps_planned"]
    losses = [line["metrics"]["dev_loss"] for line in progress_of(tmp_path / "run") if "dev_loss" in line["metrics"]]
    assert training["dev_loss"] == min(losses)
    assert losses[-1] > min(losses)


def test_a_limit_on_seconds_ends_the_training_early(tmp_path):
    folder = make_kind(tmp_path / "model", "llama")
    result = run_sft(prepared(tmp_path / "run", sft_job(folder, max_seconds=1e-6), examples(8)))
    assert result["metrics"]["training"]["steps"] == 1


def test_a_share_of_original_data_is_drawn_beside_all_new_data():
    rows = [_example(n, "edit") for n in range(6)] + [_example(n, "demonstration") for n in range(6, 9)]
    chosen = mixed(rows, 0.4, seed=0)
    assert [row.row_id for row in chosen[:6]] == [f"row-{n}" for n in range(6)]
    drawn = [row.row_id for row in chosen[6:]]
    assert len(drawn) == 4  # 4 / (6 + 4) = 0.4
    assert {"row-6", "row-7", "row-8"} == set(drawn)  # each once before any twice
    assert mixed(rows, 0.4, seed=0) == chosen
    assert mixed(rows, None, seed=0) == rows
    assert [row.source for row in mixed(rows, 0.0, seed=0)] == ["edit"] * 6


def _example(number: int, source: str):
    from policy.examples import Example
    from rewardmodel.chat import Answer

    return Example(f"row-{number}", Answer((1,), (2,)), 1.0, source)


def test_a_share_that_cannot_be_kept_is_refused():
    with pytest.raises(JobError, match="There are no demonstrations"):
        mixed([_example(1, "edit")], 0.5, seed=0)
    with pytest.raises(JobError, match="There are no edits"):
        mixed([_example(1, "demonstration")], 0.5, seed=0)


def test_answers_that_were_cut_off_are_left_out_and_counted(tmp_path):
    cut = example_row(2, source="completion", cut_off=True)
    rows = [{**example_row(1), "cut_off": None}, cut, example_row(3, source="completion", cut_off=False)]
    write_examples(tmp_path, rows)
    found = read_examples(tmp_path, make_tokenizer(), 64)
    assert [e.row_id for e in found.train] == ["row-1", "row-3"]
    assert found.counts == {"edit": 1, "demonstration": 0, "completion": 1, "too_long": 0, "cut_off": 1}


def test_rows_that_do_not_fit_are_left_out_and_counted_and_test_prompts_are_not_learned(tmp_path):
    write_examples(
        tmp_path,
        [
            example_row(1),
            example_row(2, response="很长的回答" * 40, source="completion"),
            example_row(3, split="test"),
            example_row(4, split="dev", response="好的。"),
        ],
    )
    found = read_examples(tmp_path, make_tokenizer(), 64)
    assert [e.row_id for e in found.train] == ["row-1"]
    assert [e.row_id for e in found.dev] == ["row-4"]
    assert found.counts == {"edit": 1, "demonstration": 0, "completion": 0, "too_long": 1, "cut_off": 0}


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "lacks the column|holds no whole answer to a training prompt"),
        ([example_row(1, split="dev")], "holds no whole answer to a training prompt"),
        ([example_row(1, response="x" * 300)], "of its 1 rows 1 are longer, and 0 were cut off"),
        ([example_row(1, cut_off=True)], "of its 1 rows 0 are longer, and 1 were cut off"),
        ([example_row(1, source="rumour")], "has the source 'rumour'"),
        ([example_row(1, weight=0.0)], "has the weight 0.0"),
        ([example_row(1, response=None)], "has no response"),
    ],
)
def test_rows_that_cannot_be_learned_from_are_refused_with_a_sentence(tmp_path, rows, sentence):
    write_examples(tmp_path, rows)
    with pytest.raises(JobError, match=sentence):
        read_examples(tmp_path, make_tokenizer(), 128)


@pytest.mark.parametrize("job_class", [SftJob, BestOfNJob, DpoJob])
def test_learning_rates_of_adapters_are_refused_for_all_weights(job_class):
    """As in PPO (:mod:`tests.policy.test_train`)."""
    job = partial(job_class, policy="", **({"reward_model": ""} if job_class is BestOfNJob else {}))
    sentence = r"A learning_rate of 0.0002 is for adapters: training all weights \(lora_rank 0\) takes at most 0.0001"
    with pytest.raises(JobError, match=sentence):
        job(lora_rank=0, learning_rate=2e-4)
    assert job(lora_rank=0, learning_rate=1e-4).learning_rate == 1e-4
    assert job(lora_rank=1, learning_rate=2e-4).learning_rate == 2e-4


def test_a_device_that_is_not_here_is_refused_before_anything_is_read(tmp_path):
    folder = make_kind(tmp_path / "model", "llama")
    write_job(tmp_path / "run", "sft", sft_job(folder, device="cuda:7"))
    with open_run(tmp_path / "run", 1) as run, pytest.raises(JobError, match="There is no device 'cuda:7'"):
        sft.main(run)
    assert progress_of(tmp_path / "run") == []


def test_a_loss_that_is_no_number_stops_at_its_step_and_the_last_good_checkpoint_can_be_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(rundir, "CHECKPOINT_SHARE", 1.0)
    folder = make_kind(tmp_path / "model", "llama")
    run_dir = prepared(tmp_path / "run", sft_job(folder, checkpoint_seconds=0.0), examples(8))
    real, made = sft.imitation_loss, 0

    def break_at_the_fourth(*arguments):
        nonlocal made
        made += 1
        return real(*arguments) * (math.nan if made > 3 else 1.0)

    monkeypatch.setattr(sft, "imitation_loss", break_at_the_fourth)
    with pytest.raises(JobError, match="The loss stopped being a number at step 4, on the answers row-"):
        run_sft(run_dir)
    assert rundir.step_of(rundir.checkpoints(run_dir)[-1]) == 2  # the last whose weights gave a loss
    (run_dir / "settle").touch()
    result = run_sft(run_dir, attempt=2)
    assert (result["metrics"]["training"]["steps"], result["metrics"]["settled"]) == (2, True)
    assert all(p.isfinite().all() for p in loaded(run_dir / result["model"]).parameters())


def test_a_run_without_a_checkpoint_cannot_be_settled(tmp_path):
    folder = make_kind(tmp_path / "model", "llama")
    run_dir = prepared(tmp_path / "run", sft_job(folder), examples(8))
    (run_dir / "settle").touch()
    with pytest.raises(JobError, match="no checkpoint that could be taken"):
        run_sft(run_dir)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"original_share": 1.0}, "original_share must be at least 0 and below 1"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"lora_layers": 0.0}, "lora_layers must be above 0"),
        ({"examples_per_step": 0}, "examples_per_step must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(values, sentence):
    with pytest.raises(JobError, match=sentence):
        sft_job(Path("policy"), **values)
