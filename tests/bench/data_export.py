"""How fast a snapshot of many comparisons is frozen and exported, and how much memory that takes.

The bars are for a million comparisons: 50,000 rows of JSON Lines a second, start of the program included, in 300 MB.
Label Studio 1.23.2 exports about 370 annotations a second on the same kind of machine.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.bench.bar import Bar
from tests.bench.process import measure

ROWS_A_SECOND = 50_000
MEGABYTES = 300.0


def bars(project: Any, count: int) -> list[Bar]:
    """Freeze a project's comparisons and export them by the commands that people use.

    :param count: how many comparisons the project has.
    """
    with tempfile.TemporaryDirectory() as folder:
        frozen = measure(["manage.py", "snapshot", "--project", project.slug, "--name", "measured"])
        out = Path(folder) / "lines"
        form = ["manage.py", "export", f"{project.slug}/measured", "--format", "trl-preference", "--out", str(out)]
        lines = measure([*form, "--file-type", "jsonl"])
        written = sum(_rows_in(path) for path in out.rglob("*.jsonl"))
        shutil.rmtree(out)
        parquet = measure([*form, "--file-type", "parquet"])
    if written != count:
        raise RuntimeError(f"{written} of {count} rows were exported.")
    what = f"{count:,} comparisons"
    print(
        f"snapshot: {frozen.seconds:.1f} s; JSON Lines: {lines.seconds:.1f} s; Parquet: {parquet.seconds:.1f} s",
        flush=True,
    )
    return [
        Bar(f"JSON Lines of {what}", count / lines.seconds, "rows/s", at_least=ROWS_A_SECOND),
        Bar(f"memory, JSON Lines of {what}", lines.peak_mb, "MB", MEGABYTES),
        Bar(f"memory, Parquet of {what}", parquet.peak_mb, "MB", MEGABYTES),
        Bar(f"memory, snapshot of {what}", frozen.peak_mb, "MB", MEGABYTES),
    ]


def _rows_in(path: Path) -> int:
    with open(path, "rb") as file:
        return sum(1 for _line in file)
