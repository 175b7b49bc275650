"""The PPO loop on a tiny model with a programmatic reward: it learns, counts its steps, stops and resumes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from policy.actor import Actor
from policy.contract import EngineConfig, ImproveJob, Sampling
from policy.data import Prompt
from policy.engines.base import start_engine
from policy.ppo import improve
from policy.rollout import TokenPrompt, prompts_of_update
from rewardmodel.chat import prompt_ids
from rewardmodel.contract import JobError
from rewardmodel.rundir import Stopped, open_run
from tests.policy.conftest import make_tokenizer, progress_of

JOB = ImproveJob(
    policy="",
    reward_model="",
    updates=2,
    prompts_per_update=4,
    samples_per_prompt=4,
    sampling=Sampling(temperature=1.0, max_tokens=12),
    epochs=2,
    minibatches=2,
    learning_rate=1e-2,
    dtype="float32",
    tokens_per_batch=128,
    engine=EngineConfig(name="transformers", dtype="float32"),
)


def token_prompts(count: int) -> list[TokenPrompt]:
    tokenizer = make_tokenizer()
    prompts = [Prompt(f"p{i}", "train", [{"role": "user", "content": f"Say {i}"}]) for i in range(count)]
    return [TokenPrompt(prompt, prompt_ids(tokenizer, prompt.messages)) for prompt in prompts]


def brevity(conversations) -> torch.Tensor:
    """1 for an empty answer, 0 for one of 12 characters."""
    return torch.tensor([1 - len(text) / 12 for _, text in conversations])


def run_ppo(run_dir, model, job=JOB, reward=brevity, attempt=1, shown=()):
    """Train in a run directory; the actor and the metrics of its updates."""
    run_dir.mkdir(exist_ok=True)
    actor = Actor(model, rank=4, alpha=8, layers=1.0, dtype=torch.float32, device=torch.device("cpu"), seed=job.seed)
    engine = start_engine(job.engine, model, run_dir / "engine.log")
    with open_run(run_dir, attempt) as run:
        return actor, improve(run, job, actor, engine, reward, token_prompts(8), shown)


def test_a_policy_learns_what_the_reward_asks_for(tiny_model, tmp_path):
    job = replace(JOB, updates=9, prompts_per_update=8, samples_per_prompt=8, kl_coefficient=0.001, no_end_penalty=0.0)
    _, history = run_ppo(tmp_path / "run", tiny_model, job)
    assert history[0]["reward"] < 0.2
    assert history[-1]["reward"] > 0.45
    assert history[0]["kl"] == pytest.approx(0.0, abs=1e-5)
    assert history[-1]["kl"] > 1.0


def test_a_heavy_kl_penalty_keeps_the_policy_near_its_parent(tiny_model, tmp_path):
    free, held = (
        run_ppo(tmp_path / name, tiny_model, replace(JOB, updates=6, kl_coefficient=beta))[1][-1]["kl"]
        for name, beta in (("free", 0.0001), ("held", 5.0))
    )
    assert abs(held) < 0.5 * free


def test_each_update_makes_epochs_times_minibatches_optimiser_steps(tiny_model, tmp_path):
    _, history = run_ppo(tmp_path / "run", tiny_model, replace(JOB, epochs=3, minibatches=2))
    assert [update["optimiser_steps"] for update in history] == [6, 6]
    moments = load_file(tmp_path / "run" / "checkpoints" / "step-2" / "optimiser.safetensors")
    steps = {float(tensor) for name, tensor in moments.items() if name.endswith(".step")}
    assert steps == {12.0}


def test_minibatches_are_never_empty(tiny_model, tmp_path):
    job = replace(JOB, prompts_per_update=2, minibatches=4, epochs=1, updates=1)
    _, [update] = run_ppo(tmp_path / "run", tiny_model, job)
    assert update["optimiser_steps"] == 2


def test_before_the_first_step_the_ratio_is_one_and_sampler_and_trainer_agree(tiny_model, tmp_path):
    _, history = run_ppo(tmp_path / "run", tiny_model)
    for update in history:
        assert update["first_ratio_error"] < 1e-3
        assert update["mismatch_kl"] == pytest.approx(0.0, abs=1e-5)


def test_an_interrupted_run_ends_in_the_same_weights_as_a_straight_one(tiny_model, tmp_path):
    job = replace(JOB, updates=3)
    straight, straight_history = run_ppo(tmp_path / "straight", tiny_model, job)

    updates_begun = 0

    def stop_during_the_second_update(conversations):
        nonlocal updates_begun
        updates_begun += 1
        if updates_begun == 2:
            (tmp_path / "cut" / "stop").touch()
        return brevity(conversations)

    with pytest.raises(Stopped):
        run_ppo(tmp_path / "cut", tiny_model, job, stop_during_the_second_update)
    assert [line["done"] for line in progress_of(tmp_path / "cut") if line["stage"] == "ppo"] == [1]
    (tmp_path / "cut" / "stop").unlink()
    resumed, resumed_history = run_ppo(tmp_path / "cut", tiny_model, job, attempt=2)
    for mine, theirs in zip(resumed.trained().values(), straight.trained().values(), strict=True):
        assert torch.equal(mine, theirs)
    assert [update["reward"] for update in resumed_history] == [update["reward"] for update in straight_history]
    done = [line["done"] for line in progress_of(tmp_path / "cut", attempt=2) if line["stage"] == "ppo"]
    assert done == [2, 3]


def test_a_reward_that_is_no_number_ends_the_run_with_a_sentence(tiny_model, tmp_path):
    with pytest.raises(JobError, match="The reward of an answer in update 1 is not a number"):
        run_ppo(tmp_path / "run", tiny_model, reward=lambda conversations: torch.full((len(conversations),), torch.nan))


def test_a_diverged_run_ends_with_a_sentence_and_keeps_its_last_good_checkpoint(tiny_model, tmp_path):
    job = replace(JOB, learning_rate=1e30, minibatches=1)
    with pytest.raises(JobError, match="PPO diverged in update 1: its gradient is not a number"):
        run_ppo(tmp_path / "run", tiny_model, job)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_progress_tells_of_every_stage_and_shows_the_answers_to_fixed_prompts(tiny_model, tmp_path):
    run_ppo(tmp_path / "run", tiny_model, shown=token_prompts(3)[2:])
    lines = progress_of(tmp_path / "run")
    stages = [line["stage"] for line in lines]
    assert [stage for i, stage in enumerate(stages) if i == 0 or stages[i - 1] != stage] == [
        "generate", "score", "evaluate", "train", "ppo", "generate", "score", "evaluate", "train", "ppo",
    ]  # fmt: skip
    updates = [line for line in lines if line["stage"] == "ppo"]
    assert [(line["done"], line["total"]) for line in updates] == [(1, 2), (2, 2)]
    for line in updates:
        metrics = line["metrics"]
        assert list(metrics["examples"]) == ["p2"]
        assert metrics["samples"] == 16
        assert metrics["length"] <= 12
        assert 0 <= metrics["end_rate"] <= 1
        assert 0 <= metrics["clip_fraction"] <= 1
        assert metrics["entropy"] > 0
        assert metrics["samples_per_second"] > 0
        json.dumps(line, allow_nan=False)


def test_answers_that_are_cut_off_lose_the_penalty(tiny_model, tmp_path):
    """With nothing else rewarded, the penalty alone teaches the policy to end its answers."""
    job = replace(JOB, updates=9, prompts_per_update=8, samples_per_prompt=8, kl_coefficient=0.001, no_end_penalty=1.0)
    _, history = run_ppo(tmp_path / "run", tiny_model, job, lambda conversations: torch.zeros(len(conversations)))
    assert history[-1]["end_rate"] > history[0]["end_rate"] + 0.2


def test_every_prompt_is_used_once_before_any_is_used_again():
    prompts = token_prompts(8)
    passes = [
        [p.prompt.prompt_id for u in (2 * k, 2 * k + 1) for p in prompts_of_update(prompts, u, 4, 0)] for k in (0, 1)
    ]
    assert sorted(passes[0]) == sorted(passes[1]) == [f"p{i}" for i in range(8)]
    assert passes[0] != passes[1]
    assert passes[0] != [p.prompt.prompt_id for u in (0, 1) for p in prompts_of_update(prompts, u, 4, seed=1)]


def test_an_update_never_asks_a_prompt_twice():
    prompts = token_prompts(5)
    for update in range(10):
        for wanted in (3, 9):
            names = [p.prompt.prompt_id for p in prompts_of_update(prompts, update, wanted, 0)]
            assert len(names) == len(set(names)) == min(wanted, 5)
