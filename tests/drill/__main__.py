"""``make drill``: fault drills, each with a figure, and failing where one is missed.

python -m tests.drill [NAME …] [--json FILE]

Each drill is a module of this package with a function ``drill() -> list[Outcome]``. It runs in a
process of its own, on a site of its own, so that what one breaks reaches no other.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests import drill as package
from tests.drill.outcome import Outcome, table

PARTS = {"outcome", "trainers", "__main__"}
DRILLS = sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.name not in PARTS)


def main() -> int:
    """Run drills; 1 when a figure is missed or a drill breaks."""
    parser = argparse.ArgumentParser(prog="make drill")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(DRILLS)} (default: all)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(DRILLS)):
        parser.error(f"there is no drill {unknown[0]}; there are: {', '.join(DRILLS)}")
    if options.alone:
        (name,) = options.names
        outcomes = importlib.import_module(f"tests.drill.{name}").drill()
    else:
        outcomes = [outcome for name in options.names or DRILLS for outcome in _in_own_process(name)]
        print(f"\n{table(outcomes)}")
    if options.json:
        options.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    return 0 if all(outcome.met for outcome in outcomes) else 1


def _in_own_process(name: str) -> list[Outcome]:
    began = time.monotonic()
    print(f"— {name}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "outcomes.json"
        done = subprocess.run(
            [sys.executable, "-m", "tests.drill", name, "--alone", "--json", str(report)], check=False
        )
        if report.exists():
            outcomes = [Outcome(**outcome) for outcome in json.loads(report.read_text())]
        else:
            outcomes = [Outcome(name, f"broke with status {done.returncode}", "to finish", met=False)]
    for outcome in outcomes:
        print(f"  {outcome.name}: {outcome.figure} (wanted {outcome.wanted})", flush=True)
    print(f"  took {time.monotonic() - began:.0f} s", flush=True)
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
