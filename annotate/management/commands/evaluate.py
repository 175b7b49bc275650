"""``manage.py evaluate``: answer the test prompts with a generation and its parent, and score the answers."""

from __future__ import annotations

import argparse
import json
from typing import Any

from annotate.management.base import ServiceCommand
from annotate.services.runs import launch_evaluate


class Command(ServiceCommand):
    help = "Compare a generation with its parent on test prompts; raters get one blind pair a prompt."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--generation", type=int, metavar="K", help="default: the newest")
        parser.add_argument("--planned", type=int, metavar="N", help="test prompts that raters compare; default: 300")
        parser.add_argument("--seed", type=int, default=0)

    def perform(self, *, project: str, generation: int | None, **options: Any) -> None:
        chosen = self.project(project)
        run = launch_evaluate(
            project=chosen,
            actor=options["actor"],
            generation=None if generation is None else self.generation(chosen, generation),
            planned=options["planned"],
            seed=options["seed"],
            ring=False,
        )
        self.follow(run)
        self.stdout.write(json.dumps((run.result or {}).get("metrics"), indent=1))
