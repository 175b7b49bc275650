"""How fast data go in and out: comparisons in JSON lines, by the command that a lead would use, into an empty database.

The bars are those of moving a published preference set in minutes on one machine. Cited from the same kind of machine:
Label Studio 1.23.2 exports about 370 annotations a second. ``HONE_BENCH_ROWS`` makes a smaller run.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

from tests import site
from tests.bench import data_export
from tests.bench.bar import Bar
from tests.bench.process import measure

ROWS = int(os.environ.get("HONE_BENCH_ROWS", 1_000_000))
SEED = 7
ROWS_A_SECOND = 5_000.0
PEAK_MB = 300.0
WORDS = (  # noqa: SIM905
    "the of a to in is that it for was on are with as be this have from or one had by word but not what all were we "
    "when your can said there use an each which she do how their if will up other about out many then them these so"
).split()


def run() -> list[Bar]:
    """The figures of the import, and of the export of what it brought."""
    with site.fresh_site() as folder:
        from annotate.models import Comparison, Project
        from tests.annotate.factory import world

        world(prompts=0)
        path = folder / "comparisons.jsonl"
        write_comparisons(path, ROWS)
        print(f"{ROWS:,} comparisons, {path.stat().st_size / 2**20:,.0f} MiB", flush=True)
        command = ["manage.py", "import_comparisons", str(path), "--project", "garden", "--format", "auto"]
        measured = measure(command)
        if Comparison.objects.count() != ROWS:
            raise RuntimeError(f"{Comparison.objects.count()} of {ROWS} comparisons arrived.")
        print(f"import: {measured.seconds:.1f} s, {measured.peak_mb:.0f} MB", flush=True)
        exported = data_export.bars(Project.objects.get(), ROWS)
    return [
        Bar(f"import of {ROWS:,} comparisons", ROWS / measured.seconds, "rows a second", at_least=ROWS_A_SECOND),
        Bar("memory of the importing process, peak", measured.peak_mb, "MB", PEAK_MB),
        *exported,
    ]


def write_comparisons(path: Path, rows: int) -> None:
    """Write conversational preference rows of about a kilobyte each; every prompt and answer has a text of its own."""
    draw = random.Random(SEED)
    stock = [" ".join(draw.choices(WORDS, k=60)) for _text in range(1000)]
    with open(path, "w", encoding="utf-8") as file:
        for number in range(rows):
            asked, better, worse = draw.choices(stock, k=3)
            row = {
                "prompt": [{"role": "user", "content": f"Question {number}: {asked}"}],
                "chosen": [{"role": "assistant", "content": f"{better} {number}."}],
                "rejected": [{"role": "assistant", "content": f"{worse} {number}!"}],
            }
            file.write(json.dumps(row) + "\n")
