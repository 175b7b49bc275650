"""``manage.py demo``: the whole site on one machine, until Ctrl-C."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, transaction

from annotate import environment
from annotate.embedded import EmbeddedError, services_running
from annotate.models import Project, Run, User
from annotate.services import Refused
from annotate.services.projects import default_model
from annotate.services.runs import call_worker, launch_generate
from annotate.services.sample import create_sample, sample_slug
from annotate.services.sweep import requeue_abandoned
from annotate.supervisor import ChildDied, Supervisor
from tools.progress import Stages

HOST = "127.0.0.1"
ANSWER_SECONDS = 60.0
"""How long the web server may take to answer first."""


class _Stopped(BaseException):
    """Ctrl-C or SIGTERM: unwinds to where everything is stopped."""


class Command(BaseCommand):
    """Starts database, broker, web server and workers, makes the sample project once, and stops it all at the end."""

    help = "Runs the whole site on this machine until Ctrl-C. HONE_PORT sets the port (8000)."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """None: the environment says all that may differ."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the site."""
        port = environment.integer("HONE_PORT", 8000, lowest=1, highest=65535)
        data_dir: Path = settings.HONE_DATA_DIR
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            (data_dir / "demo.lock").touch()
        except OSError as problem:
            raise CommandError(f"{data_dir} cannot be written to ({problem.strerror}).") from None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _stop)
        with _only_one(data_dir):
            _check_port(port)
            with contextlib.suppress(_Stopped):
                self.run(port)
            self.stdout.write(" stopped.")

    def run(self, port: int) -> None:
        """Start everything, tell people where it is, and stay until told to stop."""
        stages = Stages(7)
        with contextlib.ExitStack() as stack:
            try:
                with stages.stage("Database and broker"):
                    stack.enter_context(services_running())
                stack.callback(_ignore_signals)
                supervisor = stack.enter_context(Supervisor(settings.HONE_DATA_DIR / "log"))
                with stages.stage("Database schema"):
                    call_command("migrate", verbosity=0)
                with stages.stage("Static files"):
                    call_command("collectstatic", verbosity=0, interactive=False)
                with stages.stage("Default model"):
                    _unpack_model()
                with stages.stage("Sample project"):
                    run = _sample_run()
                with stages.stage("Web server and workers"):
                    _start(supervisor, port)
                    _wait(supervisor, lambda: _answers(port))
                with stages.stage("First items to rate", lambda: _progress(run)):
                    _wait(supervisor, lambda: run is None or _first_items(run))
                self.greet(port, run)
                _wait(supervisor, lambda: False)
            except (EmbeddedError, ChildDied, Refused) as problem:
                raise CommandError(str(problem)) from problem
            except DatabaseError as problem:
                raise CommandError(f"The database cannot be used: {problem}") from problem
            finally:
                self.stdout.write("\nStopping …", ending="")
                self.stdout.flush()

    def greet(self, port: int, run: Run | None) -> None:
        """Print the address and who can sign in."""
        if run is not None:
            run.refresh_from_db()
            if run.state == Run.State.FAILED:
                self.stderr.write(f"The first answers could not be generated: {run.error}\n{run.log_tail}")
        self.stdout.write(f"\nHone is at http://{HOST}:{port}/\n")
        with contextlib.suppress(FileNotFoundError):
            for person in json.loads(_sign_ins_file().read_text()):
                self.stdout.write(f"  sign in as {person['username']:<8} password {person['password']}")
        self.stdout.write(f"\nLogs are in {settings.HONE_DATA_DIR / 'log'}. Ctrl-C stops everything.")


def _stop(*_: object) -> NoReturn:
    _ignore_signals()
    raise _Stopped


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _only_one(data_dir: Path) -> Iterator[None]:
    with open(data_dir / "demo.lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(f"A site is running on {data_dir} already: stop that one first.") from None
        yield


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        # As the web server will: a port that is only waiting for its last connections to fade is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as problem:
            raise CommandError(
                f"Port {port} cannot be used ({problem.strerror}): choose another, such as HONE_PORT={port + 1}."
            ) from None


def _unpack_model() -> None:
    """In a process of its own, because it loads torch."""
    command = [sys.executable, "-m", "policy.defaultmodel", str(default_model())]
    default_model().parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise CommandError(f"The default model could not be unpacked: {last.removeprefix('error: ')}")


def _sample_run() -> Run | None:
    """On a site where nobody can sign in, make the sample project and its people; see that its first items are made.

    :returns: the run that makes the sample's first items, while there are none.
    """
    if not User.objects.filter(kind=User.Kind.HUMAN).exists():
        with transaction.atomic():
            sample = create_sample()
            _write_private(_sign_ins_file(), json.dumps([vars(sign_in) for sign_in in sample.sign_ins], indent=1))
    for run in requeue_abandoned():
        call_worker(run)
    project = Project.objects.filter(slug=sample_slug()).first()
    if project is None or project.items.exists() or not _sign_ins_file().exists():
        return None
    active = project.runs.filter(kind=Run.Kind.GENERATE, state__in=[Run.State.QUEUED, Run.State.RUNNING]).first()
    return active or launch_generate(project=project, actor=None)


def _sign_ins_file() -> Path:
    return Path(settings.HONE_DATA_DIR) / "demo_sign_ins.json"


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _start(supervisor: Supervisor, port: int) -> None:
    """Start the web server, both workers and the clock that rings for the sweep."""
    environment = {
        "DJANGO_SETTINGS_MODULE": "annotate.settings",
        "SECRET_KEY": os.environ.get("SECRET_KEY") or _secret_key(),
        "ALLOWED_HOSTS": ",".join(settings.ALLOWED_HOSTS or ["localhost", HOST]),
        "HONE_HTTPS": os.environ.get("HONE_HTTPS", "0"),
    }
    web = ["annotate.serve", "--host", HOST, "--port", str(port), "--graceful-seconds", "2"]
    celery = ["celery", "-A", "annotate"]
    worker = [*celery, "worker", "--loglevel", "INFO", "--without-gossip", "--without-mingle"]
    heavy = ["-Q", "heavy", "-c", "1", "-n", "heavy@%h"]
    light = ["-Q", "light", "-c", "3", "-n", "light@%h"]  # an import and a large snapshot leave the sweep a thread
    beat = [*celery, "beat", "--loglevel", "INFO", "--pidfile", "", "-s", str(settings.HONE_DATA_DIR / "celerybeat")]
    python = [sys.executable, "-m"]
    supervisor.start("web", [*python, *web], environment)
    # Asked to stop, the heavy worker first stops the job in its hands; training yields the processor to the pages.
    supervisor.start("heavy", ["nice", *python, *worker, *heavy], environment)
    supervisor.start("light", [*python, *worker, *light], environment)
    supervisor.start("beat", [*python, *beat], environment)


def _secret_key() -> str:
    path = Path(settings.HONE_DATA_DIR) / "secret_key"
    if not path.exists():
        _write_private(path, secrets.token_urlsafe(50))
    return path.read_text()


def _wait(supervisor: Supervisor, done: Callable[[], bool]) -> None:
    """Wait until something is so, while all processes live."""
    while not done():
        supervisor.check()
        time.sleep(0.3)


def _answers(port: int) -> bool:
    request = urllib.request.Request(f"http://{HOST}:{port}/", headers={"Host": "localhost"})
    try:
        urllib.request.urlopen(request, timeout=ANSWER_SECONDS)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _first_items(run: Run) -> bool:
    run.refresh_from_db()
    return run.project.items.exists() or run.state in (Run.State.FAILED, Run.State.SUCCEEDED)


def _progress(run: Run | None) -> str:
    return "" if run is None else str(run.progress.get("message") or run.progress.get("stage") or "")
