"""Lines of the log: one a request or event, marked with what it belongs to, without what people wrote."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path, reverse

from annotate.models import Skip
from annotate.observe import context
from annotate.observe.logs import JsonFormatter, SafePaths, TextFormatter
from annotate.services.execute import execute
from tests.annotate.factory import run, world

ROOT = Path(__file__).resolve().parents[2]
SECRET = "Zebra-7-private-words"


def broken(request: HttpRequest) -> HttpResponse:
    """A page that fails in the database, which quotes the row in its complaint."""
    Skip(slot_id=-1, rater_id=-1, reason=SECRET).save(force_insert=True)
    from django.db import connection

    connection.check_constraints()
    return HttpResponse()


def invited(request: HttpRequest, token: str) -> HttpResponse:
    """A page whose address is a secret."""
    return HttpResponse(status=404)


urlpatterns = [
    path("sign-in", broken, name="login"),
    path("broken", broken),
    path("join/<str:token>", invited, name="join"),
]


class Lines:
    """What was logged, as parsed JSON."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def __call__(self, logger: str = "annotate.access") -> list[dict[str, Any]]:
        every = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in every if line["logger"] == logger]


@pytest.fixture
def lines() -> Iterator[Lines]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(SafePaths())
    root = logging.getLogger()
    root.addHandler(handler)
    yield Lines(stream)
    root.removeHandler(handler)


@pytest.mark.django_db
def test_each_request_has_one_line_that_says_who_what_and_how_long(client: Client, lines: Lines):
    stage = world()
    client.force_login(stage.alice)
    response = client.get(reverse("project", args=["garden"]), headers={"x-request-id": "proxy-12345678"})
    (line,) = lines()
    assert response["X-Request-ID"] == line["request_id"] == "proxy-12345678"
    assert (line["method"], line["path"], line["status"]) == ("GET", "/p/garden/", 200)
    assert line["user_id"] == stage.alice.pk
    assert 0 < line["duration_ms"] < 60_000
    assert line["level"] == "INFO"


@pytest.mark.parametrize("given", ["short", "x" * 65, "new\nline-12345678", 'quote"12345678', ""])
def test_a_request_id_that_is_not_harmless_is_replaced(client: Client, given: str):
    made = client.get("/healthz", headers={"x-request-id": given})["X-Request-ID"]
    assert made != given
    assert len(made) == 32


def test_probes_leave_no_line(client: Client, lines: Lines):
    client.get("/healthz")
    assert lines() == []


@pytest.mark.django_db
def test_no_password_body_or_query_gets_into_the_log(client: Client, lines: Lines):
    client.post(f"/sign-in?next=/&token={SECRET}", {"username": f"{SECRET}-name", "password": f"{SECRET}-pass"})
    client.get(f"/nowhere?key={SECRET}")
    assert [line["status"] for line in lines()] == [200, 404]
    assert lines()[0]["path"] == "/sign-in"
    assert SECRET not in lines.text


@pytest.mark.django_db
def test_a_rationale_is_in_no_line_even_where_it_is_refused(client: Client, lines: Lines):
    from annotate.services.claiming import claim
    from tests.annotate.factory import collect_items

    stage = world()
    collect_items(stage)
    client.force_login(stage.bob)
    slot = claim(user=stage.bob, project=stage.project)
    assert slot is not None
    address = reverse("submit", args=["garden", slot.pk])
    refused = client.post(address, json.dumps({"rationale": SECRET, "ranks": 7}), content_type="application/json")
    assert refused.status_code == 400
    assert len(lines()) == 1
    assert SECRET not in lines.text


@pytest.mark.django_db
@override_settings(ROOT_URLCONF=__name__)
def test_the_row_that_the_database_complains_about_is_not_in_the_traceback(client: Client, lines: Lines):
    client.raise_request_exception = False
    assert client.get("/broken").status_code == 302, "a stranger is sent to sign in"
    client.force_login(world().alice)
    assert client.get("/broken").status_code == 500
    (fault,) = lines("django.request")
    assert "IntegrityError" in fault["exception"]
    assert "in broken" in fault["exception"]
    assert "DETAIL" not in fault["exception"]
    assert fault["request_id"] == lines()[-1]["request_id"]


def test_an_exception_says_one_short_line(lines: Lines):
    try:
        try:
            raise IntegrityError(f"violates a check\nDETAIL:  Failing row contains ({SECRET}).")
        except IntegrityError as cause:
            raise ValueError("y" * 1000 + SECRET) from cause
    except ValueError:
        logging.getLogger("annotate.some").exception("it broke")
    (line,) = lines("annotate.some")
    assert "IntegrityError: violates a check" in line["exception"]
    assert "direct cause" in line["exception"]
    assert SECRET not in lines.text


@pytest.mark.django_db
@override_settings(ROOT_URLCONF=__name__)
def test_the_secret_part_of_an_address_is_masked(client: Client, lines: Lines):
    client.force_login(world().alice)
    assert client.get(f"/join/{SECRET}").status_code == 404
    assert [line["path"] for line in lines()] == ["/join/***"]
    assert SECRET not in lines.text


@pytest.mark.django_db
@override_settings(ROOT_URLCONF=__name__, SECURE_SSL_REDIRECT=True)
def test_it_is_masked_too_where_the_request_never_reached_its_page(client: Client, lines: Lines):
    assert client.get(f"/join/{SECRET}").status_code == 301
    assert SECRET not in lines.text


@pytest.mark.django_db
def test_everything_said_about_a_run_is_marked_with_the_run_and_its_attempt(lines: Lines):
    made = run(world().project, job={"nonsense": True})
    assert execute(made.pk)
    assert "run_id" not in context.fields()
    about = lines("annotate.services.execute")
    assert about
    assert {(line["run_id"], line["attempt"]) for line in about} == {(str(made.pk), 1)}


def test_a_line_for_people_names_what_it_belongs_to():
    record = logging.LogRecord("annotate.x", logging.WARNING, "f.py", 1, "it is %s", ("so",), None)
    with context.bound(run_id="r1", attempt=2):
        assert TextFormatter().format(record).endswith("WARNING annotate.x: it is so [run_id=r1 attempt=2]")


def test_a_worker_writes_json_lines_from_its_first_to_its_last(servers: None):
    command = [sys.executable, "-m", "celery", "-A", "annotate", "worker", "-Q", "nothing", "-P", "solo", "-l", "INFO"]
    worker = subprocess.Popen(
        [*command, "--without-gossip", "--without-mingle", "--without-heartbeat", "-n", "logs@test"],
        cwd=ROOT,
        env={**os.environ, "HONE_LOG_FORMAT": "json", "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert worker.stderr is not None
    said = []
    for text in worker.stderr:
        said.append(json.loads(text))
        if said[-1]["message"].endswith("ready."):
            worker.terminate()
    assert worker.wait(30) == 0
    assert said[-1]["level"] in ("INFO", "WARNING")
    assert {"time", "level", "logger", "message"} <= set(said[0])
