"""Ensembles against their members, each loaded by itself."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

from rewardmodel import ensemble, rundir
from rewardmodel.contract import PREDICTIONS_FILE
from rewardmodel.model import load_reward_model
from rewardmodel.train import main
from tests.rewardmodel.conftest import VOCABULARY, byte_tokenizer, save_tiny_model
from tests.rewardmodel.rankings import write_run
from tests.rewardmodel.test_model import CONVERSATIONS, make
from tests.rewardmodel.test_train import job, polite_rankings, run_in_process

SIZES = {"train": 16, "dev": 4, "test": 6}


def llama(folder: Path) -> Path:
    return save_tiny_model(folder, num_hidden_layers=4)


def gpt2(folder: Path) -> Path:
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=4, n_head=2, initializer_range=0.3)
    GPT2LMHeadModel(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def bert(folder: Path) -> Path:
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=2,
        initializer_range=0.3,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def changed(folder: Path, seed: int, layers: tuple[int, ...]):
    """A model whose blocks and head were moved, as training would."""
    model = make(folder, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.backbone.named_parameters():
            if any(f".{layer}." in name for layer in layers) or parameter is model.head.weight:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    model.settings.mean = 0.1 * seed
    return model


@pytest.mark.parametrize("kind", [llama, gpt2, bert])
@pytest.mark.parametrize("layers", [(2, 3), (0, 1, 2, 3)], ids=["upper half", "all"])
def test_an_ensemble_gives_its_members_scores_saved_and_loaded(tmp_path, kind, layers):
    base = kind(tmp_path / "base")
    models = [changed(base, seed, layers) for seed in range(3)]
    alone = torch.stack([model.score(CONVERSATIONS) for model in models], 1)
    ensemble.join(models).save(tmp_path / "joined")
    joined = load_reward_model(tmp_path / "joined", dtype="float32", device="cpu")
    mean, variance = joined.score_with_variance(CONVERSATIONS)
    torch.testing.assert_close(mean, alone.mean(1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(variance, ((alone - alone.mean(1, keepdim=True)) ** 2).mean(1), atol=1e-5, rtol=1e-4)
    assert (variance > 0).all()


def test_blocks_below_the_first_that_differs_run_once_for_all_members(tmp_path):
    base = llama(tmp_path)
    joined = ensemble.join([changed(base, seed, (2, 3)) for seed in range(3)])
    runs = dict.fromkeys(range(4), 0)
    for number, block in enumerate(joined.trunk.layers):
        block.register_forward_hook(lambda *_given, number=number: runs.update({number: runs[number] + 1}))
    joined.score(CONVERSATIONS, tokens_per_batch=10_000)
    assert runs == {0: 1, 1: 1, 2: 3, 3: 3}


def test_the_conservative_score_is_the_mean_less_lambda_times_the_variance(tmp_path):
    joined = ensemble.join([changed(llama(tmp_path), seed, (3,)) for seed in range(2)])
    joined.settings.variance_penalty = 0.5
    mean, variance = joined.score_with_variance(CONVERSATIONS)
    torch.testing.assert_close(joined.score(CONVERSATIONS), mean - 0.5 * variance)
    given = ensemble.mean_and_variance(torch.tensor([[1.0, 3.0]]))
    assert [part.item() for part in given] == [2.0, 1.0]
    assert ensemble.conservative(*given, penalty=0.25).item() == 1.75


def test_a_single_model_has_no_variance_and_its_score_is_the_mean(tiny_model):
    model = make(tiny_model)
    mean, variance = model.score_with_variance(CONVERSATIONS)
    assert variance.tolist() == [0.0] * len(CONVERSATIONS)
    assert torch.equal(model.score(CONVERSATIONS), mean)


@pytest.fixture(scope="module")
def trained(tiny_model, tmp_path_factory):
    """Two members by one job, and each by a job of its own."""
    folder = tmp_path_factory.mktemp("ensemble")
    rows = polite_rankings(SIZES)
    runs = {
        "both": write_run(folder / "both", rows, **job(tiny_model, members=2, seed=5, epochs=1)),
        "first": write_run(folder / "first", rows, **job(tiny_model, seed=5, epochs=1)),
        "second": write_run(folder / "second", rows, **job(tiny_model, seed=6, epochs=1)),
    }
    for run in runs.values():
        run_in_process(run)
    return runs


def predictions(run: Path) -> list[dict]:
    return pq.read_table(run / PREDICTIONS_FILE).to_pylist()


def test_a_job_of_two_members_trains_what_two_jobs_with_their_seeds_would(trained):
    both, first, second = (predictions(trained[name]) for name in ("both", "first", "second"))
    for row, one, other in zip(both, first, second, strict=True):
        assert row["members"] == pytest.approx([one["score"], other["score"]], abs=1e-4)
        assert row["score"] == pytest.approx((one["score"] + other["score"]) / 2, abs=1e-4)
        assert row["variance"] == pytest.approx((one["score"] - other["score"]) ** 2 / 4, abs=1e-4)


def test_the_result_has_the_training_of_each_member_and_nothing_unfinished_stays(trained):
    metrics = json.loads((trained["both"] / "result.json").read_text())["metrics"]
    assert [member["seed"] for member in metrics["members"]] == [5, 6]
    assert metrics["training"] == metrics["members"][0]
    assert not (trained["both"] / "members").exists()


def test_the_first_member_is_the_plain_model(trained):
    joined = trained["both"] / "output" / "model" / "model.safetensors"
    assert joined.read_bytes() == (trained["first"] / "output" / "model" / "model.safetensors").read_bytes()


def test_an_ensemble_that_was_stopped_goes_on_with_the_member_it_was_at(tiny_model, tmp_path, trained, monkeypatch):
    from rewardmodel import loop

    real, made = loop.train_step, 0

    def counted(*arguments):
        nonlocal made
        made += 1
        if made == 6:  # of 4 steps each: in the second member
            (tmp_path / "stop").touch()
        return real(*arguments)

    monkeypatch.setattr(loop, "train_step", counted)
    run = write_run(tmp_path, polite_rankings(SIZES), **job(tiny_model, members=2, seed=5, epochs=1))
    assert main(["--run-dir", str(run)]) == rundir.EXIT_RESUMABLE
    (tmp_path / "stop").unlink()
    run_in_process(run)
    assert made == 8
    assert predictions(run) == predictions(trained["both"])
