"""``manage.py resume_run``: go on with a run that failed or was cancelled."""

from __future__ import annotations

import argparse
from typing import Any

from annotate.management.base import ServiceCommand
from annotate.services import control


class Command(ServiceCommand):
    help = "Go on with a run that failed or was cancelled, from its last checkpoint, and stay with it to its end."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("run", metavar="RUN", help="its number, or the beginning of it")
        parser.add_argument("--queue", action="store_true", help="leave it to a worker")
        parser.add_argument("--settle", action="store_true", help="only make a result of what it has saved last")

    def perform(self, *, run: str, queue: bool, settle: bool, **options: Any) -> None:
        again = control.settle if settle else control.resume
        found = again(run=self.run_of(run), actor=options["actor"], ring=queue)
        if not queue:
            found = self.follow(found)
        self.stdout.write(f"{found}: {found.get_state_display()}.")
