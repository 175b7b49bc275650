"""``manage.py restore``: a site out of a backup."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from annotate.management.base import ServiceCommand
from annotate.services.restore import restore


class Command(ServiceCommand):
    """Brings a backup back into an empty database and data folder."""

    help = "Restores the backup BACKUP, or the newest in that folder, into an empty database and data folder."
    requires_system_checks = []
    needs_tables = False

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Where from."""
        parser.add_argument("backup", type=Path, metavar="BACKUP", help="a backup, or a folder of backups")
        parser.set_defaults(actor=None)

    def perform(self, *args: Any, **options: Any) -> None:
        """Restore and say what came back."""
        done = restore(source=options["backup"].absolute())
        for old, new in done.moved.items():
            self.stdout.write(f"{old} is not here: its model is now {new} in the data folder")
        for sentence in done.missing:
            self.stderr.write(f"not in the backup: {sentence}")
        self.stdout.write(f"Restored {done.backup}: the database and {done.files} files. Next: manage.py migrate")
