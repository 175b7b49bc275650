"""``manage.py archive``: all that is known of how a project's data came to be, in one file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from annotate.management.base import ServiceCommand
from annotate.services.archive.writing import make_archive


class Command(ServiceCommand):
    help = "Write a project with its full provenance into one file, from which manage.py restore_project makes it anew."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("project", metavar="PROJECT")
        parser.add_argument("--out", type=Path, required=True, metavar="FILE")
        parser.add_argument("--weights", action="store_true", help="with the model folders of its generations")

    def perform(self, *, project: str, out: Path, weights: bool, **options: Any) -> None:
        made = make_archive(
            project=self.project(project),
            path=out.absolute(),
            actor=options["actor"],
            weights=weights,
            on_progress=self.teller(),
        )
        self.stdout.write(f"{made.path}\n{made.rows:,} rows, {made.path.stat().st_size / 1e6:.1f} MB, {made.sha256}")
