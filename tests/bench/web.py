"""How fast the pages of a project with 1,000 items answer one client."""

from __future__ import annotations

import logging
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.bench.bar import Bar

ITEMS = 1000
REQUESTS = 60
WARM_UP = 10
PAGE_MS = 100.0
PASSWORD = "measured-not-guessed"


def run() -> list[Bar]:
    """Median milliseconds of the pages that a rater and a lead look at most."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "HONE_DATA_DIR": folder,
            "SECRET_KEY": "bench",
            "ALLOWED_HOSTS": "127.0.0.1",
            "HONE_HTTPS": "0",
            "DJANGO_SETTINGS_MODULE": "annotate.settings",
        }
        for name in ("DATABASE_URL", "CELERY_BROKER_URL"):
            os.environ.pop(name, None)
        import django

        django.setup()
        logging.getLogger("httpx").setLevel(logging.WARNING)
        from annotate.embedded import services_running

        with services_running():
            _prepare()
            with _server(Path(folder)) as address:
                rater, lead = _signed_in(address, "bob"), _signed_in(address, "alice")
                return [
                    Bar("rating page, median", _median_ms(rater, "/p/garden/rate"), "ms", PAGE_MS),
                    Bar("project page of the lead, median", _median_ms(lead, "/p/garden/"), "ms", PAGE_MS),
                ]


def _prepare() -> None:
    from django.core.management import call_command

    from annotate.models import User
    from tests.annotate.factory import collect_items, world

    call_command("migrate", verbosity=0)
    call_command("collectstatic", verbosity=0, interactive=False)
    stage = world(prompts=ITEMS)
    collect_items(stage)
    for user in User.objects.all():
        user.set_password(PASSWORD)
        user.save()


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "annotate.asgi:application", "--port", str(port), "--no-access-log"]
    with open(folder / "server.log", "wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{address}/")
                break
            except httpx.TransportError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "server.log").read_text()) from None
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait()


def _signed_in(address: str, name: str) -> httpx.Client:
    client = httpx.Client(base_url=address, follow_redirects=True)
    page = client.get("/sign-in")
    token = client.cookies["csrftoken"]
    form = {"username": name, "password": PASSWORD, "csrfmiddlewaretoken": token}
    client.post(page.url.path, data=form).raise_for_status()
    if "sessionid" not in client.cookies:
        raise RuntimeError(f"{name} could not sign in.")
    return client


def _median_ms(client: httpx.Client, path: str) -> float:
    times = []
    for number in range(WARM_UP + REQUESTS):
        began = time.perf_counter()
        client.get(path).raise_for_status()
        if number >= WARM_UP:
            times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)
