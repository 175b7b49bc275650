"""Archives by the page: asked for by a lead, written by a worker at one moment, fetched in parts, deleted in time."""

from __future__ import annotations

import os
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.urls import reverse

from annotate.models import BackgroundTask, Judgement, Submission
from annotate.services import background
from annotate.services.archive import asking, shelf, writing
from annotate.services.archive.restoring import restore_project
from annotate.tasks import sweep
from tests.annotate.factory import World, collect_items, kept_archive, world
from tests.annotate.keyed import answer_next


@pytest.fixture
def alice(client: Client, db: None) -> Client:
    stage = world()
    collect_items(stage)
    answer_next(stage.bob, stage.project)
    client.force_login(stage.alice)
    return client


def files() -> list[Path]:
    return sorted((Path(settings.HONE_DATA_DIR) / "archives").glob("*"))


@pytest.fixture(autouse=True)
def empty_shelf() -> None:
    for path in files():
        path.unlink()


def test_a_lead_asks_for_an_archive_and_fetches_it_when_a_worker_has_written_it(alice: Client, tmp_path: Path) -> None:
    page = alice.post(reverse("archive", args=["garden"]))["Location"]
    task = BackgroundTask.objects.get()
    assert "Waiting for a worker." in alice.get(page).content.decode()
    assert page in alice.get(reverse("data", args=["garden"])).content.decode()
    background.carry_on(task.pk)
    assert alice.get(page)["Location"] == f"{reverse('data', args=['garden'])}#archives"
    address = reverse("archive_file", args=["garden", task.pk])
    assert address in alice.get(reverse("data", args=["garden"])).content.decode()
    whole = alice.get(address)
    content = b"".join(whole.streaming_content)  # type: ignore[attr-defined]
    (tmp_path / "fetched.zip").write_bytes(content[:100])
    rest = alice.get(address, headers={"Range": "bytes=100-", "If-Range": whole["ETag"]})
    assert rest.status_code == 206
    with open(tmp_path / "fetched.zip", "ab") as file:
        file.write(b"".join(rest.streaming_content))  # type: ignore[attr-defined]
    assert restore_project(path=tmp_path / "fetched.zip", slug="copy").rows["judgements"] == 1


def test_asking_twice_for_the_same_makes_it_once(alice: Client) -> None:
    first, second, other = (
        alice.post(reverse("archive", args=["garden"]), data)["Location"] for data in ({}, {}, {"weights": "on"})
    )
    assert first == second != other


def test_an_archive_is_deleted_after_a_week(alice: Client) -> None:
    task = kept_archive(Judgement.objects.get().item.project)
    address = reverse("archive_file", args=["garden", task.pk])
    sweep()
    assert alice.get(address).status_code == 200
    (path,) = files()
    old = time.time() - (shelf.KEPT_DAYS * 24 + 1) * 3600
    os.utime(path, (old, old))
    sweep()
    assert files() == []
    assert alice.get(address).status_code == 404
    assert address not in alice.get(reverse("data", args=["garden"])).content.decode()


def test_only_archives_are_fetched_as_archives(alice: Client) -> None:
    project = Judgement.objects.get().item.project
    other = BackgroundTask.objects.create(project=project, kind="export", key="k", state="done", result={})
    assert alice.get(reverse("archive_file", args=["garden", other.pk])).status_code == 404


def test_an_archive_that_is_given_up_leaves_no_file(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    class Enough(Exception):
        pass

    def give_up(*_progress: Any) -> None:
        raise Enough

    monkeypatch.setattr(writing, "CHUNK", 1)
    with pytest.raises(Enough):
        shelf.write(Judgement.objects.get().item.project, {"weights": False}, None, give_up)
    assert files() == []


@pytest.mark.django_db(transaction=True)
def test_what_is_judged_while_an_archive_is_written_is_in_the_next_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(writing, "CHUNK", 1)
    stage: World = world()
    collect_items(stage)
    answer_next(stage.bob, stage.project)
    task = asking.ask(project=stage.project, weights=False, actor=stage.alice)
    make = writing.make_archive
    judged = threading.Event()

    def judge() -> None:
        answer_next(stage.bob, stage.project)
        connection.close()
        judged.set()

    def interrupted(**options: Any) -> Any:
        told = options["on_progress"]

        def on_progress(stage_of: str, done: int, total: int) -> None:
            if not judged.is_set():
                threading.Thread(target=judge).start()
                assert judged.wait(10)
            told(stage_of, done, total)

        return make(**{**options, "on_progress": on_progress})

    monkeypatch.setattr(shelf, "make_archive", interrupted)
    background.carry_on(task.pk)
    assert Submission.objects.count() == 2
    (path,) = files()
    with zipfile.ZipFile(path) as archive:
        assert len(archive.read("rows/submissions.jsonl").splitlines()) == 1
        assert len(archive.read("rows/judgements.jsonl").splitlines()) == 1
    assert restore_project(path=path, slug="copy").rows["judgements"] == 1
