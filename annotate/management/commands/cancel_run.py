"""``manage.py cancel_run``: stop a run in order."""

from __future__ import annotations

import argparse
from typing import Any

from annotate.management.base import ServiceCommand
from annotate.services import control


class Command(ServiceCommand):
    help = "Stop a run: at once while it waits, in order and within seconds while it works. It can be resumed."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("run", metavar="RUN", help="its number, or the beginning of it")

    def perform(self, *, run: str, **options: Any) -> None:
        found = control.cancel(run=self.run_of(run), actor=options["actor"])
        self.stdout.write(f"{found}: {'stopping' if found.stopping else found.get_state_display()}.")
