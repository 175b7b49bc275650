"""Drafts on the site: the newest is kept, none replaces one that its sender has not seen."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Draft, Slot
from annotate.services import Conflict, Refused
from annotate.services.claiming import claim, shown_order, skip
from annotate.services.drafts import LONGEST, Typed, current, keep
from annotate.services.judging import submit
from tests.annotate.factory import World, collect_items, world

pytestmark = pytest.mark.django_db

HERE, ELSEWHERE = uuid.uuid4(), uuid.uuid4()


@pytest.fixture
def stage() -> World:
    made = world()
    collect_items(made)
    return made


@pytest.fixture
def slot(stage: World) -> Slot:
    held = claim(user=stage.bob, project=stage.project)
    assert held is not None
    return held


def typed(text: str, sequence: int, *, seen: int = 0, browser: uuid.UUID = HERE, version: int = 0) -> Typed:
    return Typed(sequence, seen, browser, version, {"rationale": text}, active_ms=1200)


def kept_text(stage: World, slot: Slot) -> str:
    draft = current(user=stage.bob, slot=slot)
    assert draft is not None
    text: str = json.loads(draft.answer)["rationale"]
    return text


def answer(slot: Slot, **more: object) -> dict[str, Any]:
    return {"ranks": {str(pk): place for place, pk in enumerate(shown_order(slot), start=1)}, **more}


def test_a_newer_draft_replaces_an_older_one_and_never_the_other_way_round(stage: World, slot: Slot) -> None:
    assert keep(user=stage.bob, slot=slot, typed=typed("first", 1))
    assert keep(user=stage.bob, slot=slot, typed=typed("third", 3))
    assert not keep(user=stage.bob, slot=slot, typed=typed("second, delayed on its way", 2))
    assert kept_text(stage, slot) == "third"
    assert Draft.objects.count() == 1


def test_another_browser_replaces_only_what_it_has_seen(stage: World, slot: Slot) -> None:
    keep(user=stage.bob, slot=slot, typed=typed("from here", 5))
    with pytest.raises(Conflict):
        keep(user=stage.bob, slot=slot, typed=typed("typed blindly", 9, seen=4, browser=ELSEWHERE))
    assert kept_text(stage, slot) == "from here"
    assert keep(user=stage.bob, slot=slot, typed=typed("went on", 6, seen=5, browser=ELSEWHERE))
    assert kept_text(stage, slot) == "went on"


def test_an_accepted_submission_ends_its_draft_and_a_delayed_draft_does_not_come_back(stage: World, slot: Slot) -> None:
    keep(user=stage.bob, slot=slot, typed=typed("nearly", 1))
    submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=answer(slot))
    assert not keep(user=stage.bob, slot=slot, typed=typed("delayed on its way", 2))
    assert not Draft.objects.exists()


def test_a_refused_submission_leaves_the_draft(stage: World, slot: Slot) -> None:
    keep(user=stage.bob, slot=slot, typed=typed("nearly", 1))
    with pytest.raises(Refused):
        submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw={"stars": 5})
    assert kept_text(stage, slot) == "nearly"


def test_a_draft_of_a_change_belongs_to_the_version_that_it_changes(stage: World, slot: Slot) -> None:
    submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=answer(slot))
    assert keep(user=stage.bob, slot=slot, typed=typed("on second thoughts", 1, version=1))
    assert kept_text(stage, slot) == "on second thoughts"
    submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=answer(slot, rationale="new"), version=1)
    assert current(user=stage.bob, slot=slot) is None


def test_skipping_ends_the_draft(stage: World, slot: Slot) -> None:
    keep(user=stage.bob, slot=slot, typed=typed("nearly", 1))
    skip(user=stage.bob, slot=slot, reason="unsure")
    assert not Draft.objects.exists()


@pytest.mark.parametrize("text", ["a\x00b", "\ud83d", "😀", "\u202eabc", "</script>"])
def test_every_character_that_a_browser_can_send_is_kept(stage: World, slot: Slot, text: str) -> None:
    keep(user=stage.bob, slot=slot, typed=typed(text, 1))
    assert kept_text(stage, slot) == text


def test_a_draft_that_is_too_long_is_refused_and_the_one_before_it_stays(stage: World, slot: Slot) -> None:
    keep(user=stage.bob, slot=slot, typed=typed("short", 1))
    with pytest.raises(Refused, match="too long"):
        keep(user=stage.bob, slot=slot, typed=typed("x" * LONGEST, 2))
    assert kept_text(stage, slot) == "short"


def send(client: Client, slot: Slot, **body: Any) -> Any:
    address = reverse("draft", args=[slot.project.slug, slot.pk])
    whole = {"sequence": 1, "seen": 0, "browser": str(HERE), "version": 0, "answer": {"rationale": "x"}, "ms": 5}
    return client.post(address, data=json.dumps({**whole, **body}), content_type="application/json")


def test_the_page_brings_the_draft_to_another_machine(client: Client, stage: World, slot: Slot) -> None:
    client.force_login(stage.bob)
    assert send(client, slot, answer={"rationale": "half a thought"}).json() == {"kept": True}
    elsewhere = Client()
    elsewhere.force_login(stage.bob)
    assert "half a thought" in elsewhere.get(reverse("rate", args=[stage.project.slug])).content.decode()


def test_a_draft_unseen_by_the_other_browser_is_shown_to_it(client: Client, stage: World, slot: Slot) -> None:
    client.force_login(stage.bob)
    send(client, slot, sequence=3)
    response = send(client, slot, browser=str(ELSEWHERE), sequence=7, answer={"rationale": "y"})
    assert response.status_code == 409
    assert response.json()["draft"] == {"sequence": 3, "browser": str(HERE), "answer": {"rationale": "x"}, "ms": 5}


@pytest.mark.parametrize(
    "body", [{"answer": "x"}, {"answer": None}, {"sequence": "1"}, {"seen": -1}, {"browser": "me"}, {"ms": 1.5}]
)
def test_what_is_no_draft_is_refused_in_a_sentence(
    client: Client, stage: World, slot: Slot, body: dict[str, Any]
) -> None:
    client.force_login(stage.bob)
    response = send(client, slot, **body)
    assert (response.status_code, bool(response.json()["error"])) == (400, True)
    assert not Draft.objects.exists()


def test_nobody_else_can_keep_a_draft_for_the_item(client: Client, stage: World, slot: Slot) -> None:
    client.force_login(stage.alice)
    assert send(client, slot).status_code == 404
