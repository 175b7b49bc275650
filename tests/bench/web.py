"""How fast rating and the pages around it are: raters in a closed loop, small pools and one of a million items.

The bars are those of a rater's day: waiting is noticed from a few hundred milliseconds on. Cited from the
same kind of machine (2 cores, K = 4 rankings, 10,000 tasks, client on the same cores): Label Studio 1.23.2
needs 1,700 ms for the next item and 1,800 ms to submit at 32 raters and takes 11 answers a second, Potato
2.12.1 1,600 to 2,000 and 830 to 1,040 ms and 13 to 15, with 30 % of its calls failing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests import site
from tests.bench.bar import Bar
from tests.bench.closed_loop import Processors, Waits, drive, p95_ms
from tests.bench.pools import fill

RATERS = 32
WEB_SERVERS = 2
SMALL, LARGE = 10_000, 1_000_000
ANSWERED_EACH = 50_000
OVERLAP = 3
RANDOM_SHARE = 0.2
SECONDS, WARM_UP = 20.0, 4.0
NEXT_MS = SUBMIT_MS = 400.0
ANSWERS_A_SECOND = 60.0
NEXT_ALONE_MS = 40.0
GROWTH = 1.5
PAGE_MS = 100.0
PAGE_REQUESTS = 60


@dataclass(frozen=True)
class Measured:
    """Waits of raters in a pool: of one alone, and of all together."""

    alone: Waits
    together: Waits
    milliseconds: dict[str, float]
    """Processor time of an answer with all together, by part of the site."""


def run() -> list[Bar]:
    """The figures of a small pool and the pages, then of a large pool beside it."""
    with site.fresh_site() as folder:
        from annotate.models import Membership
        from annotate.services.projects import create_project
        from annotate.services.standing import count_again
        from tests.annotate.factory import GARDEN, model_folder, world
        from tests.raters import members, sessions

        small = world(prompts=0, overlap=OVERLAP, random_share=RANDOM_SHARE).project
        raters = members(small, RATERS)
        site.set_passwords()
        for rater in raters:
            rater.refresh_from_db()  # a session ends with the password under which it began
        cookies = sessions(raters)
        fill(small, items=SMALL)
        count_again()
        with _web_servers(folder) as servers:
            in_small = _measure(folder, servers, cookies, "garden")
            pages = _pages(next(iter(servers)))
            large = create_project(
                description=GARDEN,
                slug="estate",
                base_model=str(model_folder()),
                actor=None,
                overlap=OVERLAP,
                random_share=RANDOM_SHARE,
            )
            role = Membership.Role.RATER
            Membership.objects.bulk_create(Membership(user=r, project=large, role=role) for r in raters)
            fill(large, items=LARGE, raters=raters, answered_each=ANSWERED_EACH)
            count_again()
            in_large = _measure(folder, servers, cookies, "estate")
    return [*_bars_of_small(in_small), *pages, *_bars_of_growth(in_small, in_large)]


@contextmanager
def _web_servers(folder: Path) -> Iterator[dict[str, psutil.Process]]:
    """Web servers by address."""
    servers = {}
    try:
        for _server in range(WEB_SERVERS):
            port = site.free_port()
            servers[f"http://127.0.0.1:{port}"] = psutil.Process(site.start_web(folder, port).pid)
        yield servers
    finally:
        for server in servers.values():
            server.terminate()
            server.wait()


def _measure(
    folder: Path, servers: dict[str, psutil.Process], cookies: Sequence[dict[str, str]], slug: str
) -> Measured:
    postmaster = psutil.Process(int((folder / "pg" / "data" / "postmaster.pid").read_text().split("\n", 1)[0]))
    addresses = [f"{address}/p/{slug}/" for address in servers]
    alone = drive(addresses, cookies[:1], seconds=SECONDS, warm_up=WARM_UP)
    processors = Processors(web=list(servers.values()), PostgreSQL=[postmaster])
    together = drive(addresses, cookies, seconds=SECONDS, warm_up=WARM_UP)
    answers = len(together.submit) * (SECONDS + WARM_UP) / SECONDS
    milliseconds = {name: 1000 * seconds / answers for name, seconds in processors.spent().items()}
    measured = Measured(alone, together, milliseconds)
    print(
        f"{slug}: {_line(alone)} alone; {_line(together)} together; processor time an answer: {milliseconds}",
        flush=True,
    )
    return measured


def _line(waits: Waits) -> str:
    return (
        f"next {p95_ms(waits.next):.0f} ms, submit {p95_ms(waits.submit):.0f} ms (p95), "
        f"{waits.answers_per_second:.1f} answers/s"
    )


def _bars_of_small(measured: Measured) -> list[Bar]:
    where = f"{SMALL:,} items"
    together = measured.together
    return [
        Bar(f"next, p95 of {RATERS} raters, {where}", p95_ms(together.next), "ms", NEXT_MS),
        Bar(f"submit, p95 of {RATERS} raters, {where}", p95_ms(together.submit), "ms", SUBMIT_MS),
        Bar(f"answers of {RATERS} raters, {where}", together.answers_per_second, "a second", at_least=ANSWERS_A_SECOND),
        Bar(f"next, p95 of one rater, {where}", p95_ms(measured.alone.next), "ms", NEXT_ALONE_MS),
    ]


def _bars_of_growth(small: Measured, large: Measured) -> list[Bar]:
    what = f"{LARGE:,} items, {ANSWERED_EACH:,} of them answered by each rater, to {SMALL:,}"
    pairs = {
        f"next, p95 of {RATERS} raters": (large.together.next, small.together.next),
        f"submit, p95 of {RATERS} raters": (large.together.submit, small.together.submit),
        "next, p95 of one rater": (large.alone.next, small.alone.next),
        "submit, p95 of one rater": (large.alone.submit, small.alone.submit),
    }
    return [Bar(f"{name}: {what}", p95_ms(new) / p95_ms(old), "times", GROWTH) for name, (new, old) in pairs.items()]


def _pages(address: str) -> list[Bar]:
    rater, lead = site.signed_in(address, "bob"), site.signed_in(address, "alice")
    return [
        Bar("rating page, median", _median_ms(rater, "/p/garden/rate"), "ms", PAGE_MS),
        Bar("project page of the lead, median", _median_ms(lead, "/p/garden/"), "ms", PAGE_MS),
    ]


def _median_ms(client: httpx.Client, path: str) -> float:
    times = []
    for _request in range(PAGE_REQUESTS):
        began = time.perf_counter()
        client.get(path).raise_for_status()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)
