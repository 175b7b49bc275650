"""Figures for Prometheus: who may read them, and that each is what the records say."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from annotate.models import Membership, Run, Slot
from annotate.observe.metrics import scrape
from annotate.services.claiming import claim, skip
from annotate.services.judging import submit
from tests.annotate.factory import collect_items, run, user, world
from tests.annotate.lineage import judge

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-of-some-length"
PLAIN = "text/plain;version=0.0.4"

Read = Callable[..., float | None]


@pytest.fixture
def read() -> Read:
    """A sample's value now, by name and labels; None where there is no such sample."""

    def value(name: str, **labels: str) -> float | None:
        body, _type = scrape(PLAIN)
        for family in text_string_to_metric_families(body.decode()):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return None

    return value


def test_without_a_token_in_the_settings_there_is_no_such_page(client: Client):
    assert client.get("/metrics", headers={"authorization": "Bearer "}).status_code == 404


@override_settings(HONE_METRICS_TOKEN=TOKEN)
@pytest.mark.parametrize("header", ["", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer \u00e9"])
def test_a_wrong_token_opens_nothing(client: Client, header: str):
    response = client.get("/metrics", headers={"authorization": header})
    assert response.status_code == 401
    assert b"hone_" not in response.content


@override_settings(HONE_METRICS_TOKEN=TOKEN)
def test_the_token_opens_figures_that_are_not_kept_by_caches(client: Client):
    response = client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}", "accept": PLAIN})
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain")
    assert "no-store" in response["Cache-Control"]
    names = {family.name for family in text_string_to_metric_families(response.content.decode())}
    assert {"hone_http_requests", "hone_slots", "hone_runs", "hone_database_pool_connections"} <= names


def test_slots_are_counted_by_purpose_and_state_with_expired_ones_apart(read: Read):
    stage = world()  # three prompts, one item and slot each
    collect_items(stage)
    judge(stage)
    claim(user=stage.bob, project=stage.project)
    labels = {"project": "garden", "purpose": "collect"}
    counts = [read("hone_slots", state=state, **labels) for state in ("free", "leased", "expired", "done")]
    assert counts == [1, 1, None, 1]
    Slot.objects.filter(state="leased").update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    counts = [read("hone_slots", state=state, **labels) for state in ("free", "leased", "expired", "done")]
    assert counts == [1, None, 1, 1]


def test_a_lease_is_lost_when_somebody_else_takes_the_slot_and_not_by_a_skip(read: Read):
    stage = world()
    collect_items(stage)
    dora = user("dora")
    Membership.objects.create(user=dora, project=stage.project, role=Membership.Role.RATER)
    skipped = claim(user=stage.bob, project=stage.project)
    assert skipped is not None
    skip(user=stage.bob, slot=skipped, reason="Not my language.")
    late = claim(user=stage.bob, project=stage.project)
    assert late is not None
    assert read("hone_leases_lost", project="garden") is None
    Slot.objects.filter(pk=late.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=1), priority=-1)
    taken = claim(user=dora, project=stage.project)
    assert taken is not None
    assert taken.pk == late.pk
    submit(user=stage.bob, slot=late, uuid=uuid.uuid4(), raw={"both_bad": True})
    judge(stage)
    assert read("hone_leases_lost", project="garden") == 1
    assert read("hone_submissions_total", project="garden", outcome="late") == 1
    assert read("hone_submissions_total", project="garden", outcome="accepted") == 1


def test_runs_are_counted_timed_and_their_silence_measured(read: Read):
    project, now = world().project, timezone.now()

    def ended(state: str, seconds: float) -> None:
        times = {"started_at": now - timedelta(seconds=seconds), "finished_at": now}
        run(project, "improve", state=state, attempt=1, **times)

    for state, seconds in [("succeeded", 50), ("succeeded", 400), ("failed", 5)]:
        ended(state, seconds)
    run(project, "generate", state="running", heartbeat_at=now - timedelta(seconds=70))
    run(project, "generate", state="running", heartbeat_at=now)
    run(project, "evaluate")
    Run.objects.filter(kind="evaluate").update(created_at=now - timedelta(minutes=5))
    assert read("hone_runs", kind="improve", state="succeeded") == 2
    assert read("hone_runs", kind="improve", state="failed") == 1
    assert read("hone_runs", kind="generate", state="running") == 2
    buckets = [read("hone_run_duration_seconds_bucket", kind="improve", le=le) for le in ("10.0", "60.0", "900.0")]
    assert buckets == [0, 1, 2]
    assert read("hone_run_duration_seconds_count", kind="improve") == 2
    assert read("hone_run_duration_seconds_sum", kind="improve") == pytest.approx(450)
    assert read("hone_run_heartbeat_age_seconds", kind="generate") == pytest.approx(70, abs=10)
    assert read("hone_run_oldest_queued_age_seconds", kind="evaluate") == pytest.approx(300, abs=10)


def test_the_engines_speed_is_that_of_the_last_successful_run(read: Read):
    project, now = world().project, timezone.now()

    def ended(kind: str, minutes: int, metrics: dict) -> None:
        times = {"started_at": now - timedelta(hours=1), "finished_at": now - timedelta(minutes=minutes)}
        run(project, kind, state="succeeded", result={"metrics": metrics}, **times)

    ended("generate", 9, {"tokens_per_second": 50.0})
    ended("generate", 5, {"tokens_per_second": 214.5})
    updates = [
        {"samples": 64, "length": 40.0, "seconds_generate": 10.0},
        {"samples": 64, "length": 60.0, "seconds_generate": 22.0},
    ]
    ended("improve", 1, {"updates": updates})
    assert read("hone_engine_tokens_per_second", project="garden", kind="generate") == 214.5
    assert read("hone_engine_tokens_per_second", project="garden", kind="improve") == (2560 + 3840) / 32


def test_requests_are_counted_by_the_routes_name_and_not_by_address(client: Client, read: Read):
    stage = world()
    client.force_login(stage.alice)
    labels = {"method": "GET", "route": "prompt"}
    before = read("hone_http_requests_total", status="200", **labels) or 0
    for prompt in stage.project.prompts.all():
        client.get(reverse("prompt", args=["garden", prompt.pk]))
    assert read("hone_http_requests_total", status="200", **labels) == before + 3
    assert (read("hone_http_request_duration_seconds_count", **labels) or 0) >= 3
    client.get("/made-up-address")
    client.generic("BREW", "/made-up-address")
    assert read("hone_http_requests_total", method="GET", route="unknown", status="404") is not None
    assert read("hone_http_requests_total", method="other", route="unknown", status="404") is not None


def test_the_database_tells_of_its_connections(read: Read):
    assert (read("hone_database_connections", state="active") or 0) >= 1
    assert read("hone_database_connections_limit") == 200
    assert read("hone_database_pool_connections", state="limit") == 20


def test_more_runs_take_no_more_queries():
    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            scrape(PLAIN)
        return len(seen)

    stage = world()
    collect_items(stage)
    few = queries()
    for _ in range(20):
        run(
            stage.project,
            "generate",
            state="succeeded",
            started_at=timezone.now(),
            finished_at=timezone.now(),
            result={},
        )
    assert queries() == few <= 10


def test_web_processes_of_one_site_add_their_counts_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Read):
    program = """
import django
django.setup()
from django.test import Client
Client().get("/nowhere")
"""
    for _ in range(2):
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert read("hone_http_requests_total", method="GET", route="unknown", status="404") == 2
