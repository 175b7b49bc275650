"""Best-of-n with rejection sampling: keep the best of n answers to each prompt, and imitate what was kept.

    python -m policy.bestofn --run-dir D [--attempt N]

Draws n answers to each train and dev prompt, has the reward model score them, keeps one a prompt and fine-tunes
on the kept ones as :mod:`policy.sft` does; dev prompts decide when to stop. Publishes ``output/model`` and
``output/kept.parquet``. An answer that was cut off before its end token loses a fixed penalty, as in PPO. The best
of n as a sampler for candidates is :mod:`policy.generate` with ``best_of``.

The draws are kept part by part in ``samples/`` with the time that they took; a run that was stopped goes on after the
last part. A limit on seconds ends the drawing, too: what was drawn by then is learned from.

Source: Touvron et al. 2023, "Llama 2", section 3.2.3 (rejection sampling fine-tuning).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from policy.checks import check_same_text, tokenized
from policy.commandline import run_from_command_line
from policy.data import Prompt, read_prompts
from policy.engines.base import Completion, Engine, generate, make_request, start_engine
from policy.examples import Example
from policy.language import LanguageModel
from policy.methods import DRAWING_SHARE, KEPT_COLUMNS, KEPT_FILE, BestOfNJob, best_of, best_of_n_kl_bound
from policy.outcome import begin, finish
from policy.reporting import Reporter
from policy.scoring import prompts_without_number, score_in_parts
from policy.sft import imitate
from rewardmodel.chat import Answer
from rewardmodel.contract import JobError, read_spec
from rewardmodel.model import RewardModel, load_reward_model
from rewardmodel.rundir import RunDir
from rewardmodel.tables import write_rows

SAMPLES_FOLDER = "samples"
PART_COLUMNS = {**KEPT_COLUMNS, "seconds": "float64: what drawing and scoring the part took, in each of its rows"}

Row = dict[str, Any]
Part = tuple[int, float]
"""A part of the prompts that was drawn: how many, and the seconds that drawing and scoring took."""


def main(run: RunDir) -> None:
    """Do the job of a run directory from its specification to ``result.json``."""
    started = time.monotonic()
    job = read_spec(run.path, {"bestofn": BestOfNJob})
    begin(job)
    prompts, ids = check(run, job)
    seconds, versions = sample(run, job, prompts, ids)
    parts = _parts(run)
    rows = [row for part in parts for row in part]
    write_rows(run.path / KEPT_FILE, rows, KEPT_COLUMNS)
    run.progress("load", message="Loading the policy to train it")
    model = LanguageModel(job)
    began = time.monotonic()
    train, dev = ([_example(row) for row in rows if row["split"] == split] for split in ("train", "dev"))
    weights, training = imitate(run, _for_training(job, [_size(part) for part in parts]), model, train, dev)
    metrics = {
        "n": job.n,
        "kl_bound": best_of_n_kl_bound(job.n),
        "mean_score": fmean(row["mean_score"] for row in rows),
        "best_score": fmean(row["score"] for row in rows),
        "training": training,
        "counts": {
            "train": len(train),
            "dev": len(dev),
            "samples": job.n * len(rows),
            "left_out": len(prompts) - len(rows),
        },
    }
    seconds |= {"load": began - started - sum(seconds.values()), "train": time.monotonic() - began}
    finish(run, "bestofn", model, weights, metrics, seconds, versions)


def check(run: RunDir, job: BestOfNJob) -> tuple[list[Prompt], list[list[int]]]:
    """Refuse a job that cannot be run, before anything heavy is loaded.

    :returns: the train and dev prompts in the order in which they are drawn for, and the token ids of each.
    :raises JobError: saying what is wrong.
    """
    check_same_text(job.policy, job.reward_model)
    prompts = [prompt for prompt in read_prompts(run.path) if prompt.split in ("train", "dev")]
    if not any(prompt.split == "train" for prompt in prompts):
        raise JobError("None of the prompts belongs to the split train, so there is nothing to practise on.")
    if job.max_seconds:
        prompts = [prompts[place] for place in np.random.default_rng(job.seed).permutation(len(prompts))]
        first = next(place for place, prompt in enumerate(prompts) if prompt.split == "train")
        prompts.insert(0, prompts.pop(first))
    return prompts, tokenized(job.policy, prompts, job.engine, job.sampling)


def sample(
    run: RunDir, job: BestOfNJob, prompts: list[Prompt], ids: list[list[int]]
) -> tuple[dict[str, float], dict[str, str]]:
    """Draw and score what earlier attempts have not and time allows, and keep the best, part after part.

    :returns: seconds by stage, and the engine's version.
    :raises JobError: when a score is not a number, naming its prompt.
    """
    folder = run.path / SAMPLES_FOLDER
    folder.mkdir(exist_ok=True)
    parts = [_size(part) for part in _parts(run)]
    seconds = {"generate": 0.0, "score": 0.0}
    if not next_part(job, len(prompts), parts):
        return seconds, {}
    run.progress("load", message="Loading the reward model")
    engine = start_engine(job.engine, Path(job.policy), run.attempt_path / f"{job.engine.name}.log")
    try:
        reward_model = load_reward_model(Path(job.reward_model), dtype=job.dtype, device=job.device)
        engine.wait_until_ready(lambda _trouble: run.stop_if_asked())
        reporter = Reporter(run)
        while count := next_part(job, len(prompts), parts):
            start = sum(size for size, _seconds in parts)
            part = slice(start, start + count)
            began = time.monotonic()
            answers = _draw(job, engine, prompts[part], ids[part], reporter, start * job.n, len(prompts) * job.n)
            drawn = time.monotonic()
            scores = _score(job, reward_model, prompts[part], answers, reporter)
            scored = time.monotonic()
            seconds["generate"] += drawn - began
            seconds["score"] += scored - drawn
            rows = list(_kept(job, prompts[part], ids[part], answers, scores, scored - began))
            write_rows(folder / f"part-{len(parts):05d}.parquet", rows, PART_COLUMNS)
            parts.append((count, scored - began))
            run.progress(
                "sample",
                start + count,
                len(prompts),
                mean_score=fmean(row["mean_score"] for row in rows),
                best_score=fmean(row["score"] for row in rows),
                length=fmean(answer.token_count for answer in answers),
                end_rate=fmean(answer.finish_reason == "stop" for answer in answers),
            )
    finally:
        engine.close()
    done = sum(size for size, _seconds in parts)
    if done < len(prompts):
        said = f"The time for drawing is over after {done} of {len(prompts)} prompts: what was kept is learned from."
        run.progress("sample", done, len(prompts), said)
    return seconds, {engine.name: engine.version}


def next_part(job: BestOfNJob, prompts: int, parts: Sequence[Part]) -> int:
    """How many prompts are drawn for next.

    :param prompts: how many there are in all.
    :param parts: what was drawn so far, by all attempts.
    :returns: 0 where drawing ends.
    """
    size = min(job.prompts_per_part, prompts - sum(count for count, _seconds in parts))
    if not job.max_seconds:
        return size
    if not parts:
        return 1
    count, seconds = parts[-1]
    left = DRAWING_SHARE * job.max_seconds - sum(seconds for _count, seconds in parts)
    return min(size, 2 * count, int(max(0.0, left) * count / max(seconds, 1e-3)))


def _for_training(job: BestOfNJob, parts: Sequence[Part]) -> BestOfNJob:
    """The job with the limit on seconds that drawing has left to the steps."""
    left = job.max_seconds - sum(seconds for _count, seconds in parts)
    return replace(job, max_seconds=max(left, (1 - DRAWING_SHARE) * job.max_seconds))


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
    return generate(engine, requests, lambda done: reporter.step("generate", before + done, total), reporter.wait)


def _score(
    job: BestOfNJob,
    reward_model: RewardModel,
    prompts: Sequence[Prompt],
    answers: Sequence[Completion],
    reporter: Reporter,
) -> list[float]:
    """Scores of the answers, less the penalty where one was cut off."""
    asked = [prompts[place // job.n] for place in range(len(answers))]
    conversations = [(prompt.messages, answer.text) for prompt, answer in zip(asked, answers, strict=True)]
    scores = score_in_parts(
        reward_model.score, conversations, lambda done: reporter.step("score", done, len(conversations))
    )
    if bad := prompts_without_number(scores, [prompt.prompt_id for prompt in asked]):
        raise JobError(
            f"The reward of an answer is not a number, on the prompts {', '.join(bad)}, so no best one can be told: "
            "look at the reward model."
        )
    penalties = [job.no_end_penalty * (answer.finish_reason != "stop") for answer in answers]
    return [score - penalty for score, penalty in zip(scores, penalties, strict=True)]


def _kept(
    job: BestOfNJob,
    prompts: Sequence[Prompt],
    ids: Sequence[list[int]],
    answers: Sequence[Completion],
    scores: Sequence[float],
    seconds: float,
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
            "seconds": seconds,
        }


def _parts(run: RunDir) -> list[list[Row]]:
    """The rows of each part that was drawn, in order."""
    return [pq.read_table(path).to_pylist() for path in sorted((run.path / SAMPLES_FOLDER).glob("part-*.parquet"))]


def _size(part: list[Row]) -> Part:
    return len(part), part[0].get("seconds", 0.0)  # parts of older runs lack it


def _example(row: Row) -> Example:
    answer = Answer(tuple(row["prompt_ids"]), tuple(row["token_ids"]))
    return Example(row["row_id"], answer, row["weight"], row["source"])


if __name__ == "__main__":
    sys.exit(run_from_command_line("python -m policy.bestofn", main))
