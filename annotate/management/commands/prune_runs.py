"""``manage.py prune_runs``: free the disk of what ended runs no longer need."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import Any

from django.template.defaultfilters import filesizeformat

from annotate.management.base import ServiceCommand
from annotate.services.prune import prune


class Command(ServiceCommand):
    help = "Delete checkpoints and half-made files of ended runs. Weights of generations and reward models stay."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--older-than",
            type=int,
            default=30,
            metavar="DAYS",
            help="failed and cancelled runs that ended more recently keep what they can be resumed from (30)",
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would be deleted, and delete nothing")

    def perform(self, *, older_than: int, dry_run: bool, **options: Any) -> None:
        total = 0
        for pruned in prune(older_than=timedelta(days=older_than), dry_run=dry_run):
            total += pruned.size
            self.stdout.write(f"{filesizeformat(pruned.size):>10}  {pruned.path}")
        self.stdout.write(f"{filesizeformat(total)} {'would be' if dry_run else 'were'} freed.")
