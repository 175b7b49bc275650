"""``make bench AREA=web``: run the benchmarks of an area, print the table, and fail where a bar is missed.

python -m tests.bench web [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path

from tests.bench.bar import Bar, table

AREAS = ("web", "data", "reward", "policy", "stats")


def main() -> int:
    """Run an area's benchmark; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("area", choices=AREAS)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    bars: list[Bar] = importlib.import_module(f"tests.bench.{options.area}").run()
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}\n")
    print(table(bars))
    if options.json:
        options.json.write_text(json.dumps([asdict(bar) for bar in bars], indent=1))
    return 0 if all(bar.met for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
