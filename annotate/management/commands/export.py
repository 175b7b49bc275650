"""``manage.py export``: write a snapshot in a format that trainers read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from annotate.management.base import ServiceCommand, find_snapshot
from annotate.services.export import SPLITS, write_trl_preference


class Command(ServiceCommand):
    help = "Write the preference pairs of a snapshot's training prompts, or of another split."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("snapshot", metavar="PROJECT/NAME or HASH")
        parser.add_argument("--format", choices=["trl-preference"], required=True)
        parser.add_argument("--split", choices=SPLITS, default="train")
        parser.add_argument("--out", type=Path, required=True, metavar="FILE")

    def perform(self, *, snapshot: str, split: str, out: Path, **options: Any) -> None:
        found = find_snapshot(snapshot)
        count = write_trl_preference(found, out, split)
        self.stdout.write(f"{count} pairs on {split} prompts of {found} written to {out}.")
