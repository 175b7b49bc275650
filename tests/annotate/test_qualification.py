"""The qualification: judged before real items, with worked feedback, and its outcome said truly."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import AnswerKey, AuditEvent, Check, Judgement, Membership, Project, Purpose, Slot, User
from annotate.services import Refused, keys, qualification
from annotate.services.claiming import claim, skip
from annotate.services.offers import why_none
from tests.annotate.factory import World, collect_items, world
from tests.annotate.keyed import RIGHT, WRONG, answer, answer_next, make_key, member

pytestmark = pytest.mark.django_db

HALF = (2, 1, 3, 4)
"""Agrees on five of six pairs."""


@pytest.fixture
def stage() -> World:
    """A project whose raters judge two items of three first, and reach 0.9."""
    made = world(prompts=8)
    collect_items(made)
    for _n in range(2):
        make_key(made, "qualify")
    Project.objects.update(pass_mark=0.9)
    made.project.refresh_from_db()
    return made


def bob(stage: World) -> Membership:
    return Membership.objects.get(user=stage.bob, project=stage.project)


def items() -> list[Any]:
    return [key.item for key in AnswerKey.objects.filter(use="qualify").order_by("position")]


def test_a_rater_judges_the_items_in_their_order_and_then_gets_real_ones(stage: World) -> None:
    first, second = (answer_next(stage.bob, stage.project) for _n in range(2))
    assert [first.item, second.item] == items()
    assert {first.slot.purpose, second.slot.purpose} == {Purpose.QUALIFY}
    assert bob(stage).qualified_at is not None
    real = claim(user=stage.bob, project=stage.project)
    assert real is not None
    assert (real.purpose, real.item in items()) == (Purpose.COLLECT, False)


def test_nothing_is_prefetched_during_a_round_and_a_reload_shows_the_same_item(stage: World) -> None:
    slot = claim(user=stage.bob, project=stage.project)
    assert claim(user=stage.bob, project=stage.project, ahead=True) is None
    assert claim(user=stage.bob, project=stage.project) == slot


def test_leads_and_programs_do_not_qualify(stage: World) -> None:
    User.objects.filter(pk=stage.bob.pk).update(kind=User.Kind.SIMULATED)
    stage.bob.refresh_from_db()
    for person in (stage.alice, stage.bob):
        slot = claim(user=person, project=stage.project)
        assert slot is not None
        assert slot.purpose == Purpose.COLLECT


def test_the_mean_agreement_is_held_against_the_mark(stage: World) -> None:
    answer_next(stage.bob, stage.project, HALF)
    answer_next(stage.bob, stage.project, RIGHT)
    assert sorted(Check.objects.values_list("agreement", flat=True)) == pytest.approx([5 / 6, 1.0])
    assert bob(stage).qualified_at is not None  # 11/12 reach 0.9


def test_who_does_not_reach_it_gets_nothing_and_is_told_so(stage: World) -> None:
    answer_next(stage.bob, stage.project, WRONG)
    answer_next(stage.bob, stage.project, RIGHT)
    assert claim(user=stage.bob, project=stage.project) is None
    assert "not passed this time" in why_none(user=stage.bob, project=stage.project)
    assert bob(stage).qualified_at is None


def test_a_judgement_that_ranks_nothing_agrees_with_nothing(stage: World) -> None:
    answer_next(stage.bob, stage.project, (1,))
    assert Check.objects.get().agreement == 0.0


def test_a_lead_allows_another_round_with_the_same_items(stage: World) -> None:
    answer_next(stage.bob, stage.project, WRONG)
    with pytest.raises(Refused, match="still at work"):
        qualification.allow_another(membership=bob(stage), actor=stage.alice)
    answer_next(stage.bob, stage.project, WRONG)
    qualification.allow_another(membership=bob(stage), actor=stage.alice)
    again = [answer_next(stage.bob, stage.project, RIGHT) for _n in range(2)]
    assert [judgement.item for judgement in again] == items()
    assert list(Check.objects.order_by("pk").values_list("round", flat=True)) == [1, 1, 2, 2]
    assert bob(stage).qualified_at is not None
    with pytest.raises(Refused, match="qualified already"):
        qualification.allow_another(membership=bob(stage), actor=stage.alice)
    assert AuditEvent.objects.get(action="allowed another try").data == {"user": "bob", "round": 2}


def test_a_lead_lets_somebody_through(stage: World) -> None:
    qualification.let_through(membership=bob(stage), actor=stage.alice)
    slot = claim(user=stage.bob, project=stage.project)
    assert slot is not None
    assert slot.purpose == Purpose.COLLECT
    assert AuditEvent.objects.get(action="let through").actor == stage.alice


def test_a_lower_mark_or_a_retired_key_counts_at_once_for_who_did_not_pass(stage: World) -> None:
    answer_next(stage.bob, stage.project, WRONG)
    answer_next(stage.bob, stage.project, RIGHT)
    assert claim(user=stage.bob, project=stage.project) is None
    keys.switch(key=AnswerKey.objects.get(item=items()[0]), active=False, actor=stage.alice)
    assert claim(user=stage.bob, project=stage.project) is not None
    assert bob(stage).qualified_at is not None


def test_who_judged_before_it_was_introduced_finishes_what_is_in_hand_and_then_qualifies(stage: World) -> None:
    Project.objects.update(pass_mark=None)
    stage.project.refresh_from_db()
    answer_next(stage.bob, stage.project)
    held = claim(user=stage.bob, project=stage.project)
    Project.objects.update(pass_mark=0.9)
    stage.project.refresh_from_db()
    assert claim(user=stage.bob, project=stage.project) == held
    assert held is not None
    answer(held)
    slot = claim(user=stage.bob, project=stage.project)
    assert slot is not None
    assert slot.purpose == Purpose.QUALIFY


def test_a_rater_s_own_judgement_is_no_question_to_them(stage: World) -> None:
    carol = member(stage, "carol")
    qualification.let_through(membership=Membership.objects.get(user=carol), actor=stage.alice)
    make_key(stage, "qualify", by=carol)
    Membership.objects.filter(user=carol).update(qualified_at=None)
    assert [answer_next(carol, stage.project).item for _n in range(2)] == items()[:2]
    slot = claim(user=carol, project=stage.project)
    assert slot is not None
    assert slot.purpose == Purpose.COLLECT


def test_an_item_of_the_qualification_never_comes_back_as_a_real_one(stage: World) -> None:
    for key in AnswerKey.objects.all():
        Slot.objects.create(project=stage.project, item=key.item, number=7, order_seed=1, priority=-(2**60))
    for _n in range(2):
        answer_next(stage.bob, stage.project)
    seen = []
    while slot := claim(user=stage.bob, project=stage.project):
        seen.append(answer(slot).item)
    assert len(seen) == 6
    assert not set(seen) & set(items())


def test_an_item_of_the_qualification_is_not_skipped(stage: World) -> None:
    slot = claim(user=stage.bob, project=stage.project)
    assert slot is not None
    with pytest.raises(Refused, match="not skipped"):
        skip(user=stage.bob, slot=slot, reason="unsure")


# On the page


def send(client: Client, data: dict[str, Any], ranks: dict[str, int], version: int | None = None) -> Any:
    body = {"uuid": str(uuid.uuid4()), "version": version, "answer": {"ranks": ranks}}
    return client.post(data["addresses"]["submit"], data=json.dumps(body), content_type="application/json")


def desk(client: Client, address: str) -> tuple[str, dict[str, Any]]:
    html = client.get(address).content.decode()
    return html, json.loads(re.search(r'id="desk-data"[^>]*>(.*?)</script>', html).group(1))  # type: ignore[union-attr]


def wrong_by_letters(stage: World) -> dict[str, int]:
    slot = Slot.objects.get(rater=stage.bob, state=Slot.State.LEASED)
    order = sorted(slot.shown)
    return {letter: 4 - order.index(pk) for letter, pk in zip("ABCD", slot.shown, strict=True)}


def test_the_walk_through_a_round_that_is_not_passed_and_another_try(client: Client, stage: World) -> None:
    client.force_login(stage.bob)
    next_item = reverse("next_item", args=["garden"])
    html, data = desk(client, reverse("rate", args=["garden"]))
    assert data["progress"] == {"done": 0, "total": 2, "words": "Qualification 1 of 2"}
    assert "Welcome. First come 2 items whose right answers are known" in html
    reply = send(client, data, wrong_by_letters(stage)).json()
    assert (reply["opened"], reply["progress"]["words"]) == (False, "Qualification 1 of 2")
    feedback, told = desk(client, reply["feedback"])
    assert "The key sees it differently" in feedback
    assert "agrees 0.0% with the right one" in feedback
    assert "<strong>Because</strong> it helps." in feedback
    assert feedback.count(">differs</span>") == 4
    assert told["progress"]["words"] == "Qualification 1 of 2"
    # It stands, however it is reached.
    refused = send(client, data, {"A": 1}, version=1)
    assert (refused.status_code, "what you said of it stands" in refused.json()["error"]) == (400, True)
    assert "The key sees it differently" in client.get(reverse("last_answer", args=["garden"])).content.decode()
    slot = Judgement.objects.latest("pk").slot
    assert client.get(reverse("change", args=["garden", slot.pk])).status_code == 302
    html, data = desk(client, next_item)
    assert data["progress"]["words"] == "Qualification 2 of 2"
    assert "right answers are known" not in html
    send(client, data, wrong_by_letters(stage))
    html, _data = desk(client, next_item)
    assert "that was the whole qualification" in html
    assert "Your answers agree 0.0% with the right ones; 90.0% are asked for" in html
    assert html.count('class="card missed"') == 2
    lead = Client()
    lead.force_login(stage.alice)
    page = lead.get(reverse("quality", args=["garden"])).content.decode()
    assert "0.0% in round 1" in page
    lead.post(reverse("allow_another", args=["garden", bob(stage).pk]))
    html, data = desk(client, next_item)
    assert data["progress"]["words"] == "Qualification 1 of 2"
    assert "Another try, with the same 2 items." in html


def test_who_judged_before_is_told_that_the_qualification_is_new_and_for_them_too(client: Client, stage: World) -> None:
    Project.objects.update(pass_mark=None)
    answer_next(stage.bob, Project.objects.get())
    Project.objects.update(pass_mark=0.9)
    client.force_login(stage.bob)
    html = client.get(reverse("rate", args=["garden"])).content.decode()
    assert "for those who have judged here before as well: 2 items" in html


def test_passing_is_said_with_the_last_feedback(client: Client, stage: World) -> None:
    client.force_login(stage.bob)
    answer_next(stage.bob, stage.project)
    _html, data = desk(client, reverse("rate", args=["garden"]))
    slot = Slot.objects.get(rater=stage.bob, state=Slot.State.LEASED)
    order = sorted(slot.shown)
    right = {letter: order.index(pk) + 1 for letter, pk in zip("ABCD", slot.shown, strict=True)}
    reply = send(client, data, right).json()
    feedback, _told = desk(client, reply["feedback"])
    assert "Just as the key has it" in feedback
    assert "You have passed the qualification. Real items follow." in feedback
    assert "Qualification" not in reply["progress"]["words"]


def test_a_gold_item_s_feedback_is_not_to_be_had_before_it_is_revealed(client: Client, stage: World) -> None:
    Project.objects.update(pass_mark=None)
    client.force_login(stage.bob)
    judgement = answer_next(stage.bob, Project.objects.get())
    assert client.get(reverse("feedback", args=["garden", judgement.slot_id])).status_code == 404
