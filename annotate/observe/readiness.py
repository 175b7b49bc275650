"""Whether this process can serve people: a few cheap looks at what it needs, none of which may hang.

Answers say what is wrong in words of ours; what a server said about it, which may name hosts and users, goes
to the log.
"""

from __future__ import annotations

import functools
import logging
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NoAnswer
from dataclasses import dataclass

import kombu
import psycopg
from django.conf import settings
from django.contrib.staticfiles.storage import staticfiles_storage
from django.db import connection
from django.db.migrations.loader import MigrationLoader

log = logging.getLogger(__name__)

ANSWER_SECONDS = 3.0
"""How long a look may take."""
KEPT_SECONDS = 1.0
"""How long an answer holds, so that asking often costs nothing."""


class _Wrong(Exception):
    """What a look found, in words for people."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one look; `wrong` is empty where all is well."""

    name: str
    wrong: str


def _database() -> None:
    """The database answers a connection of its own, so that a busy pool does not look like an outage."""
    with _connect() as server:
        server.execute("SELECT 1")


def _migrations() -> None:
    with _connect() as server:
        try:
            applied = set(server.execute("SELECT app, name FROM django_migrations").fetchall())
        except psycopg.errors.UndefinedTable:
            applied = set()
    if missing := len(_known_migrations() - applied):
        raise _Wrong(f"{missing} not applied: run manage.py migrate")


def _broker() -> None:
    # A connection of its own: the tasks' pooled one would hide a broker that has just gone.
    patience = {"socket_connect_timeout": ANSWER_SECONDS - 1, "socket_timeout": ANSWER_SECONDS - 1}
    redis = settings.CELERY_BROKER_URL.startswith(("redis", "valkey"))
    with kombu.Connection(
        settings.CELERY_BROKER_URL,
        connect_timeout=ANSWER_SECONDS - 1,
        transport_options=patience if redis else {},
    ) as broker:
        broker.connect()
        broker.default_channel  # noqa: B018  # Redis is spoken to only here


def _data_folder() -> None:
    with tempfile.TemporaryFile(dir=settings.HONE_DATA_DIR) as file:
        file.write(b"1")
        file.flush()


def _static_files() -> None:
    name = getattr(staticfiles_storage, "manifest_name", None)
    if name is not None and not staticfiles_storage.exists(name):
        raise _Wrong("not collected: run manage.py collectstatic")


LOOKS: dict[str, tuple[Callable[[], None], str]] = {
    "database": (_database, "does not answer"),
    "migrations": (_migrations, "cannot be read"),
    "broker": (_broker, "does not answer; runs wait until it does"),
    "data": (_data_folder, "the data folder cannot be written to"),
    "static": (_static_files, "cannot be read"),
}
"""By name, what to look at and what is said where that breaks."""

# Never more threads than looks, however many of them hang.
_threads = ThreadPoolExecutor(len(LOOKS), thread_name_prefix="readiness")
_lock = threading.Lock()
_kept: tuple[float, list[Finding]] = (float("-inf"), [])


def findings() -> list[Finding]:
    """Look at everything, or return what was found within the last second."""
    global _kept
    with _lock:
        if time.monotonic() - _kept[0] > KEPT_SECONDS:
            _kept = (time.monotonic(), _look())
        return _kept[1]


def _look() -> list[Finding]:
    deadline = time.monotonic() + ANSWER_SECONDS
    asked = {name: _threads.submit(look) for name, (look, _) in LOOKS.items()}
    found = []
    for name, answer in asked.items():
        wrong = ""
        try:
            answer.result(timeout=max(0.0, deadline - time.monotonic()))
        except _Wrong as said:
            wrong = str(said)
        except NoAnswer:
            answer.cancel()
            wrong = f"no answer within {ANSWER_SECONDS:.0f} s"
        except Exception as problem:
            log.warning("not ready, %s: %s", name, problem)
            wrong = LOOKS[name][1]
        found.append(Finding(name, wrong))
    return found


def _connect() -> psycopg.Connection[tuple[str, str]]:
    address = connection.get_connection_params()
    kept = {key: value for key, value in address.items() if key not in ("pool", "context", "cursor_factory")}
    patience = {"connect_timeout": 2, "options": f"{kept.pop('options', '')} -c statement_timeout=2000".strip()}
    return psycopg.connect(**{**kept, **patience})


@functools.cache
def _known_migrations() -> set[tuple[str, str]]:
    """Every migration of this version of the site, by app and name."""
    return set(MigrationLoader(None).disk_migrations)
