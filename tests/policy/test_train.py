"""``python -m policy.train``: from a run directory to a model that others load, and refusals in one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from policy.contract import EngineConfig, ImproveJob, Sampling
from policy.train import main
from rewardmodel.chat import PLAIN_TEMPLATE, load_tokenizer, prompt_ids
from rewardmodel.contract import JobError
from rewardmodel.model import Settings, new_reward_model
from rewardmodel.publish import verify
from rewardmodel.rundir import Stopped, open_run, step_of
from tests.policy.conftest import ROOT, make_model, progress_of, write_run
from tests.policy.learners import make_kind

TRANSFORMERS = EngineConfig(name="transformers", dtype="float32")
PROMPTS = [(f"p{i}", split, f"Say {i}") for i, split in enumerate(["train"] * 5 + ["dev", "test"])]


def save_reward_model(base, folder):
    model = new_reward_model(
        load_tokenizer(base),
        Settings(base_model=str(base), loss="logistic", max_tokens=64),
        dtype=torch.float32,
        device=torch.device("cpu"),
        seed=0,
    )
    model.save(folder)
    return folder


@pytest.fixture(scope="module")
def reward_model(tiny_model, tmp_path_factory):
    return save_reward_model(tiny_model, tmp_path_factory.mktemp("models") / "reward")


def improve_job(policy, reward, **changes) -> ImproveJob:
    return ImproveJob(
        **{
            "policy": str(policy),
            "reward_model": str(reward),
            "updates": 2,
            "prompts_per_update": 4,
            "samples_per_prompt": 2,
            "minibatches": 2,
            "epochs": 1,
            "sampling": Sampling(max_tokens=8),
            "dtype": "float32",
            "engine": TRANSFORMERS,
            "fixed_prompts": ["p6"],
            **changes,
        }
    )


def run_command(run_dir) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "policy.train", "--run-dir", str(run_dir), "--attempt", "1"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("engine", "kind"), [("transformers", "llama"), ("vllm", "llama"), ("vllm", "qwen"), ("vllm", "gpt2")]
)
def test_the_command_publishes_an_improved_model_and_its_history(reward_model, tmp_path, engine, kind):
    policy = make_kind(tmp_path / "policy", kind)
    job = improve_job(policy, reward_model, engine=EngineConfig(name=engine, dtype="float32", kv_cache_bytes=1 << 26))
    run_dir = write_run(tmp_path / "run", "improve", job, PROMPTS)
    ended = run_command(run_dir)
    assert ended.returncode == 0, ended.stderr
    result = json.loads((run_dir / "result.json").read_text())
    assert result["kind"] == "improve"
    assert verify(run_dir / result["model"], result["manifest_sha256"]) == result["manifest_sha256"]
    updates = result["metrics"]["updates"]
    assert [update["update"] for update in updates] == [1, 2]
    assert all(list(update["examples"]) == ["p6"] for update in updates)
    for update in updates:
        # Sampler and trainer compute in float32, so they differ by rounding alone, before and after a step.
        assert update["mismatch_kl"] == pytest.approx(0.0, abs=1e-4)
        assert update["first_ratio_error"] < 1e-3
    assert set(result["versions"]) == {engine, "torch", "transformers"}

    improved = AutoModelForCausalLM.from_pretrained(run_dir / result["model"])
    parent = AutoModelForCausalLM.from_pretrained(policy)
    changed = [not torch.equal(a, b) for a, b in zip(improved.parameters(), parent.parameters(), strict=True)]
    assert any(changed)
    assert AutoTokenizer.from_pretrained(run_dir / result["model"]).chat_template
    assert not list((run_dir / "attempt-1").glob("policy-*"))


def test_a_killed_trainer_leaves_no_vllm_behind_and_its_run_goes_on_where_it_was(tiny_model, reward_model, tmp_path):
    engine = EngineConfig(name="vllm", dtype="float32", kv_cache_bytes=1 << 26)
    job = improve_job(tiny_model, reward_model, engine=engine, updates=60, fixed_prompts=[])
    run_dir = write_run(tmp_path / "run", "improve", job, PROMPTS)
    command = [sys.executable, "-m", "policy.train", "--run-dir", str(run_dir), "--attempt", "1"]
    trainer = psutil.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((run_dir / "checkpoints").glob("step-*")):
        assert trainer.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (worker,) = [child for child in trainer.children() if "policy.engines.vllm_worker" in child.cmdline()]
    trainer.kill()
    trainer.wait()
    worker.wait(10)
    saved = [int(path.name.removeprefix("step-")) for path in (run_dir / "checkpoints").glob("step-*")]
    with open_run(run_dir, 2) as run:
        assert step_of(run.latest_checkpoint()) == max(saved) < 60
        with pytest.raises(Stopped):
            main(_stopping_after_one_update(run))
    updates = [line["done"] for line in progress_of(run_dir, attempt=2) if line["stage"] == "ppo"]
    assert updates == [max(saved) + 1]


def test_a_vllm_that_dies_ends_the_run_with_a_sentence_and_its_last_update_is_kept(tiny_model, reward_model, tmp_path):
    engine = EngineConfig(name="vllm", dtype="float32", kv_cache_bytes=1 << 26)
    job = improve_job(tiny_model, reward_model, engine=engine, updates=500, fixed_prompts=[])
    run_dir = write_run(tmp_path / "run", "improve", job, PROMPTS)
    command = [sys.executable, "-m", "policy.train", "--run-dir", str(run_dir), "--attempt", "1"]
    trainer = psutil.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((run_dir / "checkpoints").glob("step-*")):
        assert trainer.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (worker,) = [child for child in trainer.children() if "policy.engines.vllm_worker" in child.cmdline()]
    worker.kill()
    _out, errors = trainer.communicate(timeout=60)
    assert trainer.returncode == 1
    lines = [line for line in errors.splitlines() if line.strip()]
    assert any(line.startswith("error: vLLM ended (exit status -9)") for line in lines)
    kept = max(step_of(path) for path in (run_dir / "checkpoints").glob("step-*"))
    made = max(line["done"] for line in progress_of(run_dir) if line["stage"] == "ppo")
    assert made - 1 <= kept <= made
    assert lines[-1] == f"The policy after update {kept} is kept: the run can be resumed from there."
    assert "Traceback" not in errors


def _stopping_after_one_update(run):
    """A run directory in which somebody asks for a stop as soon as an update is made."""
    write = run.progress

    def progress(stage, *arguments, **metrics):
        write(stage, *arguments, **metrics)
        if stage == "ppo":
            (run.path / "stop").touch()

    run.progress = progress
    return run


def test_only_training_prompts_are_practised_on(tiny_model, reward_model, tmp_path, monkeypatch):
    import rewardmodel.model

    scored: list[str] = []
    score = rewardmodel.model.RewardModel.score

    def remember(self, conversations):
        scored.extend(messages[-1]["content"] for messages, _ in conversations)
        return score(self, conversations)

    monkeypatch.setattr(rewardmodel.model.RewardModel, "score", remember)
    run_dir = write_run(tmp_path / "run", "improve", improve_job(tiny_model, reward_model, updates=4), PROMPTS)
    with open_run(run_dir, 1) as run:
        main(run)
    assert set(scored) == {f"Say {i}" for i in range(5)}


@pytest.mark.parametrize(
    ("changes", "prompts", "sentence"),
    [
        ({"policy": "/nowhere"}, PROMPTS, "/nowhere is not a model folder: it holds no config.json."),
        ({"reward_model": "/nowhere"}, PROMPTS, "/nowhere is not a model folder: it holds no config.json."),
        ({}, PROMPTS[5:], "None of the prompts belongs to the split train"),
        ({"device": "cuda:7"}, PROMPTS, "There is no device 'cuda:7' on this machine."),
        ({"fixed_prompts": ["p99"]}, PROMPTS, "fixed_prompts names p99, which is not among the prompts"),
        (
            {},
            [*PROMPTS, ("long", "train", "x" * 300)],
            "Prompt long has 302 tokens, and with an answer of 8 it is longer",
        ),
    ],
)
def test_a_job_that_cannot_run_is_refused_before_anything_is_loaded(
    tiny_model, reward_model, tmp_path, changes, prompts, sentence
):
    paths = {"policy": tiny_model, "reward": reward_model}
    job = improve_job(changes.pop("policy", paths["policy"]), changes.pop("reward_model", paths["reward"]), **changes)
    run_dir = write_run(tmp_path / "run", "improve", job, prompts)
    with open_run(run_dir, 1) as run, pytest.raises(JobError, match=sentence):
        main(run)
    assert progress_of(run_dir) == []


def test_a_policy_without_a_chat_template_is_improved_with_the_plain_one(tmp_path):
    silent = make_model(tmp_path / "silent")
    (silent / "chat_template.jinja").unlink()
    chat = [{"role": "user", "content": "Hi"}]
    assert load_tokenizer(silent).decode(prompt_ids(load_tokenizer(silent), chat)) == "User: Hi\n\nAssistant:"
    job = improve_job(silent, save_reward_model(silent, tmp_path / "reward"))
    run_dir = write_run(tmp_path / "run", "improve", job, PROMPTS)
    with open_run(run_dir, 1) as run:
        main(run)
    assert AutoTokenizer.from_pretrained(run_dir / "output" / "model").chat_template == PLAIN_TEMPLATE


def test_a_reward_model_with_another_tokenizer_is_refused(tiny_model, reward_model, tmp_path):
    other = make_model(tmp_path / "other")
    template = other / "chat_template.jinja"
    template.write_text(template.read_text() + "!")
    run_dir = write_run(tmp_path / "run", "improve", improve_job(other, reward_model), PROMPTS)
    with open_run(run_dir, 1) as run, pytest.raises(JobError, match="reads text with another tokenizer"):
        main(run)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"sampling": Sampling(top_p=0.9)}, "PPO samples with top_p 1"),
        ({"samples_per_prompt": 1}, "prompt_baseline needs samples_per_prompt of at least 2"),
        ({"samples_per_prompt": 1, "advantage": "grpo"}, "advantage grpo needs samples_per_prompt of at least 2"),
        ({"lora_rank": 0}, "A learning_rate of 0.0004 is for adapters: training all weights"),
        (
            {"lora_rank": 0, "learning_rate": 1e-5, "critic": "separate"},
            "A value_learning_rate of 0.0002 is for adapters",
        ),
        ({"lora_rank": -1}, "lora_rank must not be negative"),
        ({"kl_limit": 0.0}, "kl_limit must be positive"),
        ({"minibatches": 100}, "minibatches must not exceed the answers of one update"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"max_seconds": -1.0}, "max_seconds must not be negative"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(values, sentence):
    with pytest.raises(JobError, match=sentence):
        improve_job("policy", "reward", **values)
