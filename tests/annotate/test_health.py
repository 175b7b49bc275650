"""What machines ask of the site: answered without sign-in, fast, with what is wrong and no secrets."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client, override_settings

from annotate.observe import readiness

READY = "database: ok\nmigrations: ok\nbroker: ok\ndata: ok\nstatic: ok\n"


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "KEPT_SECONDS", -1.0)


def lines(body: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in body.decode().splitlines())


def test_a_living_process_says_so_without_database_session_or_a_known_host_name(client: Client):
    response = client.get("/healthz", headers={"host": "10.1.2.3:8000"})
    assert (response.status_code, response.content) == (200, b"ok\n")
    assert "no-store" in response["Cache-Control"]
    assert not response.cookies
    assert client.head("/healthz").content == b""
    assert client.post("/healthz").status_code == 405


@override_settings(SECURE_SSL_REDIRECT=True)
def test_probes_are_not_sent_on_to_https(client: Client):
    assert client.get("/healthz").status_code == 200


@pytest.mark.django_db
def test_a_site_that_has_all_it_needs_is_ready(client: Client):
    response = client.get("/readyz", headers={"host": "10.1.2.3"})
    assert (response.status_code, response.content.decode()) == (200, READY)
    assert "no-store" in response["Cache-Control"]


@pytest.mark.django_db
def test_a_database_that_is_gone_is_named_and_its_address_is_not(client: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(connection.settings_dict, "HOST", "/nowhere/secret-host")
    response = client.get("/readyz")
    assert response.status_code == 503
    assert lines(response.content)["database"] == "does not answer"
    assert lines(response.content)["broker"] == "ok"
    assert "secret-host" not in response.content.decode()


@pytest.mark.django_db
def test_a_database_without_our_tables_is_not_ready(client: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(connection.settings_dict, "NAME", "postgres")
    response = client.get("/readyz")
    assert response.status_code == 503
    assert lines(response.content)["database"] == "ok"
    assert lines(response.content)["migrations"].endswith("not applied: run manage.py migrate")


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["redis+socket:///nowhere/valkey.sock", "amqp://guest:hidden@127.0.0.1:1//"])
def test_a_broker_that_is_gone_fails_readiness_unless_it_is_left_out(client: Client, address: str):
    with override_settings(CELERY_BROKER_URL=address):
        assert lines(client.get("/readyz").content)["broker"] == "does not answer; runs wait until it does"
        assert client.get("/readyz").status_code == 503
        without = client.get("/readyz?exclude=broker")
    assert without.status_code == 200
    assert "broker: does not answer" in without.content.decode()
    assert "hidden" not in without.content.decode()


@pytest.mark.django_db
def test_a_broker_that_hangs_does_not_make_the_answer_hang(client: Client, tmp_path: Path):
    silent = socket.socket(socket.AF_UNIX)
    silent.bind(str(tmp_path / "s"))
    silent.listen()
    began = time.monotonic()
    with silent, override_settings(CELERY_BROKER_URL=f"redis+socket://{tmp_path}/s"):
        response = client.get("/readyz")
    assert response.status_code == 503
    assert lines(response.content)["broker"] != "ok"
    assert time.monotonic() - began < readiness.ANSWER_SECONDS + 2


@pytest.mark.django_db
@override_settings(HONE_DATA_DIR=Path("/proc"))
def test_a_data_folder_that_cannot_be_written_to_is_said(client: Client):
    response = client.get("/readyz")
    assert response.status_code == 503
    assert lines(response.content)["data"] == "the data folder cannot be written to"


@pytest.mark.django_db
def test_static_files_that_were_never_collected_are_said(client: Client, tmp_path: Path):
    storage = {"BACKEND": "annotate.staticfiles.Storage", "OPTIONS": {"location": str(tmp_path)}}
    with override_settings(STORAGES={"staticfiles": storage}):
        response = client.get("/readyz")
        assert lines(response.content)["static"] == "not collected: run manage.py collectstatic"
        (tmp_path / "staticfiles.json").write_text("{}")
        assert client.get("/readyz").status_code == 200
    assert response.status_code == 503


@pytest.mark.django_db
def test_asking_often_looks_once_a_second(client: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(readiness, "KEPT_SECONDS", 60.0)
    monkeypatch.setattr(readiness, "_kept", (float("-inf"), []))
    assert client.get("/readyz").status_code == 200
    monkeypatch.setitem(connection.settings_dict, "HOST", "/nowhere")
    assert client.get("/readyz").status_code == 200
