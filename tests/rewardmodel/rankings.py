"""Run directories with rankings, for tests."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rewardmodel.contract import OPTIONAL_RANKING_COLUMNS, RANKING_COLUMNS, RANKINGS_FILE
from rewardmodel.tables import write_rows


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
    given = {name: text for name, text in OPTIONAL_RANKING_COLUMNS.items() if any(name in row for row in rows)}
    write_rows(path, rows, RANKING_COLUMNS | given)
    return path


def write_run(run_path: Path, rows: Iterable[dict[str, Any]], **job: Any) -> Path:
    """A run directory ready for ``python -m rewardmodel.train``."""
    write_rankings(run_path, rows)
    (run_path / "spec.json").write_text(json.dumps({"kind": "train_reward", "job": job}))
    return run_path
