"""One PPO trainer on the same prompts for a few updates, in a process of its own.

python -m tests.bench.policy_trainers NAME UPDATES: prints, as JSON, samples a second in the fastest update after the
first and in the slowest, the mean tokens of an answer, the peak of memory in MB and, for ours, what an update's raw
parts take by themselves. TRL's PPO is not in the TRL that is installed: for its trainers the folder of
:data:`PEER` must be first on the path, which :mod:`tests.bench.policy` sees to.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from policy.contract import EngineConfig, ImproveJob, Sampling
from policy.data import Prompt
from rewardmodel.chat import load_tokenizer, prompt_ids
from rewardmodel.hardware import resolve_dtype
from rewardmodel.memory import keep_freed_memory
from rewardmodel.model import Settings, load_reward_model, new_reward_model
from rewardmodel.rundir import open_run
from tools.model import MODEL

ROOT = Path(__file__).resolve().parents[2]
PEER = ROOT / "var" / "peers" / "trl-1.12.0"
PROMPTS, SAMPLES, BATCH, EPOCHS, TOKENS = 8, 4, 16, 4, 48
TEMPERATURE = 0.7
FULL_LEARNING_RATE = 1e-5
OURS, PEERS = ("lora", "full"), ("trl-lora", "trl-full")
CPU = torch.device("cpu")


def job_of(name: str, reward_model: str, updates: int) -> ImproveJob:
    """What ours is asked to do; all else as it is by default."""
    full: dict[str, Any] = {"lora_rank": 0, "learning_rate": FULL_LEARNING_RATE} if name == "full" else {}
    return ImproveJob(
        policy=str(MODEL),
        reward_model=reward_model,
        updates=updates,
        prompts_per_update=PROMPTS,
        samples_per_prompt=SAMPLES,
        sampling=Sampling(temperature=TEMPERATURE, max_tokens=TOKENS),
        epochs=EPOCHS,
        minibatches=PROMPTS * SAMPLES // BATCH,
        engine=EngineConfig(kv_cache_bytes=1 << 28),
        **full,
    )


def prompts() -> list[Prompt]:
    """The sample project's first training prompts."""
    lines = (ROOT / "annotate" / "sample" / "prompts.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "train"]
    return [Prompt(f"p{number}", "train", row["messages"]) for number, row in enumerate(rows[:PROMPTS])]


def write_reward_model(folder: str) -> None:
    """A reward model that has learned nothing, as fast as any other."""
    settings = Settings(base_model=str(MODEL), loss="logistic", max_tokens=512)
    dtype = resolve_dtype("auto", CPU)
    new_reward_model(load_tokenizer(MODEL), settings, dtype=dtype, device=CPU, seed=0).save(Path(folder))


def ours(name: str, updates: int, folder: Path, reward_folder: str) -> dict[str, Any]:
    """This project's PPO."""
    from policy.actor import actor_of
    from policy.engines.base import start_engine
    from policy.ppo import improve
    from policy.rollout import TokenPrompt

    keep_freed_memory()
    job = job_of(name, reward_folder, updates)
    engine = start_engine(job.engine, MODEL, folder / "vllm.log")
    try:
        reward_model = load_reward_model(Path(reward_folder), dtype=job.dtype, device=CPU)
        actor = actor_of(job, resolve_dtype(job.dtype, CPU), CPU)
        tokenizer = load_tokenizer(MODEL)
        questions = [TokenPrompt(prompt, prompt_ids(tokenizer, prompt.messages)) for prompt in prompts()]
        engine.wait_until_ready()
        with open_run(folder, 1) as run:
            history = improve(run, job, actor, engine, reward_model.score, questions).history
            parts = raw_parts(job, actor, engine, reward_model, questions, run.path)
    finally:
        engine.close()
    for update in history:
        print({name: value for name, value in update.items() if name != "examples"}, file=sys.stderr)
    walls = [update["samples"] / update["samples_per_second"] for update in history[1:]]
    return {
        "seconds": walls,
        "length": fmean(update["length"] for update in history[1:]),
        "parts": parts,
        "stages": {key: value for key, value in history[-1].items() if key.startswith("seconds_")},
    }


def raw_parts(
    job: ImproveJob, actor: Any, engine: Any, reward_model: Any, questions: Any, folder: Path
) -> dict[str, float]:
    """Seconds that the work of one more update takes where nothing but it is done."""
    from policy.engines.base import generate
    from policy.rollout import lay_out, rollout_requests
    from rewardmodel.batching import Row

    seconds: dict[str, float] = {}

    def timed(part: str, work: Callable[[], Any]) -> Any:
        """The faster of two times counts."""
        for _time in range(2):
            began = time.monotonic()
            result = work()
            seconds[part] = min(time.monotonic() - began, seconds.get(part, math.inf))
        return result

    def swap() -> None:
        actor.policy.save(folder / "raw")
        engine.load_weights(folder / "raw", job.updates)

    def pass_over(pairs: list[tuple[list[Row], Any]]) -> None:
        for chosen, entering in pairs:
            logprobs, values = actor(chosen, entering, TOKENS, TEMPERATURE)
            (logprobs.sum() + values.sum()).backward()

    timed("weight swap", swap)
    requests = rollout_requests(job, job.updates, questions)
    completions = timed("generation", lambda: generate(engine, requests))
    owners = [question for question in questions for _sample in range(SAMPLES)]
    rollouts = lay_out(job, actor, job.updates, owners, completions)
    timed("scoring", lambda: reward_model.score(rollouts.conversations))
    groups = [[rollouts.rows[i] for i in group] for group in actor.policy.split(rollouts.rows, job.tokens_per_batch)]
    below = timed("frozen blocks", lambda: [actor.below(group) for group in groups])
    pairs = list(zip(groups, below, strict=True))
    timed("policy, values and reference", lambda: [actor.observe(*pair, TOKENS, TEMPERATURE) for pair in pairs])
    timed("training", lambda: pass_over(pairs))
    return {**seconds, "training": EPOCHS * seconds["training"]}


def trl(name: str, updates: int, folder: Path, reward_folder: str) -> dict[str, Any]:
    """TRL's PPOTrainer: no gradient checkpointing, a step for each minibatch, adapters on the blocks that ours have."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            self.times.append(time.monotonic())

        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            self.times.append(time.monotonic())

    tokenizer = AutoTokenizer.from_pretrained(MODEL, padding_side="left", pad_token="<|endoftext|>")
    rows = [{"input_ids": prompt_ids(tokenizer, prompt.messages)} for prompt in prompts() for _sample in range(SAMPLES)]
    dtype = resolve_dtype("auto", CPU)
    policy = AutoModelForCausalLM.from_pretrained(MODEL, dtype=dtype)
    judges = [AutoModelForSequenceClassification.from_pretrained(reward_folder, dtype=dtype) for _ in range(2)]
    config = PPOConfig(
        output_dir=str(folder), per_device_train_batch_size=len(rows), num_mini_batches=len(rows) // BATCH,
        num_ppo_epochs=EPOCHS, total_episodes=updates * len(rows), response_length=TOKENS, temperature=TEMPERATURE,
        stop_token="eos", missing_eos_penalty=1.0, num_sample_generations=0, gradient_checkpointing=False,
        use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True, logging_steps=1,
    )  # fmt: skip
    blocks = policy.config.num_hidden_layers
    adapters = LoraConfig(
        r=ImproveJob.lora_rank,
        lora_alpha=ImproveJob.lora_alpha,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        layers_to_transform=list(range(round(blocks * (1 - ImproveJob.lora_layers)), blocks)),
        task_type="CAUSAL_LM",
    )
    clock = Clock()
    trainer = PPOTrainer(
        args=config, processing_class=tokenizer, model=policy, ref_model=None, reward_model=judges[0],
        value_model=judges[1], train_dataset=Dataset.from_list(rows), eval_dataset=Dataset.from_list(rows[:1]),
        callbacks=[clock], peft_config=adapters if name == "trl-lora" else None,
    )  # fmt: skip
    trainer.train()
    walls = [end - begin for begin, end in zip(clock.times, clock.times[1:], strict=False)]
    return {"seconds": walls[1:] or walls, "length": float(TOKENS)}


def main() -> None:
    """Measure what the arguments name."""
    name, updates = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="hone-bench-") as folder, tempfile.TemporaryDirectory() as reward_folder:
        write_reward_model(reward_folder)
        figures = (ours if name in OURS else trl)(name, updates, Path(folder), reward_folder)
    figures["samples_per_second"] = PROMPTS * SAMPLES / min(figures["seconds"])
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
