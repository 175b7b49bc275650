"""Servers of OpenAI's protocol for tests: one that answers by a script, faults included, and vLLM's own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from policy.engines.vllm import ENVIRONMENT

START_SECONDS = 300


def chat_completion(text: str = "Fine.", tokens: int = 2, **changes: Any) -> dict[str, Any]:
    """A chat completion as a server without additions gives it."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", **changes}
    return {"object": "chat.completion", "choices": [choice], "usage": {"completion_tokens": tokens}}


@dataclass(frozen=True)
class Reply:
    """What a scripted server does with one request."""

    status: int = 200
    body: Any = field(default_factory=chat_completion)
    """Sent as JSON, bytes as they are; a function makes it of the request's body."""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds before the answer begins."""
    byte_seconds: float = 0.0
    """Seconds between the bytes of the answer."""
    reset_after: int | None = None
    """Bytes of the answer after which the connection is reset."""


@dataclass(frozen=True)
class Asked:
    """A request that a scripted server got."""

    at: float
    path: str
    headers: dict[str, str]
    body: Any


class ScriptedServer:
    """Answers chat completions on loopback: by its script while that lasts, then well."""

    def __init__(self) -> None:
        self.script: deque[Reply] = deque()
        self.well = Reply()
        self.models: Reply = Reply(body={"data": [{"id": "served", "owned_by": "someone"}]})
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                scripted._answer(self, None)

            def do_POST(self) -> None:
                scripted._answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def chats(self) -> list[Asked]:
        """The requests for chat completions."""
        return [asked for asked in self.asked if asked.path.endswith("/chat/completions")]

    def _answer(self, handler: BaseHTTPRequestHandler, body: Any) -> None:
        with self._lock:
            self.asked.append(Asked(time.monotonic(), handler.path, dict(handler.headers), body))
            reply = self.models if body is None else self.script.popleft() if self.script else self.well
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            time.sleep(reply.delay)
            with contextlib.suppress(ConnectionError):
                _send(handler, reply, reply.body(body) if callable(reply.body) else reply.body)
        finally:
            with self._lock:
                self._at_once -= 1


def _send(handler: BaseHTTPRequestHandler, reply: Reply, body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(reply.status)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content))}.items():
        handler.send_header(name, reply.headers.get(name, value))
    for name in reply.headers.keys() - {"Content-Type", "Content-Length"}:
        handler.send_header(name, reply.headers[name])
    handler.end_headers()
    if reply.byte_seconds:
        for byte in content:
            handler.wfile.write(bytes([byte]))
            time.sleep(reply.byte_seconds)
    elif reply.reset_after is not None:
        handler.wfile.write(content[: reply.reset_after])
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
        handler.close_connection = True
    else:
        handler.wfile.write(content)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def vllm_server(model: Path, log: Path, key: str) -> Iterator[str]:
    """vLLM's own server with a model folder, served by the folder's name.

    :param key: what it wants to be asked with.
    :returns: its address up to and including /v1.
    """
    base_url = f"http://127.0.0.1:{(port := free_port())}/v1"
    settings = {
        "model": str(model),
        "served-model-name": model.name,
        "host": "127.0.0.1",
        "port": str(port),
        "api-key": key,
        "dtype": "float32",
        "max-model-len": "256",
        "max-num-seqs": "16",
        "kv-cache-memory-bytes": str(1 << 26),
        "block-size": "32",
        "logprobs-mode": "processed_logprobs",
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", value)]
    environment = {k: v for k, v in ENVIRONMENT.items() if k != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    with open(log, "w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager", *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            # Even in eager mode vLLM compiles some small functions, which takes a compiler.
            env=os.environ | environment | {"TORCHDYNAMO_DISABLE": "1"},
        )
    try:
        _wait_for(f"{base_url}/models", key, server, log)
        yield base_url
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, 9)
        server.wait()


def _wait_for(url: str, key: str, server: subprocess.Popen[bytes], log: Path) -> None:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError(f"vLLM's server did not start:\n{log.read_text(errors='replace')[-4000:]}")
