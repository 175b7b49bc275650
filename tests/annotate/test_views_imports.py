"""The pages on which a lead brings data."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from datetime import timedelta
from typing import Any, cast

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from annotate.models import Comparison, Import
from annotate.services import import_stages, imports
from annotate.services.uploaded import discard_abandoned, path_of
from annotate.uploads import most_bytes
from tests.annotate.brought import PAIR, brought, jsonl, uploaded
from tests.annotate.factory import World, world

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage(db: None) -> World:
    return world(prompts=0)


def upload(alice: Client, file: SimpleUploadedFile, **more: str) -> str:
    answer = alice.post(reverse("data", args=["garden"]), {"file": file, **more})
    assert answer.status_code == 302, answer.content.decode()
    return str(answer["Location"])


def test_a_lead_looks_at_a_file_and_brings_it(alice: Client, stage: World) -> None:
    address = upload(alice, uploaded(PAIR, {**PAIR, "chosen": ""}), source="Sky lab", licence="MIT")
    page = alice.get(address)
    html = page.content.decode()
    for shown in ("Preference with a prompt (TRL)", PAIR["chosen"], PAIR["rejected"], "line 2: chosen is empty", "MIT"):
        assert shown in html
    assert not Comparison.objects.exists()
    assert page.context["may_be_written"]
    alice.post(f"{address}/confirm")
    assert Comparison.objects.get().source == "Sky lab"
    assert "1 new" in alice.get(address).content.decode()
    assert "pairs.jsonl" in alice.get(reverse("data", args=["garden"])).content.decode()
    assert not path_of(Import.objects.get()).exists()


def test_bad_rows_stand_in_the_way_until_they_are_left_out(alice: Client, stage: World) -> None:
    address = upload(alice, uploaded(PAIR, {**PAIR, "rejected": 4}))
    page = alice.get(address)
    assert "line 2: rejected is not text" in page.content.decode()
    assert not page.context["may_be_written"]
    alice.post(f"{address}/confirm")
    assert not Comparison.objects.exists()
    alice.post(f"{address}/read", {"format": "trl-preference", "skip_bad": "on"})
    alice.post(f"{address}/confirm")
    assert Comparison.objects.count() == 1


def test_columns_of_other_names_are_chosen_on_the_page(alice: Client, stage: World) -> None:
    address = upload(alice, uploaded({"question": "x", "good": "a", "poor": "b"}))
    assert "No known format has these columns" in alice.get(address).content.decode()
    form = {"map-prompt": "question", "map-chosen": "good", "map-rejected": "poor", "map-split": "invented"}
    alice.post(f"{address}/read", {"format": "trl-preference", **form})
    assert alice.get(address).context["mapped"][:2] == [("prompt", "question"), ("chosen", "good")]
    alice.post(f"{address}/confirm")
    assert Comparison.objects.get().rejected.text == "b"


def test_what_was_brought_is_undone_and_what_was_not_is_discarded(alice: Client, stage: World) -> None:
    address = upload(alice, uploaded(PAIR))
    alice.post(f"{address}/confirm")
    alice.post(f"{address}/take-back")
    assert not Comparison.objects.exists()
    other = upload(alice, uploaded(PAIR))
    alice.post(f"{other}/take-back")
    assert set(Import.objects.values_list("state", flat=True)) == {"undone", "discarded"}


def test_a_large_file_is_left_to_a_worker_and_its_page_is_polled(
    alice: Client, stage: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "AT_ONCE_BYTES", 10)
    address = upload(alice, uploaded(PAIR))
    html = alice.get(address).content.decode()
    assert "Waiting for a worker." in html
    assert f'hx-get="{address}/live"' in html
    assert "HX-Refresh" not in alice.get(f"{address}/live").headers
    import_stages.carry_on(Import.objects.get().pk)
    assert alice.get(f"{address}/live")["HX-Refresh"] == "true"
    assert alice.get(address).context["may_be_written"]


@override_settings(MAX_DATA_BYTES=100)
def test_a_file_that_is_missing_empty_or_too_large_is_refused_with_a_sentence(alice: Client, stage: World) -> None:
    for form, said in (
        ({}, "Choose a file."),
        ({"file": SimpleUploadedFile("x.jsonl", b"")}, "empty"),
        ({"file": uploaded(PAIR, PAIR)}, "manage.py import_comparisons"),
        ({"file": uploaded(b"{}"), "source": "x" * 81}, "At most 80 characters"),
    ):
        answer = alice.post(reverse("data", args=["garden"]), form)
        assert answer.status_code == 422
        assert said in answer.content.decode()
    assert not Import.objects.exists()


def test_no_mutated_upload_breaks_a_page(alice: Client, stage: World) -> None:
    draw, whole = random.Random(5), jsonl(*({**PAIR, "prompt": f"{n}"} for n in range(4)))
    for _attempt in range(60):
        at, piece = draw.randrange(len(whole)), draw.choice([b"", b"\xff", b"\x00", b"[", b"\\ud800", b'"', b"NaN"])
        content = whole[:at] + piece + (b"" if draw.random() < 0.2 else whole[at + draw.randrange(9) :])
        before = Comparison.objects.count()
        address = upload(alice, uploaded(content or b" "))
        page = alice.get(address)
        assert page.status_code == 200
        assert alice.post(f"{address}/confirm").status_code == 302
        found = Import.objects.latest("pk")
        if found.state != Import.State.DONE:
            assert Comparison.objects.count() == before
        else:
            assert not found.counts.get("bad")


@pytest.mark.django_db(transaction=True)
def test_only_a_lead_may_send_a_large_body_and_only_there(settings: Any) -> None:
    stage = world(prompts=0)

    def most(client: Client, path: str = "/p/garden/data/", method: str = "POST") -> int:
        cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
        scope = {"type": "http", "method": method, "path": path, "headers": [(b"cookie", cookie.encode())]}
        return asyncio.run(most_bytes(cast(Any, scope)))

    lead, rater, nobody = Client(), Client(), Client()
    lead.force_login(stage.alice)
    rater.force_login(stage.bob)
    assert most(lead) > settings.MAX_DATA_BYTES
    for other in (most(rater), most(nobody), most(lead, method="PUT"), most(lead, "/p/orchard/data/"), most(lead, "/")):
        assert other == settings.MAX_BODY_BYTES


def test_names_of_files_are_shown_as_text_and_never_as_a_path(alice: Client, stage: World) -> None:
    file = SimpleUploadedFile("x", jsonl(PAIR))
    file._name = "../../<b>\u202e.jsonl"  # type: ignore[attr-defined]  # past Django's own care
    found = imports.receive(project=stage.project, upload=file, source="", licence="", actor=stage.alice)
    assert found.file_name == "<b>.jsonl"
    assert "<b>.jsonl" not in alice.get(reverse("import", args=["garden", found.pk])).content.decode()
    assert brought(stage).source == "pairs"


def test_a_file_that_nobody_decides_on_is_discarded_after_two_weeks(stage: World) -> None:
    old, fresh = brought(stage), brought(stage, {**PAIR, "prompt": "Why?"})
    Import.objects.filter(pk=old.pk).update(finished_at=timezone.now() - timedelta(days=15))
    Import.objects.filter(pk=fresh.pk).update(finished_at=timezone.now() - timedelta(days=13))
    assert discard_abandoned() == 1
    old.refresh_from_db()
    fresh.refresh_from_db()
    assert (old.state, fresh.state) == (Import.State.DISCARDED, Import.State.READY)
    assert "14 days" in old.error
    assert (path_of(old).exists(), path_of(fresh).exists()) == (False, True)


class FullFile:
    """A file on a full disk: what is written stays in its buffer and cannot be flushed."""

    def __init__(self) -> None:
        self.closed = False

    def write(self, _piece: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_for_which_the_disk_has_no_room_is_refused_with_a_sentence_and_leaves_nothing(
    alice: Client, stage: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that is really full: ``make drill`` (tests/drill/disk_full.py)."""
    monkeypatch.setattr(settings, "FILE_UPLOAD_MAX_MEMORY_SIZE", 10)
    monkeypatch.setattr(
        TemporaryFileUploadHandler, "new_file", lambda self, *more, **_: setattr(self, "file", FullFile())
    )
    answer = alice.post(reverse("data", args=["garden"]), {"source": "Sky lab", "file": uploaded(PAIR)})
    assert answer.status_code == 507
    html = answer.content.decode()
    assert "The disk of this site is full" in html
    assert "Sky lab" in html
    assert not Import.objects.exists()
