"""``manage.py create_project``: make a project from a file, on any model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from annotate.management.base import ServiceCommand
from annotate.services.description import read_description
from annotate.services.projects import create_project, default_model


class Command(ServiceCommand):
    help = "Make a project as a JSON file describes it; annotate/sample/project.json is an example."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", type=Path)
        parser.add_argument("--slug", help="its name in addresses (default: the file's)")
        parser.add_argument(
            "--base-model", type=Path, metavar="FOLDER", help="generation 0 (default: Hone's own model)"
        )

    def perform(self, *, file: Path, slug: str | None, base_model: Path | None, **options: Any) -> None:
        project = create_project(
            description=read_description(file),
            slug=slug,
            base_model=str((base_model or default_model()).absolute()),
            actor=options["actor"],
        )
        self.stdout.write(f"Made the project {project.slug}; add prompts with import_prompts.")
