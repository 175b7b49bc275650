"""How fast a snapshot of many comparisons is frozen and exported, and how much memory that takes.

The bars are for a million comparisons: 50,000 rows of JSON Lines a second, start of the program included, in 300 MB.
Label Studio 1.23.2 exports about 370 annotations a second on the same kind of machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.bar import Bar

ROWS_A_SECOND = 50_000
MEGABYTES = 300.0


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    seconds: float
    megabytes: float
    """Most memory of its process."""


def bars(project: Any, count: int) -> list[Bar]:
    """Freeze a project's comparisons and export them by the commands that people use.

    :param count: how many comparisons the project has.
    """
    with tempfile.TemporaryDirectory() as folder:
        frozen = _command("snapshot", "--project", project.slug, "--name", "measured")
        out = Path(folder) / "lines"
        form = ("export", f"{project.slug}/measured", "--format", "trl-preference", "--out")
        lines = _command(*form, str(out), "--file-type", "jsonl")
        written = sum(path.read_bytes().count(b"\n") for path in out.rglob("*.jsonl"))
        shutil.rmtree(out)
        parquet = _command(*form, str(out), "--file-type", "parquet")
    if written != count:
        raise RuntimeError(f"{written} of {count} rows were exported.")
    what = f"{count:,} comparisons"
    print(
        f"snapshot: {frozen.seconds:.1f} s; JSON Lines: {lines.seconds:.1f} s; Parquet: {parquet.seconds:.1f} s",
        flush=True,
    )
    return [
        Bar(f"JSON Lines of {what}", count / lines.seconds, "rows/s", at_least=ROWS_A_SECOND),
        Bar(f"memory, JSON Lines of {what}", lines.megabytes, "MB", MEGABYTES),
        Bar(f"memory, Parquet of {what}", parquet.megabytes, "MB", MEGABYTES),
        Bar(f"memory, snapshot of {what}", frozen.megabytes, "MB", MEGABYTES),
    ]


def _command(*words: str) -> Cost:
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "manage.py", *words], stdout=subprocess.DEVNULL)
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"manage.py {' '.join(words)} ended with {process.returncode}.")
    return Cost(time.perf_counter() - began, usage.ru_maxrss / 1024)
