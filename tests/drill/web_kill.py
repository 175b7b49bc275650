"""Web servers killed every two seconds for a minute: no acknowledged answer is missing, nothing typed is lost.

Two web servers stand behind one site. Every two seconds the one that has run longer is killed (-9)
and started again. Raters submit all the while and send again what got no answer, with the same uuid,
as the page does. Beside them somebody types in a real Chromium, reloads the page again and again, and
submits.
"""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Error as BrowserError
from playwright.sync_api import Page, expect, sync_playwright

from tests import site
from tests.browser import ARGUMENTS, chromium
from tests.drill.outcome import Outcome
from tests.raters import Rater, members, ranking, sessions

SECONDS = 60.0
EVERY_SECONDS = 2.0
RATERS = 8
ITEMS = 2500
WORDS = "Nothing typed is lost "
RELOADS_AN_ITEM = 3
KEPT_IN_MS = 700
"""What was typed longer ago than this survives; the page writes it down after 400 ms."""


@dataclass
class Load:
    """What the raters were told."""

    acknowledged: set[uuid.UUID] = field(default_factory=set)
    retries: int = 0
    over: bool = False
    problem: BaseException | None = None


@dataclass
class Typed:
    """What somebody typed in the browser, and what became of it."""

    reloads: int = 0
    lost: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)


def drill() -> list[Outcome]:
    """Kill web servers under load and look for every answer and every typed word."""
    with site.fresh_site() as folder:
        from annotate.models import Judgement, JudgementRevision, Submission
        from tests.annotate.factory import collect_items, world

        stage = world(prompts=ITEMS, completions_per_item=3)
        collect_items(stage, samples=3)
        cookies = sessions([*members(stage.project, RATERS), stage.bob])
        load, typed = Load(), Typed()
        with _killed_again_and_again(folder) as (addresses, kills):
            raters = threading.Thread(target=lambda: asyncio.run(_everybody(addresses, cookies[:-1], load)))
            raters.start()
            try:
                _type(addresses[0], cookies[-1], typed)
            finally:
                load.over = True
                raters.join()
        if load.problem is not None:
            raise load.problem
        stored = set(Submission.objects.values_list("uuid", flat=True))
        judgements = Judgement.objects.count()
        texts = list(JudgementRevision.objects.filter(judgement__rater=stage.bob).values_list("rationale", flat=True))
    missing = len(load.acknowledged - stored)
    return [
        Outcome(
            f"web servers killed {len(kills)} times in {SECONDS:.0f} s: acknowledged but missing",
            f"{missing} of {len(load.acknowledged)} ({load.retries} requests sent again)",
            "0",
            met=missing == 0 < min(load.retries, len(load.acknowledged)) and len(kills) == SECONDS / EVERY_SECONDS,
        ),
        Outcome(
            "judgements beside submissions",
            f"{judgements} and {len(stored)}",
            "equal",
            met=judgements == len(stored),
        ),
        Outcome(
            f"typed in Chromium: lost in {typed.reloads} reloads",
            "; ".join([str(len(typed.lost)), *typed.lost[:3]]),
            "0",
            met=not typed.lost and typed.reloads > 0,
        ),
        Outcome(
            "answers submitted in Chromium and stored once, word for word",
            f"{sum(texts.count(text) == 1 for text in typed.sent)} of {len(typed.sent)}",
            "all",
            met=sorted(texts) == sorted(typed.sent) and bool(typed.sent),
        ),
    ]


@contextmanager
def _killed_again_and_again(folder: Path) -> Iterator[tuple[list[str], list[float]]]:
    """Two web servers of which one is killed every two seconds, for a minute; after it they live on."""
    ports = [site.free_port(), site.free_port()]
    servers = [site.start_web(folder, port) for port in ports]
    kills: list[float] = []
    stop = threading.Event()

    def kill() -> None:
        began = time.monotonic()
        while len(kills) * EVERY_SECONDS < SECONDS:
            due = began + (len(kills) + 1) * EVERY_SECONDS
            if stop.wait(max(0.0, due - time.monotonic())):
                return
            turn = len(kills) % len(servers)
            servers[turn].kill()
            servers[turn].wait()
            kills.append(time.monotonic() - began)
            servers[turn] = site.launch_web(folder, ports[turn])

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield [f"http://127.0.0.1:{port}" for port in ports], kills
    finally:
        stop.set()
        killer.join()
        for server in servers:
            _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    server.wait()


async def _everybody(addresses: list[str], cookies: list[dict[str, str]], load: Load) -> None:
    try:
        await asyncio.gather(*(_work(Rater(addresses, c), n, load) for n, c in enumerate(cookies)))
    except BaseException as problem:
        load.problem = problem


async def _work(rater: Rater, number: int, load: Load) -> None:
    while not load.over and (piece := await rater.piece("next")).slot is not None:
        key = uuid.uuid4()
        reply = await rater.submit(piece.slot, key, ranking(piece.letters, number))
        if reply["status"] != 200:
            raise RuntimeError(str(reply))
        load.acknowledged.add(key)
    load.retries += rater.retries
    await rater.close()


def _type(address: str, cookies: dict[str, str], typed: Typed) -> None:
    """Type, reload, look, and submit now and then, for as long as servers are killed."""
    until = time.monotonic() + SECONDS + EVERY_SECONDS
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium("types during the drill"), args=[*ARGUMENTS])
        context = browser.new_context(locale="en-GB", viewport={"width": 1440, "height": 900})
        context.add_cookies([{"name": n, "value": v, "domain": "127.0.0.1", "path": "/"} for n, v in cookies.items()])
        page = context.new_page()
        _load(page, f"{address}/p/garden/rate")
        while time.monotonic() < until or not typed.sent:
            _judge_one(page, f"{address}/p/garden/rate", typed)
        browser.close()


def _judge_one(page: Page, address: str, typed: Typed) -> None:
    written = f"{len(typed.sent)}: "
    field = page.get_by_label("Why, if you like")
    field.fill(written)
    for _reload in range(RELOADS_AN_ITEM):
        field.press("Control+End")
        field.press_sequentially(WORDS, delay=20)
        written += WORDS
        page.wait_for_timeout(KEPT_IN_MS)
        _load(page, address)
        typed.reloads += 1
        if field.input_value() != written:
            typed.lost.append(f"{field.input_value()!r} in place of {written!r}")
            field.fill(written)
    for letter, place in {"A": "1", "B": "2", "C": "3"}.items():
        page.get_by_label(f"Place of answer {letter}").select_option(place)
    page.evaluate("document.querySelector('[data-item]').dataset.sent = 'now'")
    page.get_by_role("button", name="Submit").click()
    if page.get_by_text("Press Submit once more").first.is_visible():
        page.get_by_role("button", name="Submit").click()
    expect(page.locator("[data-item]:not([data-sent])")).to_be_visible(timeout=60_000)
    typed.sent.append(written)


def _load(page: Page, address: str) -> None:
    """Open the rating page, however often that takes."""
    while True:
        try:
            page.goto(address)
            expect(page.locator("article.is-current")).to_be_visible(timeout=5_000)
            return
        except (BrowserError, AssertionError):
            page.wait_for_timeout(200)
