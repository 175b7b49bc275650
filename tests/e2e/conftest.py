"""A real browser, the whole site behind it, and a real worker where a test wants one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings
from django.db import connection
from playwright.sync_api import BrowserContext, Page, expect

from annotate.models import User
from tests.browser import ARGUMENTS, chromium

PASSWORD = "correct horse battery"
WORKER_SECONDS = 60.0
QUIET_SECONDS = 30.0

# Playwright's loop runs in the test's own thread, where Django then suspects every query.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
expect.set_options(timeout=15_000)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Chromium of the system, installed where there is none; without one the tests fail."""
    found = chromium("the tests of the pages drive")
    return {**browser_type_launch_args, "executable_path": found, "args": [*ARGUMENTS]}


@pytest.fixture
def browser_context_args(browser_context_args: dict[str, Any]) -> dict[str, Any]:
    """A desktop window."""
    return {**browser_context_args, "viewport": {"width": 1440, "height": 900}, "locale": "en-GB"}


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest) -> Iterator[None]:
    """Before the tables are emptied, close the pages and let the site finish what they asked for at the last moment."""
    if "page" not in request.fixturenames:
        yield
        return
    request.getfixturevalue("transactional_db")
    context: BrowserContext = request.getfixturevalue("context")
    yield
    for page in context.pages:
        page.close()
    looks, deadline = 0, time.monotonic() + QUIET_SECONDS
    while looks < 3:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"
            )
            (busy,) = cursor.fetchone()
        looks = 0 if busy else looks + 1
        assert time.monotonic() < deadline, "The site does not come to rest."
        time.sleep(0.03)


@pytest.fixture
def complaints(page: Page) -> list[str]:
    """What the browser objected to: faults in scripts, blocked content, things not found."""
    said: list[str] = []
    page.on("pageerror", lambda problem: said.append(str(problem)))
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    return said


def sign_in(page: Page, site: str, user: User) -> None:
    """Sign in through the form, as people do."""
    user.set_password(PASSWORD)
    user.save()
    page.goto(f"{site}/sign-in")
    page.get_by_label("User name").fill(user.username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "sign-in" not in url)


@pytest.fixture
def worker(transactional_db: None, tmp_path: Path) -> Iterator[None]:
    """A Celery worker in a process of its own, on the test's database and the embedded broker."""
    database = connection.settings_dict
    address = f"postgresql://{database['USER']}@/{database['NAME']}?host={quote(database['HOST'], safe='')}"
    log = tmp_path / "worker.log"
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "annotate",
        "worker",
        "-Q",
        "heavy,light",
        "-P",
        "solo",
        "-l",
        "INFO",
    ]
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [*command, "--without-gossip", "--without-mingle"],
            cwd=settings.BASE_DIR,
            env={**os.environ, "DATABASE_URL": address},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + WORKER_SECONDS
        while b"ready." not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(WORKER_SECONDS)
