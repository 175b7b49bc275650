"""``manage.py snapshot``: freeze a project's judgements into a data set."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from annotate.management.base import ServiceCommand
from annotate.models import User
from annotate.services.recipe import Recipe, read_recipe
from annotate.services.snapshots import create_snapshot, splits_of


class Command(ServiceCommand):
    help = "Freeze the judgements as they are now; equal content makes no second snapshot."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--name", default="", help="default: the next of v1, v2, …")
        parser.add_argument("--recipe", type=Path, metavar="FILE", help="JSON; see docs/datasets.md")
        parser.add_argument("--rater-kind", action="append", choices=User.Kind.values, help="whose judgements")

    def perform(self, *, project: str, name: str, **options: Any) -> None:
        recipe = read_recipe(options["recipe"]) if options["recipe"] else Recipe()
        if options["rater_kind"]:
            recipe = dataclasses.replace(recipe, kinds=options["rater_kind"])
        made = create_snapshot(
            project=self.project(project),
            actor=options["actor"],
            name=name,
            recipe=recipe,
            on_progress=self.teller(),
        )
        self.stdout.write(f"{made} {made.sha256}")
        for row in splits_of(made):
            self.stdout.write(f"{row.split}: {row.prompts} prompts, {row.rankings} rankings, {row.pairs} pairs")
        for entry in made.counts["left_out"]:
            self.stdout.write(f"left out: {entry['count']} {entry['what']} ({entry['reason']})")
