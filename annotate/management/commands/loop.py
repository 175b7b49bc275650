"""``manage.py loop``: the whole loop without a browser, with a report that says whether it learnt."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import CommandError

from annotate.management.base import ServiceCommand
from annotate.services.loop import Loop
from annotate.services.projects import default_model
from annotate.services.sample import create_sample_project
from rewardmodel.publish import write_json


class Command(ServiceCommand):
    help = "Go round the loop in a project of its own: generate, judge, train, improve, evaluate."
    needs_tables = False  # it makes them

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--generations", type=int, default=1, help="how often to improve the policy")
        parser.add_argument("--rater", choices=["simulated"], default="simulated", help="who judges")
        parser.add_argument("--seed", type=int, default=1, help="seed of sampling, judging and training")
        parser.add_argument("--report", type=Path, required=True, help="JSON file to write")

    def perform(self, *, generations: int, seed: int, report: Path, **options: Any) -> None:
        if not report.parent.is_dir():
            raise CommandError(f"The folder of {report} does not exist.")
        call_command("migrate", verbosity=0)
        done = subprocess.run([sys.executable, "-m", "policy.defaultmodel", str(default_model())], check=False)
        if done.returncode:
            raise CommandError("The default model cannot be unpacked.")
        started = datetime.now(UTC)
        project = create_sample_project(slug=f"loop-{seed}-{started:%Y%m%d-%H%M%S}", actor=options["actor"])
        loop = Loop(project, seed, self._say)
        for _number in range(generations):
            loop.go_round()
        outcome = loop.report()
        write_json(report, outcome)
        self.stdout.write(json.dumps(outcome, indent=1, ensure_ascii=False))

    def _say(self, line: str) -> None:
        self.stderr.write(f"{datetime.now():%H:%M:%S} {line}", self.style.HTTP_INFO)
