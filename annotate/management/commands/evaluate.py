"""``manage.py evaluate``: answer the test prompts with a generation and its parent, and score the answers."""

from __future__ import annotations

import argparse
import json
from typing import Any

from annotate.management.base import ServiceCommand
from annotate.models import Run
from annotate.services.runs import launch_evaluate


class Command(ServiceCommand):
    help = "Compare a generation with its parent on test prompts; raters get one blind pair a prompt."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--generation", type=int, metavar="K", help="default: the newest")
        parser.add_argument(
            "--planned",
            type=int,
            metavar="N",
            help="test prompts that raters compare, or how many more where they have begun; default: what is stated, "
            "or was asked for with improve, or all of them up to 300",
        )
        parser.add_argument("--leads-rate", action="store_true", default=None, help="leads compare, too")
        parser.add_argument("--seed", type=int, default=0)

    def perform(self, *, project: str, generation: int | None, **options: Any) -> None:
        chosen = self.project(project)
        run = launch_evaluate(
            project=chosen,
            actor=options["actor"],
            generation=None if generation is None else self.generation(chosen, generation),
            planned=options["planned"],
            leads_rate=options["leads_rate"],
            seed=options["seed"],
            ring=False,
        )
        self._tell_plan(run)
        self.follow(run)
        self.stdout.write(json.dumps((run.result or {}).get("metrics"), indent=1))

    def _tell_plan(self, run: Run) -> None:
        assert run.generation is not None
        evaluation = run.generation.evaluations.last()
        if evaluation is not None:
            people = ", ".join(evaluation.pool.values_list("rater__username", flat=True).order_by("rater__username"))
            self.stderr.write(
                f"{evaluation.planned} test prompts are planned, {run.selection['draw']} of them to be drawn now; "
                f"raters: {people or 'no person'}."
            )
