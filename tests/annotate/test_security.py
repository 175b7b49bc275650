"""What every answer and the whole site keep to: headers, limits, and Django's own deployment checks."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.test import Client, override_settings
from django.urls import reverse

from annotate.bodies import limited
from annotate.headers import POWERFUL_FEATURES
from tests.annotate.access_table import TABLE, Stage
from tests.annotate.factory import user, world
from tests.annotate.lineage import Turn, turn

ROOT = Path(__file__).resolve().parents[2]
PRODUCTION = {
    "SECRET_KEY": "5d7c1f0e9b2a48d6a3f1c7e0b94d2f6880e1a5c3d9b7f2e4-any-long-one",
    "ALLOWED_HOSTS": "hone.example",
    "DEBUG": "",
    "HONE_HTTPS": "",
}

DOWNLOADS = {
    "export": ("application/x-ndjson", r"[\w.-]+\.jsonl"),
    "snapshot_card": ("text/markdown; charset=utf-8", r"README\.md"),
    "archive_file": ("application/zip", r"garden-[0-9a-f]{12}\.zip"),
}


@pytest.fixture
def left(db: None) -> Turn:
    return turn(world())


@pytest.fixture
def root(client: Client, left: Turn) -> Client:
    client.force_login(user("root", is_superuser=True, is_staff=True))
    return client


def answers(client: Client, left: Turn) -> Iterable[tuple[str, Any]]:
    stage = Stage(left)
    for name, method in TABLE:
        if name != "logout":
            yield name, client.generic(method, stage.address(name))
    yield "missing", client.get("/p/nowhere/")
    yield "administration", client.get("/admin/annotate/user/")


def test_every_answer_carries_the_headers_that_keep_browsers_safe(root: Client, left: Turn) -> None:
    for name, answer in answers(root, left):
        policy = dict(part.strip().split(" ", 1) for part in answer["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'self'", name
        assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == "'none'"
        assert "unsafe" not in answer["Content-Security-Policy"]
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert answer["Referrer-Policy"] == "same-origin"
        assert answer["X-Frame-Options"] == "DENY"
        assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer["Cross-Origin-Resource-Policy"] == "same-origin"
        assert all(f"{feature}=()" in answer["Permissions-Policy"] for feature in POWERFUL_FEATURES)
        assert "no-store" in answer["Cache-Control"], name


def test_what_is_not_html_cannot_be_taken_for_it(root: Client, left: Turn) -> None:
    for name, answer in answers(root, left):
        kind = answer.headers.get("Content-Type", "")
        if name in DOWNLOADS:
            expected, file = DOWNLOADS[name]
            assert kind == expected
            assert re.fullmatch(f'attachment; filename="{file}"', answer["Content-Disposition"])
        elif name in ("run_series", "submit", "skip", "renew", "draft", "read_guideline"):
            assert kind in ("application/json", "text/html; charset=utf-8"), name
            assert kind == "application/json" or answer.status_code == 404
        elif answer.status_code == 405:
            raise AssertionError(name)
        elif answer.status_code not in (204, 302):
            assert kind == "text/html; charset=utf-8", name


@override_settings(SESSION_COOKIE_SECURE=True, CSRF_COOKIE_SECURE=True)
def test_behind_https_no_cookie_travels_by_http(client: Client, left: Turn) -> None:
    left.stage.bob.set_password("correct horse battery")
    left.stage.bob.save()
    client.post("/sign-in", {"username": "bob", "password": "correct horse battery"})
    assert set(client.cookies) == {"sessionid", "csrftoken", "hone_browser"}
    assert all(cookie["secure"] for cookie in client.cookies.values())


@override_settings(SECURE_HSTS_SECONDS=86400, SECURE_SSL_REDIRECT=True)
def test_behind_https_the_site_is_reached_by_https_only(client: Client) -> None:
    assert client.get("/sign-in")["Location"] == "https://testserver/sign-in"
    assert "max-age=86400" in client.get("/sign-in", secure=True)["Strict-Transport-Security"]


def check(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    clean = {n: v for n, v in os.environ.items() if not n.startswith(("DJANGO_", "CSRF_"))}
    return subprocess.run(
        command, cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


def test_djangos_deployment_checks_have_nothing_to_say_about_production_settings() -> None:
    done = check(**PRODUCTION)
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


def test_they_would_speak_up_about_other_settings() -> None:
    done = check(**{**PRODUCTION, "HONE_HTTPS": "0"})
    assert done.returncode == 1
    assert "SESSION_COOKIE_SECURE" in done.stderr


def test_a_form_that_is_too_large_is_refused_with_a_sentence(root: Client) -> None:
    answer = root.post(reverse("account"), {"old_password": "x" * (3 * 2**20)})
    assert answer.status_code == 400
    assert "malformed or too large" in answer.content.decode()


def test_ten_megabytes_of_text_as_an_answer_are_refused_with_a_sentence(client: Client, left: Turn) -> None:
    client.force_login(left.stage.bob)
    body = '{"answer": {"rationale": "%s"}}' % ("x" * 10**7)
    address = reverse("submit", args=["garden", left.judgement.slot_id])
    answer = client.post(address, body, content_type="application/json")
    assert (answer.status_code, answer.json()["error"]) == (400, "This answer is too long to be stored.")


def status_of(body: list[bytes], *headers: tuple[bytes, bytes]) -> tuple[int, int]:
    """What a limit of 10 bytes says to a body in pieces, and how many bytes reached the application."""
    reached = 0

    async def application(scope: Any, receive: Any, send: Any) -> None:
        nonlocal reached
        more = True
        while more:
            message = await receive()
            reached += len(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def talk() -> int:
        scope = {"type": "http", "method": "POST", "path": "/", "headers": list(headers)}
        site = ApplicationCommunicator(limited(application, 10), scope)
        for number, piece in enumerate(body, start=1):
            await site.send_input({"type": "http.request", "body": piece, "more_body": number < len(body)})
        status: int = (await site.receive_output())["status"]
        await site.wait()
        return status

    with ThreadPoolExecutor(1) as other_thread:  # in this one Playwright's loop may be running
        return other_thread.submit(asyncio.run, talk()).result(), reached


def test_a_body_within_the_limit_passes() -> None:
    assert status_of([b"12345", b"67890"], (b"content-length", b"10")) == (200, 10)


def test_a_body_that_is_announced_too_large_is_not_read() -> None:
    assert status_of([b"12345678901"], (b"content-length", b"11")) == (413, 0)


def test_a_body_that_grows_too_large_is_cut_off() -> None:
    assert status_of([b"12345", b"67890", b"1", b"2"]) == (413, 10)
