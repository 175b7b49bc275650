"""Gold items and repeats: mixed in at their rates, and not to be told from ordinary items."""

from __future__ import annotations

import itertools
import json
import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotate.handles import LARGEST, handle, number
from annotate.models import Check, Judgement, Project, Purpose, Slot, User
from annotate.services import keys, mixing
from annotate.services.claiming import claim, shown_order, skip
from annotate.services.offers import why_none
from annotate.services.standing import standing
from tests.annotate.factory import World, collect_items, world
from tests.annotate.keyed import answer, answer_next, change, make_key, member, new_instructions
from tests.annotate.lineage import turn

pytestmark = pytest.mark.django_db

GOLD, REPEAT, ORDINARY = 0.0, 0.5, 0.99
"""Draws that give each at rates of ½ and 0.4."""


@pytest.fixture
def stage() -> World:
    made = world(prompts=30, gold_rate=0.5, repeat_rate=0.4)
    collect_items(made)
    return made


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What is drawn: the only entry, which a test changes."""
    value = [ORDINARY]
    monkeypatch.setattr(mixing, "draw", lambda: value[0])
    return value


def key(stage: World, drawn: list[float]) -> Any:
    drawn[0] = ORDINARY
    return make_key(stage, "gold", by=member(stage, f"lead{Judgement.objects.count()}", "lead"))


def test_a_gold_item_comes_once_to_each_rater_and_never_to_one_who_had_it(stage: World, drawn: list[float]) -> None:
    first, second = key(stage, drawn), key(stage, drawn)
    drawn[0] = GOLD
    judgements = [answer_next(stage.bob, stage.project) for _n in range(4)]
    purposes = [judgement.slot.purpose for judgement in judgements]
    assert purposes == [Purpose.GOLD, Purpose.GOLD, Purpose.COLLECT, Purpose.COLLECT]
    assert {judgement.item for judgement in judgements[:2]} == {first.item, second.item}
    assert answer_next(first.revision.judgement.rater, stage.project).item == second.item
    assert Check.objects.count() == 3


def test_a_gold_item_is_drawn_ahead_as_well_and_taken_from_nobody(stage: World, drawn: list[float]) -> None:
    key(stage, drawn)
    claim(user=stage.bob, project=stage.project)
    drawn[0] = GOLD
    ahead = claim(user=stage.bob, project=stage.project, ahead=True)
    assert ahead is not None
    assert (ahead.purpose, ahead.ahead, ahead.reserved_for) == (Purpose.GOLD, True, stage.bob)


def test_a_skipped_or_retired_gold_item_does_not_come(stage: World, drawn: list[float]) -> None:
    skipped, retired = key(stage, drawn), key(stage, drawn)
    keys.switch(key=retired, active=False, actor=stage.alice)
    drawn[0] = GOLD
    slot = claim(user=stage.bob, project=stage.project)
    assert slot is not None
    assert slot.item == skipped.item
    skip(user=stage.bob, slot=slot, reason="unsure")
    assert answer_next(stage.bob, stage.project).slot.purpose == Purpose.COLLECT


def test_what_is_mixed_in_among_evaluations_is_an_evaluation(drawn: list[float]) -> None:
    left = turn(world(gold_rate=0.5))
    stage = left.stage
    keys.make(judgement=left.judgement, use="gold", explanation="", actor=stage.alice)
    carol = member(stage, "carol")
    drawn[0] = GOLD
    found = [answer_next(carol, stage.project).slot.purpose for _n in range(2)]
    assert found == [Purpose.EVALUATE, Purpose.GOLD]  # one item to evaluate, and a key for a collected one


def test_nothing_is_mixed_in_for_programs(stage: World, drawn: list[float]) -> None:
    key(stage, drawn)
    User.objects.filter(pk=stage.bob.pk).update(kind=User.Kind.SIMULATED)
    stage.bob.refresh_from_db()
    drawn[0] = GOLD
    assert answer_next(stage.bob, stage.project).slot.purpose == Purpose.COLLECT


def test_nothing_is_mixed_in_where_no_ordinary_item_is_left(stage: World, drawn: list[float]) -> None:
    key(stage, drawn)
    Slot.objects.filter(state=Slot.State.FREE).update(
        state=Slot.State.LEASED, rater=member(stage, "carol"), lease_expires_at=Now() + timedelta(hours=1)
    )
    drawn[0] = GOLD
    assert claim(user=stage.bob, project=stage.project) is None
    assert "Others are judging what is left" in why_none(user=stage.bob, project=stage.project)


def test_a_repeat_comes_after_twenty_judgements_or_a_day_once_and_in_another_order(
    stage: World, drawn: list[float]
) -> None:
    for _n in range(20):
        answer_next(stage.bob, stage.project)
    drawn[0] = REPEAT
    assert answer_next(stage.bob, stage.project).slot.purpose == Purpose.COLLECT
    again = answer_next(stage.bob, stage.project)
    first = Judgement.objects.filter(rater=stage.bob).earliest("pk")
    assert (again.slot.purpose, again.item) == (Purpose.REPEAT, first.item)
    assert shown_order(again.slot) != shown_order(first.slot)
    third = Judgement.objects.filter(rater=stage.bob).order_by("pk")[2]
    Judgement.objects.filter(pk=third.pk).update(updated_at=Now() - timedelta(days=2))
    found = {answer_next(stage.bob, stage.project).item for _n in range(2)}
    assert third.item in found
    assert first.item not in found


def test_what_was_judged_under_other_instructions_is_not_repeated(stage: World, drawn: list[float]) -> None:
    for _n in range(22):
        answer_next(stage.bob, stage.project)
    new_instructions(stage, must_read=False)
    drawn[0] = REPEAT
    assert answer_next(stage.bob, stage.project).slot.purpose == Purpose.REPEAT  # a small correction
    new_instructions(stage)
    assert answer_next(stage.bob, stage.project).slot.purpose == Purpose.COLLECT
    thought_over = Judgement.objects.filter(rater=stage.bob).order_by("pk")[10]
    change(thought_over, (1, 2, 3, 4))
    Judgement.objects.filter(pk=thought_over.pk).update(updated_at=Now() - timedelta(days=2))
    assert answer_next(stage.bob, stage.project).item == thought_over.item


def test_without_rates_nothing_more_is_asked_of_the_database(stage: World) -> None:
    Project.objects.update(gold_rate=0, repeat_rate=0)
    stage.project.refresh_from_db()
    with CaptureQueriesContext(connection) as queries:
        claim(user=stage.bob, project=stage.project)
    asked = " ".join(query["sql"] for query in queries)
    assert not any(table in asked for table in ("answerkey", "annotate_check", "annotate_membership"))
    # Begin, the rater, what is held, what is reserved, what is free, the slot with its lease, end.
    assert len(queries) == 7


def test_a_draw_takes_three_statements_at_most(stage: World, drawn: list[float]) -> None:
    key(stage, drawn)
    for _n in range(20):
        answer_next(stage.bob, stage.project)
    counts = {}
    for value in (ORDINARY, GOLD, REPEAT):
        drawn[0] = value
        with CaptureQueriesContext(connection) as queries:
            slot = claim(user=stage.bob, project=stage.project)
        assert slot is not None
        counts[slot.purpose] = len(queries)
        answer(slot)
    assert counts[Purpose.GOLD] == counts[Purpose.COLLECT] + 2  # one look, one new slot
    assert counts[Purpose.REPEAT] == counts[Purpose.COLLECT] + 3  # one look more: how many answers there are


def signs(value: Any, path: str = "") -> dict[str, Any]:
    """Each leaf of a JSON value by its path, numbers of slots and tokens by how they look."""
    if isinstance(value, dict):
        return {k: v for name, each in value.items() for k, v in signs(each, f"{path}.{name}").items()}
    return {path: re.sub(r"\d{5,16}", "N", str(value))}


def without_content(html: str) -> str:
    """A piece of the page less the texts of prompt and answers, and less what differs each time."""
    html = re.sub(r'<script id="desk-data".*?</script>', "", html, flags=re.DOTALL)
    html = re.sub(r'<div class="prose".*?</div>', "", html, flags=re.DOTALL)
    return re.sub(r"<textarea.*?</textarea>", "", html, flags=re.DOTALL)


def visit(client: Client, stage: World) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Take the next item and judge it: the page, its data, and what came back for the answer."""
    html = client.get(reverse("next_item", args=["garden"])).content.decode()
    data = json.loads(re.search(r'id="desk-data"[^>]*>(.*?)</script>', html).group(1))  # type: ignore[union-attr]
    body = {"uuid": str(uuid.uuid4()), "version": None, "answer": {"ranks": {"A": 1, "B": 2, "C": 3, "D": 4}}}
    response = client.post(data["addresses"]["submit"], data=json.dumps(body), content_type="application/json")
    assert response.status_code == 200
    return without_content(html), data, response.json()


def test_page_addresses_and_json_of_a_gold_item_a_repeat_and_an_ordinary_one_are_alike_field_by_field(
    client: Client, stage: World, drawn: list[float]
) -> None:
    key(stage, drawn)
    for _n in range(21):
        answer_next(stage.bob, stage.project)
    client.force_login(stage.bob)
    found, slots = {}, {}
    for value in (ORDINARY, GOLD, REPEAT):
        drawn[0] = value
        page, data, reply = visit(client, stage)
        slot = Judgement.objects.latest("pk").slot
        slots[slot.purpose] = data["slot"]
        assert data["slot"] == handle(slot.pk)
        mine = str(standing(user=stage.bob, project=stage.project).mine)
        told = [data.pop("progress"), reply.pop("progress")]
        assert [each["words"].split()[0] for each in told] == [str(int(mine) - 1), mine]
        found[slot.purpose] = (page, signs(data), signs(reply), [each["done"] for each in told])
    assert set(found) == {Purpose.COLLECT, Purpose.GOLD, Purpose.REPEAT}
    assert found[Purpose.GOLD] == found[Purpose.COLLECT] == found[Purpose.REPEAT]


def test_numbers_of_slots_in_pages_tell_nothing_of_their_age(stage: World) -> None:
    numbers = [0, 1, 2, 3, 10**9, LARGEST]
    handles = [handle(each) for each in numbers]
    assert [number(each) for each in handles] == numbers
    assert all(0 <= each <= LARGEST for each in handles)
    assert sorted(handles[:4]) != handles[:4] or max(handles[:4]) > 10**9
    of_many = [handle(each) for each in range(2000)]
    assert len(set(of_many)) == 2000
    rising = sum(a < b for a, b in itertools.pairwise(of_many))
    assert 900 < rising < 1100  # as often up as down


def test_the_project_s_share_moves_ten_judgements_at_a_time_whatever_they_were(
    stage: World, drawn: list[float]
) -> None:
    key(stage, drawn)
    shares = []
    for n in range(20):
        drawn[0] = GOLD if n == 3 else ORDINARY
        answer_next(stage.bob, stage.project)
        shares.append(standing(user=stage.bob, project=stage.project).percent)
    # One of 30 was judged for the key; nine of the first ten judgements are of ordinary items, ten of the next.
    assert shares == [3] * 9 + [100 * 10 // 30] * 10 + [100 * 20 // 30]
