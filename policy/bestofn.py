"""Best-of-n with rejection sampling: keep the best of n answers to each prompt, and imitate what was kept.

    python -m policy.bestofn --run-dir D [--attempt N]

Draws n answers to each train and dev prompt, has the reward model score them, keeps one a prompt and fine-tunes
on the kept ones as :mod:`policy.sft` does; dev prompts decide when to stop. Publishes ``output/model`` and
``output/kept.parquet``. An answer that was cut off before its end token loses a fixed penalty, as in PPO. The best
of n as a sampler for candidates is :mod:`policy.generate` with ``best_of``.

The draws are kept part by part in ``samples/``; a run that was stopped goes on after the last part.

Source: Touvron et al. 2023, "Llama 2", section 3.2.3 (rejection sampling fine-tuning).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow.parquet as pq

from policy.checks import check_same_text, tokenized
from policy.commandline import run_from_command_line
from policy.data import Prompt, read_prompts
from policy.engines.base import Completion, Engine, generate, make_request, start_engine
from policy.examples import Example
from policy.language import LanguageModel
from policy.methods import KEPT_COLUMNS, KEPT_FILE, BestOfNJob, best_of, best_of_n_kl_bound
from policy.outcome import begin, finish
from policy.reporting import Reporter
from policy.sft import imitate
from rewardmodel.chat import Answer
from rewardmodel.contract import JobError, read_spec
from rewardmodel.model import RewardModel, load_reward_model
from rewardmodel.rundir import RunDir
from rewardmodel.tables import write_rows

SAMPLES_FOLDER = "samples"
SCORES_AT_ONCE = 32

Row = dict[str, Any]


def main(run: RunDir) -> None:
    """Do the job of a run directory from its specification to ``result.json``."""
    started = time.monotonic()
    job = read_spec(run.path, {"bestofn": BestOfNJob})
    begin(job)
    prompts, ids = check(run, job)
    seconds, versions = sample(run, job, prompts, ids)
    rows = [row for part in _parts(run) for row in pq.read_table(part).to_pylist()]
    write_rows(run.path / KEPT_FILE, rows, KEPT_COLUMNS)
    run.progress("load", message="Loading the policy to train it")
    model = LanguageModel(job)
    began = time.monotonic()
    train, dev = ([_example(row) for row in rows if row["split"] == split] for split in ("train", "dev"))
    weights, training = imitate(run, job, model, train, dev)
    metrics = {
        "n": job.n,
        "kl_bound": best_of_n_kl_bound(job.n),
        "mean_score": fmean(row["mean_score"] for row in rows),
        "best_score": fmean(row["score"] for row in rows),
        "training": training,
        "counts": {"train": len(train), "dev": len(dev), "samples": job.n * len(rows)},
    }
    seconds |= {"load": began - started - sum(seconds.values()), "train": time.monotonic() - began}
    finish(run, "bestofn", model, weights, metrics, seconds, versions)


def check(run: RunDir, job: BestOfNJob) -> tuple[list[Prompt], list[list[int]]]:
    """Refuse a job that cannot be run, before anything heavy is loaded.

    :returns: the train and dev prompts, and the token ids of each.
    :raises JobError: saying what is wrong.
    """
    check_same_text(job.policy, job.reward_model)
    prompts = [prompt for prompt in read_prompts(run.path) if prompt.split in ("train", "dev")]
    if not any(prompt.split == "train" for prompt in prompts):
        raise JobError("None of the prompts belongs to the split train, so there is nothing to practise on.")
    return prompts, tokenized(job.policy, prompts, job.engine, job.sampling)


def sample(
    run: RunDir, job: BestOfNJob, prompts: list[Prompt], ids: list[list[int]]
) -> tuple[dict[str, float], dict[str, str]]:
    """Draw and score what earlier attempts have not, and keep the best, a part of the prompts after the other.

    :returns: seconds by stage, and the engine's version.
    :raises JobError: when a score is not a number.
    """
    folder = run.path / SAMPLES_FOLDER
    folder.mkdir(exist_ok=True)
    starts = range(0, len(prompts), job.prompts_per_part)[len(_parts(run)) :]
    if not starts:
        return {"generate": 0.0, "score": 0.0}, {}
    seconds = {"generate": 0.0, "score": 0.0}
    run.progress("load", message="Loading the reward model")
    engine = start_engine(job.engine, Path(job.policy), run.attempt_path / f"{job.engine.name}.log")
    try:
        reward_model = load_reward_model(Path(job.reward_model), dtype=job.dtype, device=job.device)
        engine.wait_until_ready(lambda _trouble: run.stop_if_asked())
        reporter = Reporter(run)
        for start in starts:
            part = slice(start, start + job.prompts_per_part)
            began = time.monotonic()
            answers = _draw(job, engine, prompts[part], ids[part], reporter, start * job.n, len(prompts) * job.n)
            drawn = time.monotonic()
            scores = _score(job, reward_model, prompts[part], answers, reporter)
            seconds["generate"] += drawn - began
            seconds["score"] += time.monotonic() - drawn
            rows = list(_kept(job, prompts[part], ids[part], answers, scores))
            write_rows(folder / f"part-{start // job.prompts_per_part:05d}.parquet", rows, KEPT_COLUMNS)
            run.progress(
                "sample",
                min(start + job.prompts_per_part, len(prompts)),
                len(prompts),
                mean_score=fmean(row["mean_score"] for row in rows),
                best_score=fmean(row["score"] for row in rows),
                length=fmean(answer.token_count for answer in answers),
                end_rate=fmean(answer.finish_reason == "stop" for answer in answers),
            )
    finally:
        engine.close()
    return seconds, {engine.name: engine.version}


def _draw(
    job: BestOfNJob,
    engine: Engine,
    prompts: Sequence[Prompt],
    ids: Sequence[list[int]],
    reporter: Reporter,
    before: int,
    total: int,
) -> list[Completion]:
    requests = [
        make_request(job.sampling, prompt.messages, own, "best of n", job.seed, prompt.prompt_id, draw)
        for prompt, own in zip(prompts, ids, strict=True)
        for draw in range(job.n)
    ]
    return generate(engine, requests, lambda done: reporter.step("generate", before + done, total))


def _score(
    job: BestOfNJob,
    reward_model: RewardModel,
    prompts: Sequence[Prompt],
    answers: Sequence[Completion],
    reporter: Reporter,
) -> list[float]:
    """Scores of the answers, less the penalty where one was cut off."""
    conversations = [(prompts[place // job.n].messages, answer.text) for place, answer in enumerate(answers)]
    scores: list[float] = []
    for start in range(0, len(conversations), SCORES_AT_ONCE):
        scores += reward_model.score(conversations[start : start + SCORES_AT_ONCE]).tolist()
        reporter.step("score", len(scores), len(conversations))
    if any(score != score for score in scores):
        raise JobError("The reward of an answer is not a number, so no best one can be told: look at the reward model.")
    penalties = [job.no_end_penalty * (answer.finish_reason != "stop") for answer in answers]
    return [score - penalty for score, penalty in zip(scores, penalties, strict=True)]


def _kept(
    job: BestOfNJob,
    prompts: Sequence[Prompt],
    ids: Sequence[list[int]],
    answers: Sequence[Completion],
    scores: Sequence[float],
) -> Iterator[Row]:
    for number, place in enumerate(best_of(scores, job.n)):
        prompt, answer = prompts[number], answers[place]
        yield {
            "row_id": f"prompt-{prompt.prompt_id}-draw-{place % job.n}",
            "prompt_id": prompt.prompt_id,
            "split": prompt.split,
            "messages": prompt.messages,
            "response": answer.text,
            "weight": 1.0,
            "source": "completion",
            "score": scores[place],
            "mean_score": fmean(scores[number * job.n : (number + 1) * job.n]),
            "prompt_ids": ids[number],
            "token_ids": answer.token_ids,
        }


def _parts(run: RunDir) -> list[Path]:
    return sorted((run.path / SAMPLES_FOLDER).glob("part-*.parquet"))


def _example(row: Row) -> Example:
    answer = Answer(tuple(row["prompt_ids"]), tuple(row["token_ids"]))
    return Example(row["row_id"], answer, row["weight"], row["source"])


if __name__ == "__main__":
    sys.exit(run_from_command_line("python -m policy.bestofn", main))
