"""A site of its own, in a folder that goes away: what benchmarks and drills measure.

Pytest is not involved: the process that uses this module has Django set up on an empty data folder
with real PostgreSQL and Valkey, and starts real web servers.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

PASSWORD = "measured-not-guessed"
START_SECONDS = 60.0


@contextmanager
def fresh_site(**environment: str) -> Iterator[Path]:
    """Run the servers on an empty data folder with Django set up and every table made.

    To be entered once in a process.

    :param environment: variables that differ from the usual ones, for this process and those it starts.
    :returns: the data folder.
    """
    with tempfile.TemporaryDirectory(prefix="hone-site-") as folder:
        for name in ("DATABASE_URL", "CELERY_BROKER_URL"):
            os.environ.pop(name, None)
        os.environ |= {
            "HONE_DATA_DIR": folder,
            "SECRET_KEY": "measured",
            "ALLOWED_HOSTS": "127.0.0.1",
            "HONE_HTTPS": "0",
            "DJANGO_SETTINGS_MODULE": "annotate.settings",
            **environment,
        }
        import django

        django.setup()
        logging.getLogger("httpx").setLevel(logging.WARNING)
        from django.core.management import call_command

        from annotate.embedded import services_running

        with services_running():
            call_command("migrate", verbosity=0)
            call_command("collectstatic", verbosity=0, interactive=False)
            yield Path(folder)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def launch_web(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start a web server without waiting for it; its output is added to ``server.log`` in the folder."""
    command = [sys.executable, "-m", "uvicorn", "annotate.asgi:application", "--port", str(port), "--no-access-log"]
    with open(folder / "server.log", "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def start_web(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start a web server and wait until it answers."""
    server = launch_web(folder, port)
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/")
            return server
        except httpx.TransportError:
            if server.poll() is not None or time.monotonic() > deadline:
                server.kill()
                raise RuntimeError((folder / "server.log").read_text()) from None
            time.sleep(0.1)


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """A web server for as long as the context lasts.

    :returns: its address.
    """
    port = free_port()
    server = start_web(folder, port)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def set_passwords() -> None:
    """Give every user the password :data:`PASSWORD`."""
    from django.contrib.auth.hashers import make_password

    from annotate.models import User

    User.objects.update(password=make_password(PASSWORD))


def signed_in(address: str, name: str) -> httpx.Client:
    """A client that has signed in through the form; the site's cookies are in it."""
    client = httpx.Client(base_url=address, follow_redirects=True)
    page = client.get("/sign-in")
    token = client.cookies["csrftoken"]
    form = {"username": name, "password": PASSWORD, "csrfmiddlewaretoken": token}
    client.post(page.url.path, data=form).raise_for_status()
    if "sessionid" not in client.cookies:
        raise RuntimeError(f"{name} could not sign in.")
    return client
