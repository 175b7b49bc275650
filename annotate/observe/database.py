"""Figures of the whole site, read from the database when Prometheus asks: few queries, no counters kept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Case, CharField, Count, Exists, F, Min, OuterRef, Q, Sum, Value, When
from django.db.models.functions import Extract
from django.utils import timezone
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from annotate.models import Lease, Run, Skip, Slot, Submission

DURATION_BUCKETS = (10, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 48 * 3600)
"""Seconds; from an evaluation of a tiny model to days of PPO."""


class DatabaseCollector:
    """What the records say, one query a family or two."""

    def collect(self) -> Iterator[Metric]:
        """Every family, at this moment."""
        now = timezone.now()
        yield _slots(now)
        yield _lost_leases()
        yield _submissions()
        yield from _runs(now)
        yield _durations()
        yield _throughput()
        yield from _connections()


def _slots(now: datetime) -> Metric:
    family = GaugeMetricFamily(
        "hone_slots",
        "Room for judgements, by project, purpose and state; expired: leased, and the lease has run out.",
        labels=["project", "purpose", "state"],
    )
    expired = When(state=Slot.State.LEASED, lease_expires_at__lt=now, then=Value("expired"))
    shown = Case(expired, default=F("state"), output_field=CharField())
    rows = Slot.objects.values_list("project__slug", "purpose", shown)
    for project, purpose, state, count in rows.annotate(count=Count("pk")).order_by():
        family.add_metric([project, purpose, state], count)
    return family


def _lost_leases() -> Metric:
    family = GaugeMetricFamily(
        "hone_leases_lost",
        "Leases that ran out and whose slot is no longer the rater's, who did not skip it.",
        labels=["project"],
    )
    skipped = Skip.objects.filter(slot=OuterRef("slot"), rater=OuterRef("rater"))
    gone = Lease.objects.filter(~Q(slot__rater=F("rater")) | Q(slot__rater=None)).exclude(Exists(skipped))
    for project, count in gone.values_list("slot__project__slug").annotate(count=Count("pk")).order_by():
        family.add_metric([project], count)
    return family


def _submissions() -> Metric:
    family = CounterMetricFamily(
        "hone_submissions",
        "Submissions that were stored; late: the slot had gone to somebody else.",
        labels=["project", "outcome"],
    )
    rows = Submission.objects.values_list("slot__project__slug", "outcome")
    for project, outcome, count in rows.annotate(count=Count("pk")).order_by():
        family.add_metric([project, outcome], count)
    return family


def _runs(now: datetime) -> Iterator[Metric]:
    states = GaugeMetricFamily("hone_runs", "Runs, by kind and state.", labels=["kind", "state"])
    queued = GaugeMetricFamily(
        "hone_run_oldest_queued_age_seconds", "Time since the oldest queued run was asked for.", labels=["kind"]
    )
    silent = GaugeMetricFamily(
        "hone_run_heartbeat_age_seconds", "Longest silence of the supervisor of a running run.", labels=["kind"]
    )
    rows = Run.objects.values_list("kind", "state")
    for kind, state, count, asked, beat in rows.annotate(
        count=Count("pk"), asked=Min("created_at"), beat=Min("heartbeat_at")
    ).order_by():
        states.add_metric([kind, state], count)
        if state == Run.State.QUEUED:
            queued.add_metric([kind], (now - asked).total_seconds())
        if state == Run.State.RUNNING and beat is not None:
            silent.add_metric([kind], (now - beat).total_seconds())
    yield from (states, queued, silent)


def _durations() -> Metric:
    family = HistogramMetricFamily(
        "hone_run_duration_seconds", "Time from the start of the last attempt to success.", labels=["kind"]
    )
    ended = Run.objects.filter(state=Run.State.SUCCEEDED, started_at__isnull=False)
    seconds = Extract(F("finished_at") - F("started_at"), "epoch")
    within = {f"le_{limit}": Count("pk", filter=Q(seconds__lte=limit)) for limit in DURATION_BUCKETS}
    limits = [*(str(float(limit)) for limit in DURATION_BUCKETS), "+Inf"]
    rows = ended.annotate(seconds=seconds).order_by().values("kind")
    rows = rows.annotate(total=Sum("seconds"), count=Count("pk"), **within)
    for kind, total, *counts in rows.values_list("kind", "total", *within, "count"):
        family.add_metric([kind], list(zip(limits, counts, strict=True)), float(total))
    return family


def _throughput() -> Metric:
    family = GaugeMetricFamily(
        "hone_engine_tokens_per_second",
        "Tokens that the engine wrote a second in the last successful run of the kind.",
        labels=["project", "kind"],
    )
    kinds = [Run.Kind.GENERATE, Run.Kind.EVALUATE, Run.Kind.IMPROVE]
    last = (
        Run.objects.filter(state=Run.State.SUCCEEDED, kind__in=kinds, result__isnull=False)
        .order_by("project", "kind", "-finished_at")
        .distinct("project", "kind")
    )
    for project, kind, result in last.values_list("project__slug", "kind", "result__metrics"):
        if speed := _speed(result or {}):
            family.add_metric([project, kind], speed)
    return family


def _speed(metrics: dict[str, Any]) -> float | None:
    """Tokens a second by a run's own metrics; PPO's are of its updates, which tell mean length and samples."""
    if "updates" not in metrics:
        return metrics.get("tokens_per_second")
    seconds = sum(update["seconds_generate"] for update in metrics["updates"])
    tokens = sum(update["samples"] * update["length"] for update in metrics["updates"])
    return tokens / seconds if seconds else None


def _connections() -> Iterator[Metric]:
    used = GaugeMetricFamily(
        "hone_database_connections", "Connections to the site's database, by state.", labels=["state"]
    )
    limit = GaugeMetricFamily("hone_database_connections_limit", "Connections that the server takes in all.")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(state, 'unknown'), count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() GROUP BY 1"
        )
        for state, count in cursor.fetchall():
            used.add_metric([state], count)
        cursor.execute("SELECT current_setting('max_connections')::int")
        limit.add_metric([], cursor.fetchone()[0])
    yield from (used, limit)
