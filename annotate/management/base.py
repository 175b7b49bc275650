"""What Hone's commands share: services held running, sentences for errors, runs followed in the foreground."""

from __future__ import annotations

import argparse
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import TextField
from django.db.models.functions import Cast
from psycopg.errors import DiskFull

from annotate.embedded import EmbeddedError, services_running
from annotate.models import Generation, Project, Run, Snapshot, User
from annotate.services import Refused
from annotate.services.execute import carry_out

SECONDS_A_LINE = 2.0
"""Between lines of progress of what is done row by row."""


class ServiceCommand(BaseCommand, ABC):
    """A command that calls services; subclasses write :meth:`perform`."""

    needs_tables = True
    """Whether the database must be set up already."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options that every command has."""
        parser.add_argument("--as", dest="actor", metavar="USER", help="who asks, for the audit trail")

    def handle(self, *args: Any, **options: Any) -> None:
        """Hold the servers running and turn refusals into one sentence."""
        with sentences(), services_running():
            if self.needs_tables:
                check_tables()
            options["actor"] = self._actor(options["actor"])
            self.perform(**options)

    @abstractmethod
    def perform(self, *args: Any, **options: Any) -> None:
        """Do what the command is for."""

    def project(self, slug: str) -> Project:
        """The project of that slug.

        :raises CommandError: naming the projects that there are.
        """
        try:
            return Project.objects.get(slug=slug)
        except Project.DoesNotExist:
            slugs = ", ".join(Project.objects.values_list("slug", flat=True)) or "none yet"
            raise CommandError(f"There is no project {slug}; there are: {slugs}.") from None

    def generation(self, project: Project, number: int) -> Generation:
        """A project's generation.

        :raises CommandError: naming the generations that there are.
        """
        try:
            return project.generations.get(number=number)
        except Generation.DoesNotExist:
            numbers = ", ".join(str(g.number) for g in project.generations.all())
            raise CommandError(f"There is no generation {number} in {project.slug}; there are: {numbers}.") from None

    def run_of(self, number: str) -> Run:
        """The run whose number begins so.

        :raises CommandError: when there is none, or several.
        """
        found = list(Run.objects.annotate(text=Cast("pk", TextField())).filter(text__startswith=number.lower())[:2])
        if len(found) != 1:
            raise CommandError(f"{'Several runs begin' if found else 'There is no run that begins'} with {number}.")
        return found[0]

    def follow(self, run: Run) -> Run:
        """Carry out a run here, telling of it as it goes.

        :raises CommandError: with the run's error and its last log lines when it fails.
        """
        if not carry_out(run, on_progress=self.tell):
            raise CommandError(f"Run {run.pk} was taken by a worker; see its page.")
        if run.state != Run.State.SUCCEEDED:
            raise CommandError(f"{run.get_kind_display()} {run.get_state_display()}: {run.error}\n{run.log_tail}")
        return run

    def tell(self, stage: str, done: float, total: float, message: str) -> None:
        """Print one line of progress to standard error."""
        count = f" {done:g}/{total:g}" if total else ""
        self.stderr.write(f"{stage}{count} {message}".rstrip(), self.style.HTTP_INFO)

    def teller(self) -> Callable[[str, int, int], None]:
        """What prints the progress of rows, a line every few seconds."""
        last = time.monotonic()

        def tell(stage: str, done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= SECONDS_A_LINE:
                last = time.monotonic()
                count = f" {done:,} of {total:,}" if total else ""
                self.stderr.write(f"{stage}{count}", self.style.HTTP_INFO)

        return tell

    def _actor(self, username: str | None) -> User | None:
        if username is None:
            return None
        try:
            return User.objects.get(username=username)
        except User.DoesNotExist:
            raise CommandError(f"There is no user {username}.") from None


def find_snapshot(name: str) -> Snapshot:
    """The snapshot called ``project/name``, or whose hash begins with the given characters.

    :raises CommandError: when there is none, or several.
    """
    if "/" in name:
        slug, _slash, label = name.partition("/")
        found = list(Snapshot.objects.filter(project__slug=slug, name=label))
    else:
        found = list(Snapshot.objects.filter(sha256__startswith=name)[:2])
    if len(found) != 1:
        raise CommandError(f"{'Several snapshots match' if found else 'There is no snapshot'} {name}.")
    return found[0]


def check_tables() -> None:
    """Find out whether the database has the tables that this version of Hone works with.

    :raises CommandError: saying how to make them.
    """
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise CommandError("The database is not set up for this version of Hone: run make demo, or manage.py migrate.")


@contextmanager
def sentences() -> Iterator[None]:
    """Turn what services refuse, and what the database has no room for, into a command's one-sentence error."""
    try:
        yield
    except (Refused, EmbeddedError) as problem:
        raise CommandError(str(problem)) from problem
    except OperationalError as problem:
        if not isinstance(problem.__cause__, DiskFull):
            raise
        said = problem.__cause__.diag.message_primary
        raise CommandError(f"The database's disk is full and nothing was changed: {said}.") from problem
