"""``manage.py export``: write a snapshot in the forms that trainers and other tools read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from annotate.formats.writing.files import FILE_TYPES
from annotate.formats.writing.forms import FORMS
from annotate.management.base import ServiceCommand, find_snapshot
from annotate.services.export import export


class Command(ServiceCommand):
    help = "Write a snapshot below a folder: FORM/SPLIT.jsonl, .parquet and .csv, a manifest and the data set's card."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("snapshot", metavar="PROJECT/NAME or HASH")
        parser.add_argument("--format", choices=["all", *FORMS], required=True)
        parser.add_argument("--file-type", action="append", choices=FILE_TYPES, help="default: all three")
        parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")

    def perform(self, *, snapshot: str, out: Path, **options: Any) -> None:
        forms = list(FORMS) if options["format"] == "all" else [options["format"]]
        files = export(
            find_snapshot(snapshot),
            out,
            forms=forms,
            file_types=options["file_type"] or FILE_TYPES,
            on_progress=self.teller(),
        )
        for file in files:
            self.stdout.write(f"{file.rows:>9,}  {out / file.path}")
