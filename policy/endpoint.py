"""JSON over HTTP from servers that may be slow, busy or gone.

What is worth another try is tried again, after exponentially growing waits with jitter and never before the time that
the server asked for (Retry-After, RFC 9110 section 10.2.3), until a budget of time is spent; what will not get better
by waiting fails at once. Either way one sentence says who was asked and what was answered. The key goes into a header
of requests and nowhere else: it is struck out of whatever a server answers before that is quoted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from rewardmodel.contract import JobError

RETRIED_STATUSES = {408, 409, 425, 429}
"""Statuses below 500 that may pass; from 500 on all may."""
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
ANSWER_BYTES = 16 << 20
QUOTED_CHARACTERS = 300


class EndpointError(JobError):
    """A server did not give what it was asked for; the message is one sentence without a secret.

    :param status: the HTTP status of the last answer, None where there was none.
    """

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status


class _TryAgain(Exception):
    """A failure that may pass."""

    def __init__(self, what: str, status: int | None = None, wait_seconds: float = 0.0) -> None:
        super().__init__(what)
        self.status = status
        self.wait_seconds = wait_seconds


class Endpoint:
    """A server that answers JSON, asked through a client that stays its caller's to close."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        *,
        key: str,
        answer_seconds: float,
        retry_seconds: float,
        on_trouble: Callable[[str], None],
    ) -> None:
        """Ask with a key and with so much patience.

        :param key: sent as a bearer token; empty sends none.
        :param answer_seconds: longest wait for one whole answer, the connection included.
        :param retry_seconds: for so long a request is tried again; then it fails.
        :param on_trouble: told in one sentence of each try that failed and is made again.
        """
        self._client = client
        self._key = key
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._answer_seconds = answer_seconds
        self._retry_seconds = retry_seconds
        self._on_trouble = on_trouble
        self._quiet_until = 0.0

    async def get(self, url: str) -> Any:
        """The JSON at an address.

        :raises EndpointError: when the server refuses, or gives no usable answer in time.
        """
        return await self._ask("GET", url, None)

    async def post(self, url: str, body: dict[str, Any]) -> Any:
        """The JSON that answers some JSON; see :meth:`get`."""
        return await self._ask("POST", url, body)

    async def _ask(self, method: str, url: str, body: dict[str, Any] | None) -> Any:
        began = time.monotonic()
        tries = 0
        while True:
            while (quiet := self._quiet_until - time.monotonic()) > 0:
                await asyncio.sleep(quiet)
            tries += 1
            try:
                return await self._try(method, url, body)
            except _TryAgain as trouble:
                wait = max(_growing_wait(tries), trouble.wait_seconds)
                spent = time.monotonic() - began
                if spent + wait > self._retry_seconds:
                    raise EndpointError(
                        f"{url} gave no usable answer in {tries} tries over {spent:.0f} s; the last time: {trouble}.",
                        trouble.status,
                    ) from None
                # What a busy server asks of one request holds for all of this client's.
                self._quiet_until = max(self._quiet_until, time.monotonic() + trouble.wait_seconds)
                self._on_trouble(f"{url}: {trouble}; trying again in {wait:.1f} s")
                await asyncio.sleep(wait)

    async def _try(self, method: str, url: str, body: dict[str, Any] | None) -> Any:
        try:
            async with (
                asyncio.timeout(self._answer_seconds),
                self._client.stream(method, url, json=body, headers=self._headers) as response,
            ):
                content = await _read(response)
        except httpx2.InvalidURL as problem:
            raise EndpointError(f"{url} is no address: {problem}.") from None
        except TimeoutError:
            raise _TryAgain(f"no whole answer within {self._answer_seconds:.0f} s") from None
        except (httpx2.TransportError, httpx2.DecodingError) as problem:
            raise _TryAgain(f"{type(problem).__name__}{self._quoted(str(problem).encode())}") from None
        status, said = response.status_code, self._quoted(content or response.headers.get("Location", "").encode())
        if status in RETRIED_STATUSES or status >= 500:
            asked = _retry_after(response.headers.get("Retry-After", ""))
            until = f", to be asked again after {asked:.0f} s" if asked else ""
            raise _TryAgain(f"HTTP {status}{said}{until}", status, asked)
        if not response.is_success:
            raise EndpointError(f"{url} answered HTTP {status}{said}.", status)
        if "json" not in (kind := response.headers.get("Content-Type", "")):
            raise EndpointError(f"{url} answered {kind or 'something'} and no JSON{said}.", status)
        try:
            return json.loads(content)
        except ValueError:
            raise _TryAgain(f"an answer that is no JSON{said}", status) from None

    def _quoted(self, content: bytes) -> str:
        """What a server said, as a short quotation after what it is about; empty for nothing."""
        text = content.decode(errors="replace")
        with contextlib.suppress(ValueError, AttributeError):  # not in OpenAI's form: quoted as it is
            answer = json.loads(text)
            problem = answer.get("error", answer)
            text = problem if isinstance(problem, str) else problem.get("message") or problem.get("detail") or text
        shown = str(text).replace(self._key, "[the key]") if self._key else str(text)
        shown = " ".join("".join(c if c.isprintable() else " " for c in shown).split()).rstrip(".")
        return f": “{shown[:QUOTED_CHARACTERS]}”" if shown else ""


async def _read(response: httpx2.Response) -> bytes:
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > ANSWER_BYTES:
            raise EndpointError(f"{response.url} answered more than {ANSWER_BYTES >> 20} MiB.", response.status_code)
    return bytes(content)


def _growing_wait(tries: int) -> float:
    """Seconds before the next try, drawn from the upper half of a span that doubles with each try."""
    return min(FIRST_WAIT_SECONDS * 2.0 ** (tries - 1), LONGEST_WAIT_SECONDS) * random.uniform(0.5, 1.0)


def _retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for, 0 for none; it holds a number of seconds or a date."""
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
