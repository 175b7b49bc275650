"""``manage.py promote``: decide on a generation."""

from __future__ import annotations

import argparse
from typing import Any

from annotate.management.base import ServiceCommand
from annotate.services import promotion


class Command(ServiceCommand):
    help = "Promote a generation, so that its completions are collected; or reject it."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("generation", type=int, metavar="K")
        parser.add_argument("--reject", action="store_true", help="decide against it; also rolls a promotion back")

    def perform(self, *, project: str, generation: int, reject: bool, **options: Any) -> None:
        chosen = self.generation(self.project(project), generation)
        if reject:
            promotion.reject(generation=chosen, actor=options["actor"])
        else:
            promotion.promote(generation=chosen, actor=options["actor"], collect=False)
        chosen.refresh_from_db()
        self.stdout.write(f"Generation {chosen.number} is {chosen.get_state_display()}.")
