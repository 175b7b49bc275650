"""What a light worker makes while nobody waits: snapshots and exports of large projects."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.test import Client
from django.urls import reverse
from psycopg.errors import DiskFull

from annotate.models import BackgroundTask, Snapshot
from annotate.services import Conflict, background, export, heartbeat, snapshots
from annotate.services.heartbeat import OnProgress
from annotate.services.makers import MAKERS
from annotate.services.snapshots import create_snapshot
from tests.annotate.factory import World, collect_items, world
from tests.annotate.test_rows import ids_of, judge, pair, ranks

pytestmark = pytest.mark.django_db
State = BackgroundTask.State


@pytest.fixture
def stage() -> World:
    made = world(prompts=3)
    collect_items(made)
    judge(made, ranks(ids_of(made), 1, 2, 3, 4))
    return made


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everything count as large."""
    monkeypatch.setattr(snapshots, "AT_ONCE", 0)


def the_task() -> BackgroundTask:
    return BackgroundTask.objects.latest("pk")


def test_a_large_snapshot_is_frozen_by_a_worker_and_its_page_leads_there(
    alice: Client, stage: World, large: None
) -> None:
    answer = alice.post(reverse("take_snapshot", args=["garden"]), {"name": "big"})
    address = reverse("background_task", args=["garden", the_task().pk])
    assert answer["Location"] == address
    assert not Snapshot.objects.exists()
    page = alice.get(address).content.decode()
    assert "Waiting for a worker." in page
    assert f'hx-get="{address}/live"' in page
    assert "HX-Refresh" not in alice.get(f"{address}/live").headers
    assert address in alice.get(reverse("loop", args=["garden"])).content.decode()
    background.carry_on(the_task().pk)
    made = Snapshot.objects.get()
    assert (made.name, made.created_by) == ("big", stage.alice)
    assert alice.get(f"{address}/live")["HX-Refresh"] == "true"
    assert alice.get(address)["Location"] == reverse("snapshot", args=["garden", made.pk])


def test_a_small_snapshot_is_there_at_once(alice: Client, stage: World) -> None:
    answer = alice.post(reverse("take_snapshot", args=["garden"]))
    assert answer["Location"] == reverse("snapshot", args=["garden", Snapshot.objects.get().pk])
    assert not BackgroundTask.objects.exists()


def test_a_judgement_counts_ten_times_a_pair(stage: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pair(stage, "a")
    pair(stage, "a", 1)
    monkeypatch.setattr(snapshots, "AT_ONCE", 12)
    assert snapshots.is_quick(stage.project)
    monkeypatch.setattr(snapshots, "AT_ONCE", 11)
    assert not snapshots.is_quick(stage.project)


def test_what_cannot_be_frozen_is_said_and_the_recipe_is_kept(alice: Client, stage: World, large: None) -> None:
    form = {"kinds": "ai", "parts": "order", "splits": "dev", "aggregation": "majority", "name": "none"}
    address = alice.post(reverse("recipe", args=["garden"]), form)["Location"]
    background.carry_on(the_task().pk)
    page = alice.get(address).content.decode()
    assert "There are no comparisons yet" in page
    again = f"{reverse('recipe', args=['garden'])}?again={the_task().pk}"
    assert again in page
    assert 'value="majority" checked' in alice.get(again).content.decode()


def test_a_large_form_is_written_by_a_worker_and_then_served_at_once(alice: Client, stage: World, large: None) -> None:
    snapshot = create_snapshot(project=stage.project, actor=None)
    file = reverse("export", args=["garden", snapshot.pk, "trl-preference", "train.jsonl"])
    address = alice.get(file)["Location"]
    assert alice.get(file)["Location"] == address  # nobody begins it twice
    assert address in alice.get(reverse("snapshot", args=["garden", snapshot.pk])).content.decode()
    background.carry_on(the_task().pk)
    assert file in alice.get(address).content.decode()
    whole = alice.get(file)
    assert b"".join(whole.streaming_content).count(b"\n") == 6  # type: ignore[attr-defined]
    assert alice.get(reverse("export", args=["garden", snapshot.pk, "trl-preference", "dev.jsonl"])).content == b""


def test_a_run_that_learns_from_a_large_project_waits_for_its_snapshot(
    alice: Client, stage: World, large: None
) -> None:
    answer = alice.post(reverse("launch", args=["garden", "train_reward"]), {"loss": "logistic"})
    assert answer["Location"] == reverse("background_task", args=["garden", the_task().pk])
    background.carry_on(the_task().pk)
    run = stage.project.runs.get(kind="train_reward")
    assert (run.snapshot, run.requested_by, run.job["loss"]) == (Snapshot.objects.get(), stage.alice, "logistic")
    assert alice.get(answer["Location"])["Location"] == reverse("run", args=["garden", run.pk])


def test_an_export_that_cannot_be_written_is_told_in_a_sentence(
    alice: Client, stage: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = create_snapshot(project=stage.project, actor=None)
    folder = export.download_folder(snapshot)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("in the way")
    answer = alice.get(reverse("export", args=["garden", snapshot.pk, "hh", "train.jsonl"]), follow=True)
    folder.unlink()
    assert "cannot be written" in answer.content.decode()


def made(stage: World, kind: str = "snapshot") -> BackgroundTask:
    asked = {"name": "", "recipe": {}}
    return background.ask(project=stage.project, kind=kind, asked=asked, actor=stage.alice)


def test_what_is_lost_is_begun_again_and_fails_at_the_third_loss(stage: World) -> None:
    task = made(stage)
    BackgroundTask.objects.update(state=State.RUNNING, attempt=1, heartbeat_at="2020-01-01T00:00Z")
    assert background.sweep() == [task]
    background.carry_on(task.pk)
    assert the_task().state == State.DONE
    BackgroundTask.objects.update(
        state=State.RUNNING, attempt=3, heartbeat_at="2020-01-01T00:00Z", finished_at=None, result={}
    )
    assert background.sweep() == []
    task.refresh_from_db()
    assert task.state == State.FAILED
    assert "3 times" in task.error


def test_one_task_is_worked_on_at_a_time_and_the_next_is_rung_for(
    stage: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work, waiting = made(stage), background.ask(project=stage.project, kind="snapshot", asked={}, actor=None)
    BackgroundTask.objects.filter(pk=at_work.pk).update(state=State.RUNNING, heartbeat_at="2999-01-01T00:00Z")
    background.carry_on(waiting.pk)
    waiting.refresh_from_db()
    assert (waiting.state, waiting.attempt) == (State.QUEUED, 0)
    BackgroundTask.objects.filter(pk=at_work.pk).update(state=State.QUEUED, heartbeat_at=None)
    rung: list[BackgroundTask] = []
    monkeypatch.setattr(background, "call_worker", rung.append)
    background.carry_on(at_work.pk)
    assert rung == [waiting]


def test_a_full_disk_of_the_database_is_told_in_a_sentence(stage: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_asked: object) -> dict[str, Any]:
        raise OperationalError from DiskFull()

    monkeypatch.setitem(MAKERS, "snapshot", full)
    background.carry_on(made(stage).pk)
    assert (the_task().state, the_task().error) == (
        State.FAILED,
        "The database's disk is full; nothing was changed.",
    )


def test_what_waits_is_cancelled_at_once_and_what_has_ended_is_not(alice: Client, stage: World, large: None) -> None:
    task = made(stage)
    alice.post(reverse("background_task_cancel", args=["garden", task.pk]))
    background.carry_on(task.pk)
    assert the_task().state == State.CANCELLED
    assert not Snapshot.objects.exists()
    with pytest.raises(Conflict):
        background.cancel(task=task, actor=stage.alice)


@pytest.mark.django_db(transaction=True)
def test_what_is_at_work_shows_how_far_it_is_and_is_given_up_without_a_trace(
    stage: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(background, "call_worker", lambda task: None)
    shown, step = threading.Event(), MAKERS["snapshot"]

    def slow(project: Any, asked: Any, actor: Any, on_progress: OnProgress) -> dict[str, Any]:
        result = step(project, asked, actor, on_progress)
        shown.wait(10)
        for _turn in range(500):
            on_progress("freezing", 40, 100)
            threading.Event().wait(0.02)
        return result

    monkeypatch.setitem(MAKERS, "snapshot", slow)
    task = made(stage)
    worker = started(lambda: background.carry_on(task.pk))
    shown.set()
    wait_for(lambda: the_task().done == 40)
    assert the_task().state == State.RUNNING
    background.cancel(task=task, actor=stage.alice)
    worker.join(10)
    assert the_task().state == State.CANCELLED
    assert not Snapshot.objects.exists()


def test_what_a_killed_worker_left_of_a_file_is_cleared_away(stage: World) -> None:
    snapshot = create_snapshot(project=stage.project, actor=None)
    left = export.download_folder(snapshot) / "hh" / ".0123.tmp" / "hh"
    left.mkdir(parents=True)
    export.write_download(snapshot, "hh", "jsonl")
    assert sorted(path.name for path in left.parents[1].iterdir()) == ["jsonl.json", "lock", "train.jsonl"]


def test_progress_is_told_in_rows(stage: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        pair(stage, "a", number)
    monkeypatch.setattr("annotate.services.rows.CHUNK", 2)
    told: list[tuple[str, int, int]] = []
    snapshot = create_snapshot(project=stage.project, actor=None, on_progress=lambda *row: told.append(row))
    assert told == [("choosing", 0, 0), *(("freezing", done, 5) for done in (0, 1, 3, 5))]
    told.clear()
    forms, types = ["trl-preference"], ["jsonl", "csv"]
    export.export(snapshot, tmp_path, forms=forms, file_types=types, on_progress=lambda *row: told.append(row))
    assert told == [("writing", 0, 5), ("converting", 10, 10)]


def started(work: Callable[[], None]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def wait_for(condition: Callable[[], bool]) -> None:
    for _turn in range(500):
        if condition():
            return
        threading.Event().wait(0.02)
    raise AssertionError("it did not come to pass")
