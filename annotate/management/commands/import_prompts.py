"""``manage.py import_prompts``: add prompts from JSON Lines, JSON, CSV or Parquet."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from annotate.management.base import ServiceCommand
from annotate.services.prompts import add_prompts, read_file


class Command(ServiceCommand):
    help = "Import prompts; a file with a broken line imports nothing and says which line is broken."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", type=Path)
        parser.add_argument("--project", required=True, metavar="SLUG")

    def perform(self, *, file: Path, project: str, **options: Any) -> None:
        chosen = self.project(project)
        rows = read_file(file)
        report = add_prompts(project=chosen, rows=rows, actor=options["actor"])
        self.stdout.write(f"{report.new} new prompts; {report.known} were known already.")
