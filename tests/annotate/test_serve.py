"""A web server that is told to stop answers what it has begun and what is on its way, and then goes."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as made:
        yield made


@contextmanager
def server(listening: socket.socket, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server on a socket that is already listened on, loaded."""
    number = listening.fileno()
    with open(tmp_path / f"{time.monotonic_ns()}.log", "w+b") as log:
        command = [sys.executable, "-m", "annotate.serve", "--fd", str(number)]
        process = subprocess.Popen(command, cwd=ROOT, pass_fds=[number], stderr=log)
        try:
            deadline = time.monotonic() + PATIENCE
            while b"Started server process" not in Path(log.name).read_bytes():
                assert process.poll() is None, Path(log.name).read_text()
                assert time.monotonic() < deadline, Path(log.name).read_text()
                time.sleep(0.05)
            yield process
        finally:
            process.kill()
            process.wait()


def answer(connection: socket.socket) -> bytes:
    """Everything that comes until the other side closes."""
    connection.settimeout(PATIENCE)
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_requests_begun_or_on_their_way_are_answered_after_the_order_to_stop(listening: socket.socket, tmp_path: Path):
    address = listening.getsockname()
    with server(listening, tmp_path) as process:
        half_said, half_sent = socket.create_connection(address), socket.create_connection(address)
        half_said.sendall(HEAD)
        body = b"username=alice&password=guessed"
        head = b"POST /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        half_sent.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:5])
        time.sleep(0.5)
        process.terminate()
        time.sleep(0.3)
        assert process.poll() is None
        half_said.sendall(b"\r\n")
        half_sent.sendall(body[5:])
        said, sent = answer(half_said), answer(half_sent)
        assert said.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" in said
        assert b"ok\n" in said
        assert sent.startswith(b"HTTP/1.1 403"), "no token against forgery, but an answer"
        assert process.wait(PATIENCE) == -signal.SIGTERM


def test_who_was_told_that_the_connection_stays_is_answered_once_more_on_it(listening: socket.socket, tmp_path: Path):
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    large = Path(settings.STATIC_ROOT) / "large.txt"
    large.parent.mkdir(exist_ok=True)
    large.write_bytes(b"x" * 2**20)
    try:
        with server(listening, tmp_path) as process, socket.create_connection(listening.getsockname()) as reader:
            reader.sendall(b"GET /static/large.txt HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            begun = reader.recv(1024)
            process.terminate()
            time.sleep(0.3)
            assert process.poll() is None
            rest = reader.makefile("rb").read(len(begun.partition(b"\r\n\r\n")[0]) + 4 + 2**20 - len(begun))
            reader.sendall(HEAD + b"\r\n")
            last = answer(reader)
    finally:
        large.unlink()
    assert begun.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" not in begun
    assert rest.endswith(b"x" * 1024)
    assert last.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in last


def test_no_request_fails_while_one_of_two_servers_on_a_socket_is_stopped(listening: socket.socket, tmp_path: Path):
    port = listening.getsockname()[1]
    statuses: list[int | str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            try:
                connection.request("GET", "/sign-in", headers={"Connection": "close"})
                statuses.append(connection.getresponse().status)
            except OSError as problem:
                statuses.append(repr(problem))
            finally:
                connection.close()

    with server(listening, tmp_path) as first, server(listening, tmp_path):
        askers = [threading.Thread(target=ask) for _ in range(6)]
        for asker in askers:
            asker.start()
        try:
            time.sleep(1)
            before = len(statuses)
            first.terminate()
            status = first.wait(PATIENCE)
            time.sleep(1)
        finally:
            over.set()
            for asker in askers:
                asker.join()
    assert status == -signal.SIGTERM
    assert set(statuses) == {200}
    assert len(statuses) > before > 0


def test_a_server_without_its_settings_says_which():
    bare = {name: value for name, value in os.environ.items() if name not in ("SECRET_KEY", "ALLOWED_HOSTS")}
    done = subprocess.run(
        [sys.executable, "-m", "annotate.serve"],
        cwd=ROOT,
        env={**bare, "DEBUG": "0", "DJANGO_SETTINGS_MODULE": "annotate.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: Set SECRET_KEY and ALLOWED_HOSTS")
