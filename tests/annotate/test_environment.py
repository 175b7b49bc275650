"""Reading the environment: right values are understood, wrong ones stop the start with a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from annotate import environment

ROOT = Path(__file__).resolve().parents[2]


def outcome(program: str, **variables: str) -> str:
    """The last line that a fresh interpreter prints, with no variables of ours but those given."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HONE_")
        and name not in ("DEBUG", "SECRET_KEY", "ALLOWED_HOSTS", "DATABASE_URL", "CELERY_BROKER_URL")
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**clean, "DJANGO_SETTINGS_MODULE": "annotate.settings", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return (done.stderr + done.stdout).strip().splitlines()[-1]


def test_an_address_gives_every_part_of_a_database(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://ann%40x:p%2Fw@db.example:5433/hone?sslmode=require")
    assert environment.database("DATABASE_URL", "") == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "hone",
        "USER": "ann@x",
        "PASSWORD": "p/w",
        "HOST": "db.example",
        "PORT": "5433",
        "OPTIONS": {"sslmode": "require"},
    }


def test_the_default_address_names_a_socket_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    database = environment.database("DATABASE_URL", "postgresql://hone@/hone?host=%2Fa%20b%2Fpg")
    assert (database["HOST"], database["PORT"], database["OPTIONS"]) == ("/a b/pg", "", {})


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("sqlite:///x.db", "PostgreSQL is the only database"),
        ("postgresql://host", "does not name a database"),
        ("postgresql://host:port/x", "is not an address"),
    ],
)
def test_an_address_that_is_no_postgresql_database_is_refused(monkeypatch: pytest.MonkeyPatch, url, complaint):
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(ImproperlyConfigured, match=complaint):
        environment.database("DATABASE_URL", "")


@pytest.mark.parametrize("value", ["0", "65536", "80a", "-1", "８０"])
def test_a_number_out_of_bounds_is_refused(monkeypatch: pytest.MonkeyPatch, value):
    monkeypatch.setenv("HONE_PORT", value)
    with pytest.raises(ImproperlyConfigured, match="HONE_PORT"):
        environment.integer("HONE_PORT", 8000, lowest=1, highest=65535)


def test_truth_values_are_read_in_any_case_and_nothing_else_is(monkeypatch: pytest.MonkeyPatch):
    for value, meaning in [("Yes", True), ("1", True), ("OFF", False), ("", True)]:
        monkeypatch.setenv("DEBUG", value)
        assert environment.boolean("DEBUG", True) is meaning
    monkeypatch.setenv("DEBUG", "maybe")
    with pytest.raises(ImproperlyConfigured, match="DEBUG"):
        environment.boolean("DEBUG", True)


def test_a_site_with_debug_off_does_not_start_without_key_and_hosts():
    assert "Set SECRET_KEY and ALLOWED_HOSTS in the environment: DEBUG is off." in outcome("import annotate.asgi")
    assert "Set ALLOWED_HOSTS in" in outcome("import annotate.asgi", SECRET_KEY="k")
    started = outcome("import annotate.asgi; print('up')", SECRET_KEY="k", ALLOWED_HOSTS="hone.example")
    assert started == "up"


def test_an_unknown_engine_stops_the_start():
    program = "import django; django.setup()"
    assert "HONE_ENGINE is 'x'; it must be one of vllm, transformers, openai." in outcome(program, HONE_ENGINE="x")


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({}, "HONE_OPENAI_BASE_URL is not set."),
        ({"HONE_OPENAI_BASE_URL": "http://host/v1"}, "HONE_OPENAI_MODEL is not set."),
        ({"HONE_OPENAI_BASE_URL": "host/v1"}, "HONE_OPENAI_BASE_URL: The address of a server must be of the form"),
        ({"HONE_OPENAI_BASE_URL": "https://me:hush@host/v1"}, "a key goes into HONE_OPENAI_API_KEY."),
    ],
)
def test_a_server_that_is_not_described_stops_the_start(variables, complaint):
    said = outcome("import django; django.setup()", HONE_ENGINE="openai", **variables)
    assert complaint in said
    assert "hush" not in said


def test_a_server_is_known_without_the_slash_at_its_end():
    program = "from annotate import settings as s; print(s.HONE_OPENAI_BASE_URL, s.HONE_OPENAI_MODEL)"
    described = {"HONE_OPENAI_BASE_URL": "http://host:8000/v1/", "HONE_OPENAI_MODEL": "m"}
    assert outcome(program, HONE_ENGINE="openai", **described) == "http://host:8000/v1 m"


def test_cookies_travel_by_https_alone_unless_the_site_says_otherwise():
    program = "from annotate import settings as s; print(s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE)"
    assert outcome(program) == "True True"
    assert outcome(program, HONE_HTTPS="0") == "False False"


def test_the_database_confirms_a_commit_only_when_it_is_on_disk(db):
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("on",)
