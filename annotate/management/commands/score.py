"""``manage.py score``: a reward model's scores of answers in a file."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from django.core.management.base import CommandError

from annotate.management.base import ServiceCommand
from annotate.services.text_scores import read_texts, score, scored


class Command(ServiceCommand):
    help = "Score answers: records with prompt and responses (or one response), as JSON lines, JSON, CSV or Parquet."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", type=Path)
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--reward-model", type=int, metavar="NUMBER", help="the newest by default")
        parser.add_argument("--out", type=Path, help="file of JSON lines to write; standard output by default")

    def perform(self, *, project: str, file: Path, out: Path | None, **options: Any) -> None:
        models = self.project(project).reward_models.select_related("project").order_by("-number")
        number = options["reward_model"]
        chosen = (models if number is None else models.filter(number=number)).first()
        if chosen is None:
            raise CommandError(
                f"{project} has no reward model{'' if number is None else f' {number}'}: train one first."
            )
        if not file.is_file():
            raise CommandError(f"There is no file {file}.")
        run = self.follow(score(reward_model=chosen, texts=read_texts(file), actor=options["actor"], ring=False))
        lines = b"".join(orjson.dumps(asdict(row), option=orjson.OPT_APPEND_NEWLINE) for row in scored(run))
        if out is None:
            sys.stdout.buffer.write(lines)
        else:
            out.write_bytes(lines)
