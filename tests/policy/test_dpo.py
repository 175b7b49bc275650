"""Direct preference optimisation: the loss against hand and a second implementation, and whole runs on tiny models."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from policy import dpo
from policy.dpo import dpo_loss, implicit_rewards
from policy.language import LanguageModel
from policy.methods import DpoJob
from rewardmodel import rundir
from rewardmodel.chat import prompt_ids, response_ids
from rewardmodel.contract import JobError
from rewardmodel.publish import verify
from rewardmodel.rundir import Stopped, open_run
from tests.policy.conftest import make_tokenizer, progress_of
from tests.policy.learners import FAST, KINDS, loaded, make_kind, plain_logprob, write_job
from tests.rewardmodel.rankings import ranking_row, write_rankings


def dpo_job(policy: Path, **changes) -> DpoJob:
    return DpoJob(
        **{"policy": str(policy), "epochs": 3, "learning_rate": 1e-2, "rankings_per_step": 2, **FAST, **changes}
    )


def rows(train: int, dev: int = 0) -> list[dict[str, Any]]:
    """Rankings in which a thankful answer is preferred, in English or Chinese."""
    made = []
    for number in range(train + dev):
        good, bad = (("Thanks!", "No."), ("谢谢你！", "不行。"))[number % 2]
        made.append(
            ranking_row(
                row_id=f"r{number}",
                prompt_id=f"p{number}",
                split="train" if number < train else "dev",
                messages=[{"role": "user", "content": f"Say {number}"}],
                responses=[bad, good],
                ranks=[2, 1],
            )
        )
    return made


def prepared(folder: Path, job: DpoJob, rankings) -> Path:
    write_rankings(write_job(folder, "dpo", job), rankings)
    return folder


def run_dpo(folder: Path, attempt: int = 1) -> dict:
    with open_run(folder, attempt) as run:
        dpo.main(run)
    return json.loads((folder / "result.json").read_text())


def train_lines(folder: Path, attempt: int = 1) -> list[dict]:
    return [line for line in progress_of(folder, attempt) if line["stage"] == "train"]


def test_the_loss_of_a_pair_by_hand():
    """log π − log π_ref is 2 for the preferred answer and −1 for the other: with β 0.5 a margin of 1.5."""
    rewards = implicit_rewards(torch.tensor([-10.0, -21.0]), torch.tensor([-12.0, -20.0]), 0.5)
    assert rewards.tolist() == [1.0, -0.5]
    loss = dpo_loss(rewards[:1], rewards[1:])
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1.5)), abs=1e-6)


def test_loss_and_gradient_agree_with_the_papers_formula_in_float64():
    """The second implementation writes equation 7 out, and the gradient of section 4: −β·σ(r_l − r_w)."""
    generator = torch.Generator().manual_seed(0)
    chosen, rejected, ref_chosen, ref_rejected = (
        -30 * torch.rand(50, dtype=torch.float64, generator=generator) for _ in range(4)
    )
    chosen.requires_grad_()
    rejected.requires_grad_()
    beta = 0.3
    losses = dpo_loss(implicit_rewards(chosen, ref_chosen, beta), implicit_rewards(rejected, ref_rejected, beta))
    ratio_w, ratio_l = (chosen - ref_chosen).exp(), (rejected - ref_rejected).exp()
    written_out = -torch.log(ratio_w**beta / (ratio_w**beta + ratio_l**beta))
    torch.testing.assert_close(losses, written_out, rtol=1e-9, atol=1e-9)
    by_chosen, by_rejected = torch.autograd.grad(losses.sum(), [chosen, rejected])
    weight = torch.sigmoid(beta * (rejected - ref_rejected) - beta * (chosen - ref_chosen)).detach()
    torch.testing.assert_close(by_chosen, -beta * weight)
    torch.testing.assert_close(by_rejected, beta * weight)


@pytest.mark.parametrize("rank", [0, 4], ids=["all weights", "adapters"])
def test_training_begins_at_the_parent_where_every_margin_is_zero(tmp_path, rank):
    folder = make_kind(tmp_path / "model", "llama")
    run_dpo(prepared(tmp_path / "run", dpo_job(folder, lora_rank=rank, learning_rate=1e-4), rows(6, 2)))
    first = train_lines(tmp_path / "run")[0]["metrics"]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert first["margin"] == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tiny_model_of_each_kind_learns_to_prefer_what_raters_prefer(tmp_path, kind):
    folder = make_kind(tmp_path / "model", kind)
    run = prepared(tmp_path / "run", dpo_job(folder, lora_layers=1.0, epochs=6), rows(12, 4))
    result = run_dpo(run)
    assert verify(run / result["model"], result["manifest_sha256"])
    last = [line["metrics"] for line in train_lines(run) if "dev_loss" in line["metrics"]][-1]
    assert last["dev_accuracy"] == 1.0
    assert last["dev_margin"] > 0.5
    assert last["chosen_reward"] > last["rejected_reward"]


def test_published_weights_have_the_implicit_rewards_that_were_reported(tmp_path):
    """The dev margin of the kept step is β times the difference that plain transformers finds in the weights."""
    folder = make_kind(tmp_path / "model", "llama")
    job = dpo_job(folder, temperature=0.7, beta=0.2, evaluations_per_epoch=1)
    run = prepared(tmp_path / "run", job, rows(6, 2))
    result = run_dpo(run)
    best = result["metrics"]["training"]["best_step"]
    [reported] = [line["metrics"]["dev_margin"] for line in train_lines(run) if line["done"] == best]
    policy, parent, tokenizer = loaded(run / result["model"]), loaded(folder), make_tokenizer()
    margins = []
    for row in rows(6, 2)[6:]:
        question = tuple(prompt_ids(tokenizer, row["messages"]))
        bad, good = (tuple(response_ids(tokenizer, text)) for text in row["responses"])
        gains = [
            plain_logprob(policy, question, answer, 0.7) - plain_logprob(parent, question, answer, 0.7)
            for answer in (good, bad)
        ]
        margins.append(0.2 * (gains[0] - gains[1]))
    assert reported == pytest.approx(sum(margins) / len(margins), abs=1e-3)


def test_all_pairs_of_a_ranking_weigh_as_one_element(tmp_path):
    """Of three answers there are three pairs; with a heavier second ranking the loss is the weighted mean of means."""
    folder = make_kind(tmp_path / "model", "llama")
    three = ranking_row(row_id="a", responses=["yes", "no", "well"], ranks=[1, 2, 3])
    two = ranking_row(row_id="b", prompt_id="p2", weight=3.0)
    run = prepared(tmp_path / "run", dpo_job(folder, epochs=1, learning_rate=1e-9), [three, two])
    run_dpo(run)
    [line] = train_lines(run)
    assert line["metrics"]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert line["metrics"]["accuracy"] == pytest.approx(0.5, abs=0.5)


def test_an_interrupted_run_ends_in_the_same_model_as_a_straight_one(tmp_path, monkeypatch):
    monkeypatch.setattr(rundir, "CHECKPOINT_SHARE", 1.0)
    folder = make_kind(tmp_path / "model", "llama")
    job = dpo_job(folder, checkpoint_seconds=0.0)
    straight = run_dpo(prepared(tmp_path / "straight", job, rows(8, 2)))
    cut = prepared(tmp_path / "cut", job, rows(8, 2))
    real, made = dpo.preferred_pairs, 0

    def stop_in_the_second_epoch(ranks):
        nonlocal made
        made += 1
        if made == 15:
            (cut / "stop").touch()
        return real(ranks)

    monkeypatch.setattr(dpo, "preferred_pairs", stop_in_the_second_epoch)
    with pytest.raises(Stopped):
        run_dpo(cut)
    (cut / "stop").unlink()
    assert run_dpo(cut, attempt=2)["manifest_sha256"] == straight["manifest_sha256"]


def test_the_loss_of_a_step_is_that_of_trl(tmp_path):
    """TRL 1.16's DPOTrainer on the same two pairs; this template closes no answer, so neither learns an end token."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    folder = make_kind(tmp_path / "model", "llama")
    pairs = [{**row, "cut_off": [True, True]} for row in rows(4) if row["responses"][0].isascii()]
    job = dpo_job(folder, epochs=6, warmup=0.0, lora_rank=0, learning_rate=1e-4, beta=0.3)
    run = prepared(tmp_path / "run", job, pairs)
    run_dpo(run)
    mine = [line["metrics"]["loss"] for line in train_lines(run)]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = "<|system|>"
    data = [
        {
            "prompt": row["messages"],
            "chosen": [{"role": "assistant", "content": row["responses"][1]}],
            "rejected": [{"role": "assistant", "content": row["responses"][0]}],
        }
        for row in pairs
    ]
    settings = DPOConfig(
        output_dir=str(tmp_path / "trl"), beta=0.3, learning_rate=1e-4, lr_scheduler_type="cosine", num_train_epochs=6,
        per_device_train_batch_size=2, logging_steps=1, report_to=[], use_cpu=True, bf16=False, weight_decay=0.0,
        max_grad_norm=1.0, gradient_checkpointing=False, seed=0, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = DPOTrainer(
            model=str(folder), args=settings, train_dataset=Dataset.from_list(data), processing_class=tokenizer
        )
        trainer.train()
    theirs = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert mine == pytest.approx(theirs, abs=1e-4)


@pytest.mark.parametrize(
    ("rankings", "sentence"),
    [
        ([ranking_row(ranks=[1, 1])], "None of the 1 train rankings"),
        ([ranking_row(split="dev")], "holds 1 rankings but none in the train split"),
        ([ranking_row(responses=["x" * 300, "no"])], "No train ranking in .* fits 128 tokens"),
    ],
)
def test_rankings_without_anything_to_prefer_are_refused(tmp_path, rankings, sentence):
    folder = make_kind(tmp_path / "model", "llama")
    prepared(tmp_path / "run", dpo_job(folder), rankings)
    with pytest.raises(JobError, match=sentence):
        run_dpo(tmp_path / "run")


def test_an_answer_that_was_cut_off_teaches_nothing_of_its_end(tmp_path):
    """Its log-probability is what plain transformers gives to its tokens alone."""
    folder = make_kind(tmp_path / "model", "llama")
    [row] = rows(1)
    job = dpo_job(folder, epochs=1, temperature=0.7)
    run = prepared(tmp_path / "run", job, [{**row, "cut_off": [False, True]}])
    with open_run(run, 1) as directory:
        [ranking], _dev, _counts = dpo.read_pairs(directory, job)
        [logprobs] = dpo.answer_logprobs(directory, LanguageModel(job), [ranking])
    tokenizer, plain = make_tokenizer(), loaded(folder)
    question = tuple(prompt_ids(tokenizer, row["messages"]))
    whole, cut = (tuple(response_ids(tokenizer, text)) for text in row["responses"])
    expected = [plain_logprob(plain, question, answer, 0.7) for answer in (whole, cut[:-1])]
    assert logprobs.tolist() == pytest.approx(expected, abs=1e-4)
    run_dpo(run, attempt=2)


def test_an_empty_answer_that_was_cut_off_keeps_its_end_as_its_only_token(tmp_path):
    folder = make_kind(tmp_path / "model", "llama")
    row = ranking_row(responses=["", "Yes."], ranks=[2, 1], cut_off=[True, True])
    run = prepared(tmp_path / "run", dpo_job(folder), [row])
    with open_run(run, 1) as directory:
        [ranking], _dev, _counts = dpo.read_pairs(directory, dpo_job(folder))
    assert [len(answer.response) for answer in ranking.answers] == [1, 4]


def test_rankings_that_do_not_fit_whole_are_left_out_and_counted(tmp_path):
    folder = make_kind(tmp_path / "model", "llama")
    long = ranking_row(row_id="long", prompt_id="p9", messages=[{"role": "user", "content": "x" * 200}])
    result = run_dpo(prepared(tmp_path / "run", dpo_job(folder, epochs=1), [*rows(2), long]))
    assert (result["metrics"]["counts"]["too_long"], result["metrics"]["counts"]["train"]) == (1, 2)
