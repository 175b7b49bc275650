"""Writing a run's inputs: ``spec.json`` and ``data/`` of its run directory, whole and once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from annotate.models import Run, Split
from annotate.services.files import run_folder
from annotate.services.snapshots import rankings
from policy.contract import PROMPTS_FILE
from rewardmodel.contract import RANKINGS_FILE
from rewardmodel.rundir import write_json

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
PROMPTS = pa.schema([("prompt_id", pa.string()), ("split", pa.string()), ("messages", MESSAGES)])
RANKINGS = pa.schema(
    [
        ("row_id", pa.string()),
        ("prompt_id", pa.string()),
        ("split", pa.string()),
        ("messages", MESSAGES),
        ("responses", pa.list_(pa.string())),
        ("ranks", pa.list_(pa.int32())),
        ("weight", pa.float64()),
    ]
)


def write(run: Run) -> None:
    """Write what a run's process reads; ``spec.json`` comes last and marks the rest as whole."""
    folder = run_folder(run)
    if (folder / "spec.json").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    (folder / "output").mkdir()
    if run.kind == Run.Kind.TRAIN_REWARD:
        _write_rankings(run, folder / RANKINGS_FILE)
    else:
        _write_prompts(run, folder / PROMPTS_FILE)
    write_json(folder / "spec.json", {"kind": run.kind, "job": run.job})


def _write_rankings(run: Run, path: Path) -> None:
    assert run.snapshot is not None
    with pq.ParquetWriter(path, RANKINGS) as writer:
        rows = [vars(ranking) for ranking in rankings(run.snapshot)]
        writer.write_table(pa.Table.from_pylist(rows, schema=RANKINGS))


def _write_prompts(run: Run, path: Path) -> None:
    splits = {
        Run.Kind.GENERATE: run.selection.get("splits", Split.values),
        Run.Kind.EVALUATE: [Split.TEST],
        Run.Kind.IMPROVE: [Split.TRAIN],
    }[Run.Kind(run.kind)]
    prompts = run.project.prompts.filter(split__in=splits).order_by("pk")
    rows = [{"prompt_id": str(p.pk), "split": p.split, "messages": p.messages} for p in prompts]
    pq.write_table(pa.Table.from_pylist(rows, schema=PROMPTS), path)
