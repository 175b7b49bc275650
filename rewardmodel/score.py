"""Score answers with a reward model: ``python -m rewardmodel.score --run-dir D [--attempt N]``.

Reads ``spec.json`` and ``data/answers.parquet`` of the run directory and publishes the scores file by
file under ``output/``, each announced in the progress with its hash, then ``result.json``. Stopped or
killed, it goes on after the last file that it published.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from rewardmodel.contract import ANSWER_COLUMNS, ANSWERS_FILE, SCORE_COLUMNS, JobError, ScoreJob, read_spec
from rewardmodel.model import RewardModel, load_reward_model
from rewardmodel.publish import file_sha256
from rewardmodel.rundir import RunDir, run_job
from rewardmodel.tables import read_rows, write_rows

ROWS_PER_FILE = 32


def read_answers(run_path: Path) -> list[dict[str, Any]]:
    """Read and check ``data/answers.parquet`` of a run directory.

    :raises JobError: when it is missing, lacks a column or a value, or is empty.
    """
    path = run_path / ANSWERS_FILE
    rows = read_rows(path, ANSWER_COLUMNS, without="there is nothing to score")
    if not rows:
        raise JobError(f"{path} holds no answers.")
    for number, row in enumerate(rows):
        if any(row[name] is None for name in ANSWER_COLUMNS) or any(text is None for text in row["responses"]):
            raise JobError(f"Row {number} of {ANSWERS_FILE} lacks a value.")
    return rows


def score(run: RunDir) -> None:
    """Do the job of a run directory from its specification to ``result.json``."""
    started = time.monotonic()
    job = read_spec(run.path, {"score": ScoreJob})
    if job.threads:
        torch.set_num_threads(job.threads)
    run.progress("load", message="Loading the reward model.")
    rows = read_answers(run.path)
    model = load_reward_model(Path(job.reward_model), dtype=job.dtype, device=job.device)
    loaded = time.monotonic()
    shards: dict[str, str] = {}
    for start in range(0, len(rows), ROWS_PER_FILE):
        run.stop_if_asked()
        part = rows[start : start + ROWS_PER_FILE]
        name = f"output/scores-{start // ROWS_PER_FILE:05d}.parquet"
        if not (run.path / name).exists():
            write_scores(run.path / name, part, model, job.tokens_per_batch)
        shards[name] = file_sha256(run.path / name)
        run.progress("score", start + len(part), len(rows), shard=name, sha256=shards[name])
    run.finish(
        {
            "kind": "score",
            "shards": shards,
            "metrics": {"completions": sum(len(row["responses"]) for row in rows)},
            "seconds": {"load": loaded - started, "score": time.monotonic() - loaded},
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "transformers")},
            },
        }
    )
    run.progress("done", message="The answers are scored.")


def write_scores(path: Path, rows: Sequence[dict[str, Any]], model: RewardModel, tokens_per_batch: int) -> None:
    """Score the answers of some rows and publish a file with the columns of ``SCORE_COLUMNS``."""
    places = [(row, index) for row in rows for index in range(len(row["responses"]))]
    conversations = [(row["messages"], row["responses"][index]) for row, index in places]
    mean, variance = model.score_with_variance(conversations, tokens_per_batch)
    table = [
        {"row_id": row["row_id"], "index": index, "score": score, "variance": spread if model.members else None}
        for (row, index), score, spread in zip(places, mean.tolist(), variance.tolist(), strict=True)
    ]
    path.parent.mkdir(exist_ok=True)
    write_rows(path, table, SCORE_COLUMNS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m rewardmodel.score", description="Score answers.")
    parser.add_argument("--run-dir", type=Path, required=True, help="holds spec.json and data/answers.parquet")
    parser.add_argument("--attempt", type=int, help="number of this attempt; the next free one by default")
    options = parser.parse_args(arguments)
    return run_job(score, options.run_dir, options.attempt)


if __name__ == "__main__":
    sys.exit(main())
