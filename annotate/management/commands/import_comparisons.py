"""``manage.py import_comparisons``: bring comparisons, rankings, demonstrations or other data from a file."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from django.db import transaction

from annotate.formats.reading.catalogue import AUTO, CATALOGUE
from annotate.management.base import ServiceCommand
from annotate.models import Project
from annotate.services import importing, imports
from annotate.services.projects import create_plain_project

LONGEST_LISTED = 20
"""Bad and left-out records that are printed."""
WIDTH = 100


class Command(ServiceCommand):
    help = "Bring preference data from a file, all of it or nothing; what is known already is not written twice."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", type=Path)
        parser.add_argument("--project", required=True, metavar="SLUG", help="it is made where it does not exist")
        names = ", ".join(each.name for each in CATALOGUE)
        parser.add_argument("--format", default=AUTO, metavar="NAME", help=f"auto (default), or one of {names}")
        parser.add_argument(
            "--map", action="append", default=[], metavar="COLUMN=OTHER", help="take a column of another name for it"
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would become of it, and write nothing")
        parser.add_argument("--skip-bad", action="store_true", help="bring the good rows where others are bad")
        parser.add_argument("--source", default="", help="where the data come from (default: the file's name)")
        parser.add_argument("--license", default="", dest="licence", help="under which the data stand")

    def perform(self, *, file: Path, project: str, dry_run: bool, source: str, licence: str, **options: Any) -> None:
        mapping = self._mapping(options["map"])
        chosen, recognised = importing.choose_format(file, options["format"], mapping)
        self.stdout.write(f"Format: {chosen.name}" + (f". {recognised.reason}" if recognised else ""))
        target = Project.objects.filter(slug=project).first()
        if dry_run and target is None:
            self.stdout.write(f"There is no project {project} yet; without --dry-run it would be made.")
        request = importing.Request(
            file, chosen, (source or imports.source_name(file.name)), mapping, skip_bad=options["skip_bad"]
        )
        began = time.monotonic()
        try:
            if dry_run and target is None:
                report = importing.check(request)
                report.counts["new"] = report.counts["statements"]
            elif target and dry_run:
                report = importing.bring(project=target, request=request, batch="", dry_run=True)
            else:
                with transaction.atomic():
                    report = imports.bring_file(
                        project=target or create_plain_project(slug=project, actor=options["actor"]),
                        request=request,
                        licence=licence,
                        actor=options["actor"],
                        on_progress=lambda share: self.tell("import", round(100 * share), 100, ""),
                    )
                if target is None:
                    self.stdout.write(f"Made the project {project}.")
        except importing.BadRows as problem:
            self._list(problem.report)
            raise CommandError(
                f"Nothing was imported: {problem.report.counts['bad']} of {problem.report.counts['records']} records "
                "are bad. Put them right, or bring the others with --skip-bad."
            ) from problem
        self._list(report)
        seconds = time.monotonic() - began
        words = ", ".join(importing.in_words(report.counts))
        self.stdout.write(f"{'Would be: ' if dry_run else 'Imported: '}{words}.")
        self.stdout.write(f"{report.counts['records']} records, {report.counts['records'] / seconds:,.0f} a second.")
        if dry_run and report.counts["bad"] and not request.skip_bad:
            raise CommandError("Nothing would be imported because of the bad records; see --skip-bad.")

    def _mapping(self, pairs: list[str]) -> dict[str, str]:
        for pair in pairs:
            if "=" not in pair:
                raise CommandError(f"--map wants COLUMN=OTHER, such as prompt=question; not {pair}.")
        return dict(pair.split("=", 1) for pair in pairs)

    def _list(self, report: importing.Report) -> None:
        for row in report.preview[:3]:
            last = row["messages"][-1]["content"] if row["messages"] else "(empty)"
            self.stdout.write(f"  line {row['line']}: {_line(last)}")
            self.stdout.write(
                f"    {'better' if row['worse'] else 'answer'}: {_line(row['better'])}" * bool(row["answers"])
            )
            if row["worse"]:
                self.stdout.write(f"    worse:  {_line(row['worse'])}")
        for line, reason, bad in report.problems[:LONGEST_LISTED]:
            self.stdout.write(f"  line {line}: {'bad' if bad else 'left out'}: {reason}")
        more = report.counts["bad"] + report.counts["left_out"] - LONGEST_LISTED
        if more > 0:
            self.stdout.write(f"  and {more} more")


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
