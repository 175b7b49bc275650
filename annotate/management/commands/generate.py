"""``manage.py generate``: have a generation answer the project's prompts."""

from __future__ import annotations

import argparse
from typing import Any

from annotate.management.base import ServiceCommand
from annotate.models import Split
from annotate.services.runs import launch_generate


class Command(ServiceCommand):
    help = "Answer a project's prompts with a generation; the answers become items to rate."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--generation", type=int, metavar="K", help="who answers (default: the served one)")
        parser.add_argument("--samples", type=int, help="answers to each prompt (default: one item's worth)")
        parser.add_argument("--split", action="append", choices=Split.values, help="prompts of which split")
        parser.add_argument(
            "--best-of", type=int, default=1, metavar="N", help="tries of which a reward model keeps one"
        )
        parser.add_argument("--seed", type=int, default=0)

    def perform(self, *, project: str, generation: int | None, samples: int | None, **options: Any) -> None:
        chosen = self.project(project)
        run = launch_generate(
            project=chosen,
            actor=options["actor"],
            generation=None if generation is None else self.generation(chosen, generation),
            samples=samples,
            splits=options["split"] or Split.values,
            best_of=options["best_of"],
            seed=options["seed"],
            ring=False,
        )
        self.follow(run)
        self.stdout.write(f"{run.completions.count()} completions; {chosen.items.count()} items in the project.")
