"""The site's figures in Prometheus's format.

Two sources. What a web process does (requests and their times) it counts itself; where several web processes
serve one site, ``PROMETHEUS_MULTIPROC_DIR`` names a folder in which they add up, as prometheus_client defines it.
What the site as a whole has done is read from the database when the figures are asked for
(:mod:`annotate.observe.database`); nothing is counted twice and no worker has to be asked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from django.db import connection
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from annotate.observe.database import DatabaseCollector

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
POOL = (("pool_size", "open"), ("pool_available", "idle"), ("requests_waiting", "waiting"), ("pool_max", "limit"))

# A second series for each count, with the time of its first: nobody reads it, and several processes cannot add it up.
disable_created_metrics()

_own = CollectorRegistry()

REQUESTS = Counter(
    "hone_http_requests",
    "Requests answered, by method, name of the route and status.",
    ["method", "route", "status"],
    registry=_own,
)
REQUEST_SECONDS = Histogram(
    "hone_http_request_duration_seconds",
    "Time to answer a request.",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=_own,
)


class PoolCollector:
    """The pool of database connections of the process that answers, by what is psycopg_pool's word for it."""

    def collect(self) -> Iterator[Metric]:
        """One gauge."""
        family = GaugeMetricFamily(
            "hone_database_pool_connections",
            "Connections of this web process: open, idle, the limit; and threads that wait for one.",
            labels=["state"],
        )
        pool = connection.pool  # type: ignore[attr-defined]  # django-stubs do not know it
        stats = pool.get_stats() if pool else {}
        for key, state in POOL:
            family.add_metric([state], stats.get(key, 0))
        yield family


def scrape(accept: str) -> tuple[bytes, str]:
    """All figures as they are now.

    :param accept: the request's ``Accept`` header, which chooses between Prometheus's two text formats.
    :returns: the body and its content type.
    """
    registry = CollectorRegistry()
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        MultiProcessCollector(registry)
    else:
        registry.register(_own)
    registry.register(DatabaseCollector())
    registry.register(PoolCollector())
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
