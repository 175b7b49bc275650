"""``manage.py clean_data``: start over."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from annotate.embedded import EmbeddedError, nobody_using

OURS = ("pg", "valkey", "runs", "exports", "static", "log", "celerybeat", "secret_key", "demo_sign_ins.json")
"""What the site makes under its data folder. Models stay: people may have put theirs there."""


class Command(BaseCommand):
    """Deletes what a site made: database, runs, secrets, logs."""

    help = "Deletes the embedded database and everything else the site made under HONE_DATA_DIR, except models."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask, then delete."""
        data_dir: Path = settings.HONE_DATA_DIR
        try:
            with nobody_using(data_dir):
                found = [data_dir / name for name in OURS if (data_dir / name).exists()]
                if not found:
                    self.stdout.write(f"There is nothing to delete in {data_dir}.")
                    return
                self.stdout.write("This deletes for ever:\n" + "\n".join(f"  {path}" for path in found))
                if not settings.HONE_EMBEDDED_POSTGRES:
                    self.stdout.write("The database of DATABASE_URL is not touched.")
                if not _confirmed():
                    raise CommandError("Nothing was deleted.")
                for path in found:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        except EmbeddedError as problem:
            raise CommandError(str(problem)) from problem
        self.stdout.write("Deleted. `make demo` starts anew.")


def _confirmed() -> bool:
    try:
        return input("Type yes to go on: ").strip() == "yes"
    except EOFError:
        return False
