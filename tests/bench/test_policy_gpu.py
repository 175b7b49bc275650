"""What the GPU benchmark counts, and a figure that cannot be measured here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.bench import policy_gpu, policy_trainers
from tests.bench.bar import Bar, table
from tests.bench.policy_gpu import model_flops
from tests.policy.conftest import make_model


def test_the_operations_of_an_update_by_hand() -> None:
    """One parameter; 2 prompts of 5 tokens with 4 answers of 10 each: 10 + 80 tokens are read, 40 + 80 scored.

    Two passes of 6 over 90 are 1080. Drawing takes 2 over 90, scoring 2 over 120, policy and reference 2 over 90 each.
    """
    flops = model_flops(1, prompt_tokens=10, answer_tokens=80, samples=4, epochs=2)
    assert flops == {"train": 1080.0, "update": 1080.0 + 180 + 240 + 360}


def test_a_figure_that_cannot_be_measured_here_is_not_missed() -> None:
    bar = Bar("samples a second on a GPU", None, "a second", at_least=3.0, missing="no GPU: not measured")
    assert bar.met
    assert table([bar]).splitlines()[-1] == "| samples a second on a GPU | no GPU: not measured | ≥ 3 a second | – |"
    assert not Bar("samples a second", 2.9, "a second", at_least=3.0).met


def test_the_figures_come_from_an_update_after_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny model on the CPU in place of a GPU."""
    model = make_model(tmp_path / "tiny", max_position_embeddings=2048)
    for module in (policy_gpu, policy_trainers):
        monkeypatch.setattr(module, "MODEL", model)
    monkeypatch.setattr(policy_gpu, "SIDE", 64)
    reward, run = tmp_path / "reward", tmp_path / "run"
    run.mkdir()
    policy_trainers.write_reward_model(str(reward))
    figures = policy_gpu.ppo(torch.device("cpu"), 2, run, str(reward))
    assert figures["tokens_per_second"] > figures["samples_per_second"] > 0
    assert figures["share_of_peak_in_training"] > 0
    assert figures["stages"]["seconds_train"] > 0
