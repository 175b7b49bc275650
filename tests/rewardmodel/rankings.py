"""Run directories with rankings, for tests."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rewardmodel.contract import RANKINGS_FILE

SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("prompt_id", pa.string()),
        ("split", pa.string()),
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("responses", pa.list_(pa.string())),
        ("ranks", pa.list_(pa.int32())),
        ("weight", pa.float64()),
    ]
)


OPTIONAL = {"margin": pa.float64(), "ratings": pa.list_(pa.float64()), "cut_off": pa.list_(pa.bool_())}


def ranking_row(**changes: Any) -> dict[str, Any]:
    """A valid row, in which the first of two answers is preferred."""
    return {
        "row_id": "r1",
        "prompt_id": "p1",
        "split": "train",
        "messages": [{"role": "user", "content": "Say something."}],
        "responses": ["yes", "no"],
        "ranks": [1, 2],
        "weight": 1.0,
        **changes,
    }


def write_rankings(run_path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path = run_path / RANKINGS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = list(rows)
    given = [pa.field(name, kind) for name, kind in OPTIONAL.items() if any(name in row for row in rows)]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema([*SCHEMA, *given])), path)
    return path


def write_run(run_path: Path, rows: Iterable[dict[str, Any]], **job: Any) -> Path:
    """A run directory ready for ``python -m rewardmodel.train``."""
    write_rankings(run_path, rows)
    (run_path / "spec.json").write_text(json.dumps({"kind": "train_reward", "job": job}))
    return run_path
