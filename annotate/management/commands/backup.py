"""``manage.py backup``: the database, and all weights and files that it refers to."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from annotate.management.base import ServiceCommand
from annotate.services.backup import make_backup


class Command(ServiceCommand):
    """Adds a backup to a folder while the site goes on working."""

    help = "Adds a backup to FOLDER: database, weights, runs. What an earlier one there has is not copied again."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Where to, and what to do about damage."""
        super().add_arguments(parser)
        parser.add_argument("folder", type=Path, metavar="FOLDER", help="where backups are kept, best on another disk")
        parser.add_argument(
            "--despite-damage", action="store_true", help="go on without model folders that are missing or damaged"
        )

    def perform(self, *args: Any, **options: Any) -> None:
        """Make it and say what is in it."""
        made = make_backup(folder=options["folder"].absolute(), despite_damage=options["despite_damage"])
        for sentence in made.missing:
            self.stderr.write(f"left out: {sentence}")
        self.stdout.write(
            f"{made.path}\n{made.copied_bytes / 1e6:.1f} MB of files copied, "
            f"{made.linked_bytes / 1e6:.1f} MB had by earlier backups"
        )
