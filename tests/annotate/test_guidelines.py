"""Instructions that must be read: shown at the first visit and after a change, and remembered with the judgement."""

from __future__ import annotations

import uuid

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import GuidelineReading, GuidelineVersion, Membership, User
from annotate.services.claiming import claim, shown_order
from annotate.services.guidelines import mark_read, to_read
from annotate.services.judging import submit
from tests.annotate.factory import World, collect_items, user, world

pytestmark = pytest.mark.django_db

RATE = reverse("rate", args=["garden"])
READING = reverse("reading", args=["garden"])


@pytest.fixture
def stage() -> World:
    made = world()
    collect_items(made)
    return made


@pytest.fixture
def dora(client: Client, stage: World) -> User:
    made = user("dora")
    Membership.objects.create(user=made, project=stage.project, role="rater")
    client.force_login(made)
    return made


def published(stage: World, number: int, text: str, *, must_read: bool = True) -> GuidelineVersion:
    return stage.project.guidelines.create(number=number, text=text, must_read=must_read)


def read(client: Client, number: int) -> int:
    guideline = GuidelineVersion.objects.get(number=number)
    return client.post(reverse("read_guideline", args=["garden", guideline.pk])).status_code


def judged_under(stage: World, rater: User) -> int:
    slot = claim(user=rater, project=stage.project)
    assert slot is not None
    raw = {"ranks": {str(pk): 1 for pk in shown_order(slot)}}
    judgement = submit(user=rater, slot=slot, uuid=uuid.uuid4(), raw=raw).judgement
    assert judgement is not None
    guideline = judgement.revisions.get().guideline
    assert guideline is not None
    return guideline.number


def test_a_newcomer_is_welcomed_with_the_instructions_until_they_have_read_them(
    client: Client, stage: World, dora: User
) -> None:
    html = client.get(RATE).content.decode()
    assert "Welcome to Garden" in html
    assert html.count("Prefer the answer that helps.") == 2  # there, and in the dialog that i opens
    assert "data-answer" in html
    assert read(client, 1) == 200
    assert read(client, 1) == 200
    assert GuidelineReading.objects.filter(user=dora).count() == 1
    assert "data-reading-dialog" not in client.get(RATE).content.decode()
    assert client.get(READING).status_code == 204


def test_a_change_is_shown_with_what_changed_since_the_version_that_was_read(
    client: Client, stage: World, dora: User
) -> None:
    read(client, 1)
    published(stage, 2, "Prefer the answer that lasts.")
    published(stage, 3, "Prefer the answer that lasts.\n\nBe **brief**.")
    html = client.get(READING).content.decode()
    assert "The instructions have changed" in html
    assert "<del>helps</del><ins>lasts</ins>" in html
    assert "<ins>Be brief.</ins>" in html
    assert read(client, 3) == 200
    assert client.get(READING).status_code == 204


def test_a_small_correction_is_put_before_nobody_but_newcomers(client: Client, stage: World, dora: User) -> None:
    published(stage, 2, "Prefer the answer which helps.", must_read=False)
    assert to_read(user=stage.bob, project=stage.project) is None
    assert "Prefer the answer which helps." in client.get(READING).content.decode()
    published(stage, 3, "Prefer the true answer.")
    published(stage, 4, "Prefer the true answer!", must_read=False)
    reading = to_read(user=stage.bob, project=stage.project)
    assert reading is not None
    assert (reading.guideline.number, reading.known and reading.known.number) == (4, 1)


def test_a_judgement_keeps_the_version_that_its_rater_had_read(stage: World, dora: User) -> None:
    second = published(stage, 2, "Prefer the answer that lasts.")
    assert judged_under(stage, stage.bob) == 1
    mark_read(user=stage.bob, guideline=second)
    assert judged_under(stage, stage.bob) == 2
    assert judged_under(stage, dora) == 2  # who has read none is taken to know the newest


def test_it_checks_ownership(client: Client, stage: World) -> None:
    client.force_login(stage.charlie)
    assert client.get(READING).status_code == 404
    assert read(client, 1) == 404
    assert not GuidelineReading.objects.filter(user=stage.charlie).exists()


def test_the_welcome_and_the_changes_are_in_the_reader_s_language(client: Client, stage: World, dora: User) -> None:
    GuidelineVersion.objects.update(translations={"zh-hans": {"text": "选有用的回答。"}})
    chinese = {"accept-language": "zh-CN"}
    assert "选有用的回答。" in client.get(RATE, headers=chinese).content.decode()
    read(client, 1)
    published(stage, 2, "x").save()
    GuidelineVersion.objects.filter(number=2).update(translations={"zh-hans": {"text": "选真实的回答。"}})
    assert "<ins>真实</ins>" in client.get(READING, headers=chinese).content.decode()
