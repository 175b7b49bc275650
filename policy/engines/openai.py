"""A server that speaks OpenAI's protocol: vLLM's own, another program's, or a hosted service.

It is asked by chat, one request an answer, because a server knows its model's chat template and tokenizer and nobody
else can be sure of them. A vLLM server tells the tokens that it drew, and their log-probabilities are taken where they
are those of the distribution that was sampled (``--logprobs-mode processed_logprobs``), which is found out by asking.

Two things come from the environment of whoever runs the site and never from a job: the key, and the one address that it
is sent to, which may be private. Any other address is connected to under :mod:`policy.netguard` and gets no key.
"""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
from anyio.from_thread import start_blocking_portal

from policy.contract import EngineConfig
from policy.endpoint import RETRIED_STATUSES, Endpoint, EndpointError
from policy.engines.base import WAIT_SECONDS, Capabilities, Completion, OnWait, Request
from policy.engines.openai_protocol import body, completion
from policy.netguard import GuardedTransport, allowed_networks
from rewardmodel.contract import JobError

ADDRESS_VARIABLE = "HONE_OPENAI_BASE_URL"
KEY_VARIABLE = "HONE_OPENAI_API_KEY"
MODEL_VARIABLE = "HONE_OPENAI_MODEL"
NAMES_SHOWN = 10
VERSION_CHARACTERS = 200
NUCLEUS_OF_ONE = 1e-6
CERTAIN_NATS = 1e-4
"""The only token of a nucleus has log-probability 0, unless the log-probability leaves the nucleus out."""

Work = Callable[[Endpoint, Callable[[Any], None]], Awaitable[None]]
"""Asks an endpoint and puts what it finds."""


class OpenAIEngine:
    """A server's model, asked over HTTP with a limit on the requests under way."""

    name = "openai"

    def __init__(self, config: EngineConfig, log: Path) -> None:
        """Take the address; nothing is asked before :meth:`wait_until_ready`.

        :param log: file that gets a line for each try that failed.
        :raises JobError: when the key cannot be one.
        """
        self.version = ""
        self.capabilities = Capabilities(token_ids=False, logprobs=False, swaps_weights=False)
        self._config = config
        self._log = log
        self._is_own = config.base_url == os.environ.get(ADDRESS_VARIABLE, "").strip().rstrip("/")
        self._key = os.environ.get(KEY_VARIABLE, "").strip() if self._is_own else ""
        if not all("!" <= character <= "~" for character in self._key):
            raise JobError(f"{KEY_VARIABLE} is no key: it holds a space or a character that is not ASCII.")
        self._is_vllm = False
        self._served: dict[str, dict[str, Any]] = {}
        self._trouble = ""

    def wait_until_ready(self, on_wait: OnWait | None = None) -> None:
        """Find out who answers and what it tells; see :meth:`policy.engines.base.Engine.wait_until_ready`.

        :raises JobError: when the server cannot be reached, refuses the key or does not serve the model.
        """
        if not self.version:
            [(self.version, self.capabilities)] = self._results(self._look_around, on_wait)

    def stream(self, requests: Sequence[Request], on_wait: OnWait | None = None) -> Iterator[tuple[int, Completion]]:
        """Draw answers; see :meth:`policy.engines.base.Engine.stream`."""
        self.wait_until_ready(on_wait)

        async def answer_all(endpoint: Endpoint, put: Callable[[Any], None]) -> None:
            waiting = iter(enumerate(requests))

            async def answer_one_by_one() -> None:
                for index, request in waiting:
                    put((index, await self._ask(endpoint, request, logprobs=self.capabilities.logprobs)))
                    self._trouble = ""

            async with anyio.create_task_group() as group:
                for _ in range(min(self._config.max_sequences, len(requests))):
                    group.start_soon(answer_one_by_one)

        yield from self._results(answer_all, on_wait)

    def load_weights(self, folder: Path, version: int = 0) -> None:
        """Refuse: a server's weights are its own.

        :raises JobError: always.
        """
        raise JobError(f"The server {self._config.base_url} cannot be given the weights in {folder}.")

    def close(self) -> None:
        """Nothing is held between calls."""

    def _results(self, work: Work, on_wait: OnWait | None) -> Iterator[Any]:
        """Yield what some work puts, while it goes on in a thread with an event loop of its own.

        When the caller goes away, the work is cancelled and its connections are closed.
        """
        results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        end = object()
        with start_blocking_portal() as portal:
            task = portal.start_task_soon(self._with_endpoint, work, results.put)
            task.add_done_callback(lambda _: results.put(end))
            try:
                while True:
                    try:
                        result = results.get(timeout=WAIT_SECONDS)
                    except queue.Empty:
                        if on_wait is not None:
                            on_wait(self._trouble)
                        continue
                    if result is end:
                        break
                    yield result
                task.result()
            finally:
                task.cancel()

    async def _with_endpoint(self, work: Work, put: Callable[[Any], None]) -> None:
        config = self._config
        async with httpx2.AsyncClient(
            timeout=httpx2.Timeout(config.answer_seconds, connect=config.connect_seconds),
            limits=httpx2.Limits(max_connections=config.max_sequences),
            transport=None if self._is_own else GuardedTransport(allowed_networks()),
        ) as client:
            endpoint = Endpoint(
                client,
                key=self._key,
                answer_seconds=config.answer_seconds,
                retry_seconds=config.retry_seconds,
                on_trouble=self._note,
            )
            try:
                await work(endpoint, put)
            except EndpointError as problem:
                raise self._advised(problem) from None
            except ExceptionGroup as group:
                raise self._advised(group.exceptions[0]) from None

    async def _look_around(self, endpoint: Endpoint, put: Callable[[Any], None]) -> None:
        """Find out who answers there, by a request for one token, and what it tells of its answers."""
        base, model = self._config.base_url, self._config.served_model
        self._served = await _models(endpoint, base)
        self._is_vllm = self._served.get(model, {}).get("owned_by") == "vllm"
        probe = Request([], [], temperature=1.0, top_p=NUCLEUS_OF_ONE, max_tokens=1, seed=0)
        found = await self._ask(endpoint, probe, logprobs=True)
        who = await _vllm_version(endpoint, base) if self._is_vllm else urlsplit(base).hostname
        capabilities = Capabilities(
            token_ids=bool(found.token_ids),
            logprobs=bool(found.logprobs) and abs(found.logprobs[0]) < CERTAIN_NATS,
            swaps_weights=False,
        )
        put((f"{who}: {model}"[:VERSION_CHARACTERS], capabilities))

    async def _ask(self, endpoint: Endpoint, request: Request, *, logprobs: bool) -> Completion:
        url = f"{self._config.base_url}/chat/completions"
        answer = await endpoint.post(
            url, body(request, self._config.served_model, is_vllm=self._is_vllm, logprobs=logprobs)
        )
        try:
            return completion(answer)
        except ValueError as problem:
            raise EndpointError(f"{url} answered something that is no chat completion ({problem}).") from None

    def _advised(self, problem: Exception) -> Exception:
        """An endpoint's error with what to do about it, where that is known."""
        if not isinstance(problem, EndpointError):
            return problem
        return JobError(f"{problem} {_advice(problem.status, list(self._served))}".strip())

    def _note(self, trouble: str) -> None:
        self._trouble = trouble
        with open(self._log, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {trouble}\n")


async def _models(endpoint: Endpoint, base_url: str) -> dict[str, dict[str, Any]]:
    """The models that a server lists, by name; none where it does not list them."""
    try:
        listed = await endpoint.get(f"{base_url}/models")
        return {entry["id"]: entry for entry in listed["data"]}
    except EndpointError as problem:
        if problem.status not in (404, 405):
            raise
    except (KeyError, TypeError):
        pass
    return {}


async def _vllm_version(endpoint: Endpoint, base_url: str) -> str:
    """Name and version of a vLLM server, without the version where something before the server hides it."""
    try:
        return f"vllm {(await endpoint.get(base_url.removesuffix('/v1') + '/version'))['version']}"
    except EndpointError as problem:
        if problem.status is None:
            raise
    except (KeyError, TypeError):
        pass
    return "vllm"


def _advice(status: int | None, served: Sequence[str]) -> str:
    """What to do about the status of a server's last answer; None where none came."""
    if status is None:
        return f"Is the server running, and is {ADDRESS_VARIABLE} its address?"
    if status in (401, 403):
        return f"Set {KEY_VARIABLE} to a key that may use this model, in the environment of the workers."
    if status == 404 and served:
        return f"Set {MODEL_VARIABLE} to a model that is served there: {', '.join(served[:NAMES_SHOWN])}."
    if status < 400 or status == 404:
        return f"{ADDRESS_VARIABLE} must be the server's address up to and including /v1."
    if status in RETRIED_STATUSES or status >= 500:
        return "Resume the run once the server answers; the answers so far are kept."
    return ""
