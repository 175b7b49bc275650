"""The PPO loop on a tiny model with a programmatic reward: it learns, counts its steps, stops and resumes."""

from __future__ import annotations

import errno
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from policy.actor import actor_of
from policy.contract import EngineConfig, ImproveJob, Sampling
from policy.data import Prompt
from policy.engines.base import start_engine
from policy.engines.transformers import TransformersEngine
from policy.ppo import improve, is_out_of_time
from policy.rollout import TokenPrompt, prompts_of_update
from policy.state import Checkpoint
from rewardmodel import rundir
from rewardmodel.chat import prompt_ids
from rewardmodel.contract import JobError
from rewardmodel.publish import is_disk_full
from rewardmodel.rundir import Stopped, checkpoints, open_run, step_of
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
    lora_rank=4,
    lora_alpha=8,
    lora_layers=1.0,
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


def plainness(conversations) -> torch.Tensor:
    """The share of an answer's characters that are ASCII; half for an empty one."""
    return torch.tensor([sum(c.isascii() for c in text) / len(text) if text else 0.5 for _, text in conversations])


def run_ppo(run_dir, model, job=JOB, reward=brevity, attempt=1, shown=()):
    """Train in a run directory; where training ended."""
    run_dir.mkdir(exist_ok=True)
    job = replace(job, policy=str(model))
    engine = start_engine(job.engine, model, run_dir / "engine.log")
    with open_run(run_dir, attempt) as run:
        actor = actor_of(job, torch.float32, torch.device("cpu"))
        return improve(run, job, actor, engine, reward, token_prompts(8), shown)


def stopping(run_dir, look):
    """Brevity, asked for a stop while the answers of so many policies, the parent first, are scored."""
    looks = 0

    def reward(conversations):
        nonlocal looks
        looks += 1
        if looks == look:
            (run_dir / "stop").touch()
        return brevity(conversations)

    return reward


def same(one, other):
    """Whether two trainings ended in equal weights."""
    return all(
        torch.equal(mine, theirs) for mine, theirs in zip(one.exact().values(), other.exact().values(), strict=True)
    )


def test_a_policy_learns_what_the_reward_asks_for(tiny_model, tmp_path):
    job = replace(JOB, updates=9, prompts_per_update=8, samples_per_prompt=8, kl_coefficient=0.001, no_end_penalty=0.0)
    history = run_ppo(tmp_path / "run", tiny_model, job).history
    assert history[0]["reward"] < 0.2
    assert history[-1]["reward"] > 0.45
    assert history[0]["kl"] == pytest.approx(0.0, abs=1e-5)
    assert history[-1]["kl"] > 1.0


def test_a_heavy_kl_penalty_keeps_the_policy_near_its_parent(tiny_model, tmp_path):
    free, held = (
        run_ppo(tmp_path / name, tiny_model, replace(JOB, updates=6, kl_coefficient=beta)).history[-1]["kl"]
        for name, beta in (("free", 0.0001), ("held", 5.0))
    )
    assert abs(held) < 0.5 * free


def test_each_update_makes_epochs_times_minibatches_optimiser_steps(tiny_model, tmp_path):
    history = run_ppo(tmp_path / "run", tiny_model, replace(JOB, updates=1, epochs=3, minibatches=2)).history
    assert [update["optimiser_steps"] for update in history] == [6]
    moments = load_file(tmp_path / "run" / "checkpoints" / "step-1" / "optimiser.safetensors")
    steps = {float(tensor) for name, tensor in moments.items() if name.endswith(".step")}
    assert steps == {6.0}


def test_minibatches_are_never_empty(tiny_model, tmp_path):
    job = replace(JOB, prompts_per_update=2, minibatches=4, epochs=1, updates=1)
    [update] = run_ppo(tmp_path / "run", tiny_model, job).history
    assert update["optimiser_steps"] == 2


def test_before_the_first_step_the_ratio_is_one_and_sampler_and_trainer_agree(tiny_model, tmp_path):
    history = run_ppo(tmp_path / "run", tiny_model).history
    for update in history:
        assert update["first_ratio_error"] < 1e-3
        assert update["mismatch_kl"] == pytest.approx(0.0, abs=1e-5)


def test_an_interrupted_run_ends_in_the_same_weights_as_a_straight_one(tiny_model, tmp_path):
    job = replace(JOB, updates=3)
    straight = run_ppo(tmp_path / "straight", tiny_model, job)

    with pytest.raises(Stopped):
        run_ppo(tmp_path / "cut", tiny_model, job, stopping(tmp_path / "cut", look=3))
    assert [line["done"] for line in progress_of(tmp_path / "cut") if line["stage"] == "ppo"] == [1, 2]
    (tmp_path / "cut" / "stop").unlink()
    resumed = run_ppo(tmp_path / "cut", tiny_model, job, attempt=2)
    assert resumed.learners.keys() == straight.learners.keys()
    for name, learner in resumed.learners.items():
        for mine, theirs in zip(learner.masters, straight.learners[name].masters, strict=True):
            assert torch.equal(mine, theirs)
    assert [update["reward"] for update in resumed.history] == [update["reward"] for update in straight.history]
    done = [line["done"] for line in progress_of(tmp_path / "cut", attempt=2) if line["stage"] == "ppo"]
    assert done == [2, 3]


def test_a_reward_that_is_no_number_ends_the_run_with_a_sentence(tiny_model, tmp_path):
    def spoilt(conversations):
        spoils = torch.tensor([messages[0]["content"] == "Say 3" for messages, _text in conversations])
        return brevity(conversations).masked_fill(spoils, torch.nan)

    with pytest.raises(JobError, match=r"The reward of an answer in update \d is not a number, on the prompts p3\."):
        run_ppo(tmp_path / "run", tiny_model, reward=spoilt)


def test_a_diverged_run_ends_with_a_sentence_and_keeps_its_last_good_checkpoint(tiny_model, tmp_path):
    job = replace(JOB, learning_rate=1e30, minibatches=1)
    with pytest.raises(JobError, match="PPO diverged in update 1: its gradient is not a number, on the prompts p"):
        run_ppo(tmp_path / "run", tiny_model, job)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_policy_that_gives_no_numbers_is_neither_kept_nor_the_result(tiny_model, tmp_path, monkeypatch):
    """One step whose gradient is fine breaks the weights: nothing but the answers of what it made can tell."""
    monkeypatch.setattr(rundir, "CHECKPOINT_SHARE", 1.0)
    once = replace(JOB, epochs=1, minibatches=1)
    kept = run_ppo(tmp_path / "run", tiny_model, once)
    broken = replace(once, learning_rate=1e30)
    for updates in (3, 5):
        with pytest.raises(JobError, match="PPO diverged in update 3: the policy that it made gives no numbers"):
            run_ppo(tmp_path / "run", tiny_model, replace(broken, updates=updates), attempt=updates)
    with open_run(tmp_path / "run", 6) as run:
        last = run.latest_checkpoint()
    assert last is not None
    assert last.name == "step-2"
    saved = load_file(last / "weights.safetensors")
    assert all(torch.equal(saved[f"policy.{name}"], master) for name, master in kept.exact().items())


def test_a_stop_before_a_broken_policy_was_looked_at_leaves_the_last_good_one(tiny_model, tmp_path):
    once = replace(JOB, epochs=1, minibatches=1)
    run_ppo(tmp_path / "run", tiny_model, once)
    broken, reward = replace(once, updates=4, learning_rate=1e30), stopping(tmp_path / "run", look=2)
    with pytest.raises(Stopped):
        run_ppo(tmp_path / "run", tiny_model, broken, reward, attempt=2)
    assert [line["done"] for line in progress_of(tmp_path / "run", 2) if line["stage"] == "ppo"] == [3]
    (tmp_path / "run" / "stop").unlink()
    resumed = run_ppo(tmp_path / "run", tiny_model, replace(once, updates=3), attempt=3)
    assert same(resumed, run_ppo(tmp_path / "straight", tiny_model, replace(once, updates=3)))


def test_however_training_ends_its_last_good_policy_is_in_a_checkpoint(tiny_model, tmp_path, monkeypatch):
    """Checkpoints are next to never due here, but for the first."""
    monkeypatch.setattr(rundir, "CHECKPOINT_SHARE", 1e-9)
    job = replace(JOB, updates=4)
    with pytest.raises(Stopped):
        run_ppo(tmp_path / "stopped", tiny_model, job, stopping(tmp_path / "stopped", look=4))

    def spoilt(conversations):
        spoilt.looks += 1
        return brevity(conversations) if spoilt.looks < 4 else torch.full((len(conversations),), torch.nan)

    spoilt.looks = 0
    with pytest.raises(JobError):
        run_ppo(tmp_path / "failed", tiny_model, job, spoilt)
    run_ppo(tmp_path / "done", tiny_model, replace(job, updates=2))
    for name in ("stopped", "failed", "done"):
        assert max(map(step_of, checkpoints(tmp_path / name))) == 2


def test_a_disk_that_fills_at_a_checkpoint_leaves_the_one_before_from_which_the_run_goes_on(
    tiny_model, tmp_path, monkeypatch
):
    save = Checkpoint.save

    def fills_at_the_second(self, folder):
        save(self, folder)
        if len(self.history) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(rundir, "CHECKPOINT_SHARE", 1.0)
        full.setattr(Checkpoint, "save", fills_at_the_second)
        with pytest.raises(OSError, match="No space left on device") as problem:
            run_ppo(tmp_path / "run", tiny_model, replace(JOB, updates=3))
    assert is_disk_full(problem.value)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-1"]
    assert not list((tmp_path / "run").glob("attempt-*/policy-*"))
    resumed = run_ppo(tmp_path / "run", tiny_model, replace(JOB, updates=3), attempt=2)
    assert same(resumed, run_ppo(tmp_path / "straight", tiny_model, replace(JOB, updates=3)))


def test_a_checkpoint_of_before_it_held_what_was_measured_is_gone_on_from(tiny_model, tmp_path):
    run_ppo(tmp_path / "run", tiny_model, replace(JOB, updates=1))
    with open_run(tmp_path / "run", 2) as run:
        folder = run.latest_checkpoint()
        assert folder is not None
        old = json.loads((folder / "state.json").read_text())
        del old["measured"]
        (folder / "state.json").write_text(json.dumps(old))
        saved = Checkpoint.load(folder)
        run.publish_checkpoint(1, saved.save)
    resumed = run_ppo(tmp_path / "run", tiny_model, attempt=3)
    assert same(resumed, run_ppo(tmp_path / "straight", tiny_model))


def test_no_update_begins_that_would_end_too_late(tiny_model, tmp_path):
    short = run_ppo(tmp_path / "run", tiny_model, replace(JOB, updates=5, max_seconds=1e-6))
    assert (len(short.history), short.ended_by) == (1, "time")
    assert short.final["kl"] > 0
    whole = run_ppo(tmp_path / "whole", tiny_model, replace(JOB, updates=2, max_seconds=1e6))
    assert (len(whole.history), whole.ended_by) == (2, "updates")
    whole.history = [{"seconds": 10.0}, {"seconds": 14.0}]  # so the next may take 14 s, too
    assert not is_out_of_time(replace(JOB, max_seconds=38.0), whole)
    assert is_out_of_time(replace(JOB, max_seconds=37.9), whole)
    assert not is_out_of_time(JOB, whole)


def test_what_is_said_of_the_result_was_measured_of_it(tiny_model, tmp_path):
    """Its figures are those with which a longer training of the same seed begins its next update."""
    short = run_ppo(tmp_path / "short", tiny_model)
    longer = run_ppo(tmp_path / "longer", tiny_model, replace(JOB, updates=3))
    assert short.final["kl"] > 0
    assert short.final == {name: longer.history[2][name] for name in short.final}


def test_progress_tells_of_every_stage_and_shows_the_answers_to_fixed_prompts(tiny_model, tmp_path):
    run_ppo(tmp_path / "run", tiny_model, shown=token_prompts(3)[2:])
    lines = progress_of(tmp_path / "run")
    stages = [line["stage"] for line in lines]
    assert [stage for i, stage in enumerate(stages) if i == 0 or stages[i - 1] != stage] == [
        "generate", "score", "evaluate", "train", "ppo", "generate", "score", "evaluate", "train", "ppo",
        "generate", "score", "evaluate", "measure",
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
    history = run_ppo(tmp_path / "run", tiny_model, job, lambda texts: torch.zeros(len(texts))).history
    assert history[-1]["end_rate"] > history[0]["end_rate"] + 0.2


@pytest.mark.parametrize(
    "changes",
    [
        {"advantage": "rloo"},
        {"advantage": "grpo"},
        {"critic": "separate"},
        {"prompt_baseline": False, "whiten_rewards": True},
        {"lora_rank": 0, "learning_rate": 1e-4, "epochs": 8, "minibatches": 8},
    ],
    ids=["rloo", "grpo", "separate critic", "textbook", "all weights"],
)
def test_every_variant_learns_and_goes_on_exactly_where_it_was(tiny_model, tmp_path, changes):
    size = {"updates": 6, "prompts_per_update": 8, "samples_per_prompt": 8, "kl_coefficient": 0.001}
    job = replace(JOB, **size, no_end_penalty=0.0, **changes)
    straight = run_ppo(tmp_path / "straight", tiny_model, job, plainness)
    assert straight.history[-1]["reward"] > straight.history[0]["reward"] + 0.05
    assert ("critic" in straight.learners) == (job.advantage == "gae")
    assert all(update["first_ratio_error"] < 1e-3 for update in straight.history)
    assert all((update["value_loss"] > 0) == (job.advantage == "gae") for update in straight.history)
    run_ppo(tmp_path / "cut", tiny_model, replace(job, updates=2), plainness)
    resumed = run_ppo(tmp_path / "cut", tiny_model, job, plainness, attempt=2)
    assert [update["reward"] for update in resumed.history] == [update["reward"] for update in straight.history]
    for mine, theirs in zip(resumed.exact().values(), straight.exact().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_policy_that_moves_too_far_is_taken_back_to_the_last_one_within_the_limit(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(rundir, "CHECKPOINT_SHARE", 1e-9)  # only the first checkpoint is ever due
    free = run_ppo(tmp_path / "free", tiny_model, replace(JOB, updates=6, kl_coefficient=0.0))
    kls = [update["kl"] for update in free.history]
    limit = (max(kls[:3]) + kls[3]) / 2
    assert max(kls[:3]) < limit < kls[3]
    held = run_ppo(
        tmp_path / "held", tiny_model, replace(JOB, updates=6, kl_coefficient=0.0, kl_target=limit / 2, kl_limit=limit)
    )
    assert (len(held.history), held.ended_by) == (2, "kl")
    line = progress_of(tmp_path / "held")[-1]
    assert line["message"].startswith(f"After update 3 the policy is {kls[3]:.1f} nats an answer away from its parent")
    assert held.final["kl"] == kls[2]
    assert same(held, run_ppo(tmp_path / "short", tiny_model, replace(JOB, updates=2, kl_coefficient=0.0)))


def test_a_policy_that_moves_too_far_at_once_leaves_nothing_to_go_back_to(tiny_model, tmp_path):
    with pytest.raises(JobError, match=r"After update 1 .* no policy before it has learned anything"):
        run_ppo(tmp_path / "run", tiny_model, replace(JOB, kl_target=1e-4, kl_limit=1e-3))
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))


def test_answers_of_old_weights_are_never_learned_from(tiny_model, tmp_path, monkeypatch):
    load = TransformersEngine.load_weights
    monkeypatch.setattr(TransformersEngine, "load_weights", lambda self, folder, version=0: load(self, folder, 0))
    with pytest.raises(RuntimeError, match=r"Update 2 got answers of the weights \[0\], not of 1"):
        run_ppo(tmp_path / "run", tiny_model)


def test_the_distance_to_the_base_is_told_beside_that_to_the_parent(tiny_model, other_tiny_model, tmp_path):
    [own] = run_ppo(tmp_path / "own", tiny_model, replace(JOB, updates=1)).history
    assert own["kl"] == own["kl_base"] == pytest.approx(0.0, abs=1e-5)
    [other] = run_ppo(tmp_path / "other", tiny_model, replace(JOB, updates=1, base_model=str(other_tiny_model))).history
    assert other["kl"] == pytest.approx(0.0, abs=1e-5)
    assert other["kl_base"] > 1.0


def test_the_same_tokens_in_small_batches_give_the_same_steps(tiny_model, tmp_path):
    whole, cut = (
        run_ppo(tmp_path / str(budget), tiny_model, replace(JOB, updates=1, tokens_per_batch=budget))
        for budget in (4096, 64)
    )
    for one, other in zip(whole.exact().values(), cut.exact().values(), strict=True):
        assert torch.allclose(one, other, atol=1e-3)
    assert whole.history[0]["policy_loss"] == pytest.approx(cut.history[0]["policy_loss"], abs=1e-4)


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
