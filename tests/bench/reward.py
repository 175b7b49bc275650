"""The reward model against TRL's trainer on the same machine and in the same run, and what it learns.

``HONE_BENCH_PARTS`` takes some of the parts: speed, equal, real, simulated. The comparisons are in ``../shared/data``
or the folder of ``HONE_BENCH_DATA``.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from rewardmodel.calibration import expected_calibration_error, fit_temperature
from rewardmodel.contract import PREDICTIONS_FILE
from tests.bench.bar import Bar
from tests.bench.process import peers_environment
from tests.bench.reward_data import is_clear, real_rows, simulated_rows
from tests.bench.reward_trainers import TRAINERS
from tests.rewardmodel.rankings import write_run
from tools.model import MODEL, unpack_model

PEERS = ("trl", "trl-tuned")
RUNS = 3
SEEDS = 3
TIMES_TRL, TIMES_TUNED = 4.0, 2.0
SIMULATED = {"train": 334, "dev": 60, "test": 340}
"""Rankings of four answers, six comparisons each: 2,004 to train on, 2,040 to test on."""
CLEAR_ACCURACY = 90.0
CALIBRATION_ERROR = 0.05
DRAWS = 200


def run() -> list[Bar]:
    """The figures of the parts asked for."""
    parts: dict[str, Callable[[], list[Bar]]] = {
        "speed": speed,
        "equal": equal,
        "real": real,
        "simulated": simulated,
    }
    unpack_model()
    chosen = os.environ.get("HONE_BENCH_PARTS", ",".join(parts)).split(",")
    return [bar for name in chosen for bar in parts[name]()]


def measured(*arguments: str) -> dict[str, float]:
    """Figures of one trainer in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.reward_trainers", *arguments]
    environment = peers_environment() if arguments[0] in PEERS else None
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed: {done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def speed() -> list[Bar]:
    """Pairs a second and memory of full fine-tuning beside TRL's, and of low-rank adapters.

    The machine's speed drifts within minutes: each of TRL's figures stands beside ours of just before and just after.
    """
    peak: dict[str, float] = dict.fromkeys(TRAINERS, 0.0)

    def pairs_per_second(name: str, number: int) -> float:
        figures = measured(name, str(number))
        print(f"run {number}, {name}: {json.dumps(figures)}", flush=True)
        peak[name] = max(peak[name], figures["peak_mb"])
        return figures["pairs_per_second"]

    ratios: dict[str, list[float]] = {name: [] for name in PEERS}
    for number in range(RUNS):
        pairs_per_second("lora", number)
        before = pairs_per_second("ours", number)
        for name in PEERS:
            theirs, after = pairs_per_second(name, number), pairs_per_second("ours", number)
            ratios[name].append(statistics.harmonic_mean([before, after]) / theirs)
            before = after
    for name, found in ratios.items():
        print(f"{name}: ours is {', '.join(f'{ratio:.2f}' for ratio in found)} times as fast", flush=True)
    print(f"peak memory in MB: {peak}", flush=True)
    return [
        Bar("pairs a second, to TRL's defaults", statistics.median(ratios["trl"]), "times", at_least=TIMES_TRL),
        Bar("pairs a second, to TRL tuned", statistics.median(ratios["trl-tuned"]), "times", at_least=TIMES_TUNED),
        Bar("peak memory, to TRL's defaults", peak["ours"] / peak["trl"], "times", at_most=1.0),
        Bar("peak memory, to TRL tuned", peak["ours"] / peak["trl-tuned"], "times", at_most=1.0),
    ]


def equal() -> list[Bar]:
    """Whether the losses are TRL's."""
    difference = measured("equal", "0")["difference"]
    return [Bar("losses of 20 float32 steps, largest difference to TRL's", 1e4 * difference, "· 10⁻⁴", at_most=1.0)]


def train(rows: list[dict[str, Any]], **job: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train by a run directory as the worker does.

    :returns: the metrics of its result, and its predictions.
    """
    with tempfile.TemporaryDirectory(prefix="hone-bench-") as folder:
        path = write_run(Path(folder), rows, base_model=str(MODEL), checkpoint_seconds=3600.0, **job)
        subprocess.run([sys.executable, "-m", "rewardmodel.train", "--run-dir", folder], check=True)
        metrics: dict[str, Any] = json.loads((path / "result.json").read_text())["metrics"]
        return metrics, pq.read_table(path / PREDICTIONS_FILE).to_pylist()


def real() -> list[Bar]:
    """Accuracy on real comparisons, reported and not gated: 1,000 of red-teaming are few, and raters agree little."""
    rows = real_rows(1000, 200)
    for seed in range(int(os.environ.get("HONE_BENCH_SEEDS", SEEDS))):
        metrics, _predictions = train(rows, loss="logistic", seed=seed, epochs=1, max_tokens=512, rankings_per_step=8)
        print(f"real data, seed {seed}: {json.dumps(metrics['test'])}", flush=True)
    return []


def simulated() -> list[Bar]:
    """What is learned of a rater whose preference is known, and how well the scores are calibrated."""
    rows = simulated_rows(SIMULATED, seed=0)
    texts = {(row["row_id"], index): text for row in rows for index, text in enumerate(row["responses"])}
    _metrics, predictions = train(rows, loss="logistic", seed=0, rankings_per_step=4)
    margins: dict[str, list[float]] = {"dev": [], "test": []}
    clear = []
    for (split, row_id), group in itertools.groupby(predictions, key=lambda row: (row["split"], row["row_id"])):
        for one, other in itertools.combinations(list(group), 2):
            better, worse = sorted((one, other), key=lambda row: row["rank"])
            margins[split].append(better["score"] - worse["score"])
            if split == "test" and is_clear(texts[row_id, one["index"]], texts[row_id, other["index"]]):
                clear.append(margins[split][-1] > 0)
    dev, test = (np.array(margins[split]) for split in ("dev", "test"))
    draw = np.random.default_rng(0)
    fits = [fit_temperature(draw.choice(dev, len(dev))) for _draw in range(DRAWS)]
    noise = np.quantile([expected_calibration_error(test, fit) for fit in fits], [0.025, 0.975])
    error = expected_calibration_error(test, fit_temperature(dev))
    before = expected_calibration_error(test)
    print(f"simulated rater: {len(test)} test pairs, {len(clear)} clear; accuracy on all {(test > 0).mean():.3f}")
    print(f"calibration error {before:.3f}, after temperature {error:.3f} ({noise[0]:.3f} to {noise[1]:.3f} over fits)")
    return [
        Bar(
            "accuracy on clear test pairs, simulated rater", 100 * statistics.mean(clear), "%", at_least=CLEAR_ACCURACY
        ),
        Bar("calibration error after temperature", 100 * error, "%", at_most=100 * CALIBRATION_ERROR),
    ]
