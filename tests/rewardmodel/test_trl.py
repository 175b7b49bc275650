"""TRL's RewardTrainer beside ours: the same losses on the same batches, and our folder as its model."""

import dataclasses

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl import RewardConfig, RewardTrainer

from rewardmodel.chat import load_tokenizer, prompt_ids, response_ids
from rewardmodel.contract import RewardJob
from rewardmodel.data import read_rankings
from rewardmodel.fit import learning_rate_at
from rewardmodel.loop import train_step
from rewardmodel.model import RewardModel
from rewardmodel.state import MasterWeights
from tests.rewardmodel.rankings import write_rankings
from tests.rewardmodel.test_model import CONVERSATIONS, make
from tests.rewardmodel.test_train import polite_rankings

STEPS, PER_STEP = 6, 4


class Losses(TrainerCallback):
    """What TRL logs of each step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_log(self, _arguments, _state, _control, logs, **_others):
        if "loss" in logs:
            self.found.append(float(logs["loss"]))


def pairs() -> list[dict]:
    return [
        {**row, "responses": [row["responses"][place] for place in order], "ranks": [1, 2]}
        for row in polite_rankings({"train": STEPS * PER_STEP})
        for order in [sorted(range(3), key=row["ranks"].__getitem__)[::2]]
    ]


def trl(model, tokenizer, folder, rows, **settings) -> RewardTrainer:
    ids = [
        {
            f"{side}_ids": prompt_ids(tokenizer, row["messages"]) + response_ids(tokenizer, text)
            for side, text in zip(("chosen", "rejected"), row["responses"], strict=True)
        }
        for row in rows
    ]
    config = RewardConfig(
        output_dir=str(folder), per_device_train_batch_size=PER_STEP, num_train_epochs=1, learning_rate=1e-3,
        lr_scheduler_type="cosine", train_sampling_strategy="sequential", gradient_checkpointing=False, bf16=False,
        logging_steps=1, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
        center_rewards_coefficient=0.01, **settings,
    )  # fmt: skip
    return RewardTrainer(model=model, args=config, train_dataset=Dataset.from_list(ids), processing_class=tokenizer)


def test_the_losses_of_float32_training_are_trls_on_the_same_batches(tiny_model, tmp_path):
    rows = pairs()
    job = RewardJob(base_model=str(tiny_model), loss="logistic", learning_rate=1e-3, warmup=0.0, lora_rank=0)
    write_rankings(tmp_path, rows)
    rankings = read_rankings(tmp_path, load_tokenizer(tiny_model), 500).train
    model = make(tiny_model)
    model.save(tmp_path / "start")
    theirs = Losses()
    trainer = trl(str(tmp_path / "start"), AutoTokenizer.from_pretrained(tmp_path / "start"), tmp_path, rows)
    trainer.add_callback(theirs)
    trainer.train()
    ours = own_losses(model, rankings, job)
    assert len(ours) == len(theirs.found) == STEPS
    assert ours == pytest.approx(theirs.found, abs=1e-4)
    assert ours[-1] < ours[0]


def own_losses(model: RewardModel, rankings, job: RewardJob) -> list[float]:
    """The losses with the centring penalty, which TRL's figures include."""
    weights, found = MasterWeights(model, job), []
    model.train()
    for step in range(STEPS):
        chosen = rankings[step * PER_STEP : (step + 1) * PER_STEP]
        loss, _accuracy = train_step(model, chosen, 1.0, job)
        with torch.no_grad():
            both = [model.raw_scores(ranking.answers, 4096).sum().square().item() for ranking in chosen]
        found.append(loss + job.centring * sum(both) / len(both))
        weights.step(learning_rate_at(step, STEPS, job))
    return found


def test_trl_takes_our_folder_and_gives_our_scores_but_for_the_mean(tiny_model, tmp_path):
    model = make(tiny_model)
    answers = [*CONVERSATIONS]
    model.standardise(torch.tensor([1.0, 3.0, 5.0]))
    model.save(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    trainer = trl(str(tmp_path / "model"), tokenizer, tmp_path, pairs())
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", use_safetensors=True)
    ids = [torch.tensor(prompt_ids(tokenizer, chat) + response_ids(tokenizer, text)) for chat, text in answers]
    batch = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=tokenizer.pad_token_id)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
    expected = model.score(answers) + model.settings.mean
    for loaded in (trainer.model.eval(), plain):
        with torch.no_grad():
            logits = loaded(input_ids=batch, attention_mask=mask).logits[:, 0]
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    assert dataclasses.asdict(model.settings)["scale"] == 1.0
