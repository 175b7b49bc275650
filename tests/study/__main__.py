"""``make study AREA=policy``: hours of training whose outcome is a curve; stopped, it goes on where it was.

python -m tests.study policy
"""

from __future__ import annotations

import argparse
import importlib
import sys

from tests.bench.bar import Bar, table

AREAS = ("policy",)


def main() -> int:
    """Make an area's study; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="make study")
    parser.add_argument("area", choices=AREAS)
    bars: list[Bar] = importlib.import_module(f"tests.study.{parser.parse_args().area}").run()
    print(f"\n{table(bars)}")
    return 0 if all(bar.met for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
