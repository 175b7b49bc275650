"""How fast the pages of a project with 1,000 items answer one client."""

from __future__ import annotations

import statistics
import time

import httpx

from tests import site
from tests.bench.bar import Bar

ITEMS = 1000
REQUESTS = 60
WARM_UP = 10
PAGE_MS = 100.0


def run() -> list[Bar]:
    """Median milliseconds of the pages that a rater and a lead look at most."""
    with site.fresh_site() as folder:
        from tests.annotate.factory import collect_items, world

        collect_items(world(prompts=ITEMS))
        site.set_passwords()
        with site.web_server(folder) as address:
            rater, lead = site.signed_in(address, "bob"), site.signed_in(address, "alice")
            return [
                Bar("rating page, median", _median_ms(rater, "/p/garden/rate"), "ms", PAGE_MS),
                Bar("project page of the lead, median", _median_ms(lead, "/p/garden/"), "ms", PAGE_MS),
            ]


def _median_ms(client: httpx.Client, path: str) -> float:
    times = []
    for number in range(WARM_UP + REQUESTS):
        began = time.perf_counter()
        client.get(path).raise_for_status()
        if number >= WARM_UP:
            times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)
