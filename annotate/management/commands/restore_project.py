"""``manage.py restore_project``: a project out of an archive."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from annotate.management.base import ServiceCommand
from annotate.services.archive.restoring import restore_project


class Command(ServiceCommand):
    help = "Make a project anew from an archive, all of it or nothing."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument("--slug", default="", metavar="NEW", help="its name in addresses, if not the one it had")

    def perform(self, *, file: Path, slug: str, **options: Any) -> None:
        done = restore_project(path=file, slug=slug, actor=options["actor"], on_progress=self.teller())
        for old, new in done.moved.items():
            self.stdout.write(f"{old} is not here: its model is now {new} in the data folder")
        if done.people:
            self.stdout.write(
                f"Made {len(done.people)} accounts, which nobody can sign in by before they are given a password "
                f"(manage.py changepassword NAME): {', '.join(done.people[:20])}{', …' * (len(done.people) > 20)}"
            )
        self.stdout.write(f"Restored {done.project.slug}: {done.rows.total():,} rows")
