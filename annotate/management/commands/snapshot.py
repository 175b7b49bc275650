"""``manage.py snapshot``: freeze a project's judgements into a data set."""

from __future__ import annotations

import argparse
from typing import Any

from annotate.management.base import ServiceCommand
from annotate.models import User
from annotate.services.snapshots import create_snapshot


class Command(ServiceCommand):
    help = "Freeze the judgements as they are now; equal content makes no second snapshot."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--name", default="", help="default: the next of v1, v2, …")
        parser.add_argument("--rater-kind", action="append", choices=User.Kind.values, help="whose judgements")

    def perform(self, *, project: str, name: str, **options: Any) -> None:
        made = create_snapshot(
            project=self.project(project),
            actor=options["actor"],
            name=name,
            kinds=options["rater_kind"] or [User.Kind.HUMAN],
        )
        counts = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in sorted(made.counts.items()))
        self.stdout.write(f"{made} {made.sha256}\n{counts}")
