"""Raters without think time: each submits, opens the item held ahead, and fetches the next one, as the page does.

The clients run on the same machine as the site. Beside what a rater waits for, the processor time that
each part of the site spends on one answer is measured: it says where a miss comes from, on a busy
machine too.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import psutil

DESK_DATA = re.compile(r'id="desk-data"[^>]*>(.*?)</script>', re.DOTALL)
LETTER = re.compile(r'data-answer="([A-I])"')
CRITERION = re.compile(r'data-criterion="(\d+)"')


@dataclass
class Waits:
    """Seconds that raters waited, and how many answers they gave."""

    next: list[float] = field(default_factory=list)
    submit: list[float] = field(default_factory=list)
    seconds: float = 0.0
    failed: int = 0

    @property
    def answers_per_second(self) -> float:
        """Accepted answers a second."""
        return len(self.submit) / self.seconds


def p95_ms(seconds: Sequence[float]) -> float:
    """The 95th percentile, in milliseconds."""
    return statistics.quantiles(seconds, n=20, method="inclusive")[-1] * 1000


def drive(addresses: Sequence[str], cookies: Sequence[dict[str, str]], *, seconds: float, warm_up: float) -> Waits:
    """Let raters work for some seconds.

    :param addresses: of the project, at each of the web servers; a rater stays with one.
    :param cookies: one signed-in session for each rater.
    :param warm_up: seconds before the measured ones.
    """
    return asyncio.run(_drive(addresses, cookies, seconds, warm_up))


async def _drive(addresses: Sequence[str], cookies: Sequence[dict[str, str]], seconds: float, warm_up: float) -> Waits:
    waits = Waits()
    began = time.perf_counter() + warm_up
    raters = [_work(addresses[n % len(addresses)], c, began, began + seconds, waits) for n, c in enumerate(cookies)]
    await asyncio.gather(*raters)
    waits.seconds = seconds
    return waits


async def _work(address: str, cookies: dict[str, str], begin: float, end: float, waits: Waits) -> None:
    headers = {"X-CSRFToken": cookies["csrftoken"], "Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())}
    async with aiohttp.ClientSession(address, headers=headers, cookie_jar=aiohttp.DummyCookieJar()) as web:
        piece = await _piece(web, "rate/next")
        while time.perf_counter() < end:
            asked = time.perf_counter()
            ahead = await _piece(web, "rate/ahead")
            fetched = time.perf_counter()
            moved = await _submit(web, piece, ahead["slot"])
            sent = time.perf_counter()
            if begin <= asked and sent <= end:
                waits.next.append(fetched - asked)
                waits.submit.append(sent - fetched)
                waits.failed += not moved
            piece = ahead if moved else await _piece(web, "rate/next")


async def _piece(web: aiohttp.ClientSession, name: str) -> dict[str, Any]:
    async with web.get(name) as response:
        html = await response.text()
    data = DESK_DATA.search(html)
    if response.status != 200 or data is None:
        raise RuntimeError(f"{name}: {response.status} {html[:500]}")
    return {
        "slot": json.loads(data.group(1))["slot"],
        "letters": LETTER.findall(html),
        "criteria": sorted(set(CRITERION.findall(html))),
    }


async def _submit(web: aiohttp.ClientSession, piece: dict[str, Any], ahead: int) -> bool:
    scores = {letter: dict.fromkeys(piece["criteria"], 3) for letter in piece["letters"]}
    ranks = {letter: place for place, letter in enumerate(piece["letters"], start=1)}
    answer = {"scores": scores, "ranks": ranks, "active_ms": 1000}
    body = {"uuid": str(uuid.uuid4()), "version": None, "answer": answer, "ahead": ahead}
    async with web.post(f"slots/{piece['slot']}/submit", json=body) as response:
        receipt = await response.json()
    if response.status != 200 or receipt["outcome"] != "accepted":
        raise RuntimeError(f"submit: {response.status} {receipt}")
    return bool(receipt["opened"])


class Processors:
    """Processor time that groups of processes spend between two looks."""

    def __init__(self, **groups: Sequence[psutil.Process]) -> None:
        self._groups = groups
        self._before = {name: _spent(processes) for name, processes in groups.items()}

    def spent(self) -> dict[str, float]:
        """Seconds since this was made, by group."""
        return {name: _spent(processes) - self._before[name] for name, processes in self._groups.items()}


def _spent(processes: Sequence[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        for each in [process, *process.children(recursive=True)]:
            times = each.cpu_times()
            total += times.user + times.system
    return total
