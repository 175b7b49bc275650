"""Slots made on demand, and the adjudication that counts in place of all other judgements."""

from __future__ import annotations

import uuid

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse

from annotate.models import AuditEvent, Item, Judgement, Membership, Purpose, Slot, User
from annotate.services import Refused
from annotate.services.claiming import claim, shown_order, skip
from annotate.services.judging import submit
from annotate.services.measure import win_rate
from annotate.services.ondemand import make_on_demand, never_had, new_slot
from annotate.services.rows import rankings
from annotate.services.snapshots import create_snapshot
from annotate.services.standing import standing
from tests.annotate.factory import World, collect_items, user, world
from tests.annotate.lineage import judge, turn

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage() -> World:
    made = world(prompts=1, overlap=2)
    collect_items(made)
    return made


def member(stage: World, name: str) -> User:
    made = user(name)
    Membership.objects.create(user=made, project=stage.project, role=Membership.Role.RATER)
    return made


def answer_next(rater: User, stage: World, *, reverse: bool = False) -> Judgement:
    """Judge the rater's next item: the completion made first is the best, or the worst."""
    slot = claim(user=rater, project=stage.project)
    assert slot is not None
    order = sorted(shown_order(slot), reverse=reverse)
    raw = {"ranks": {str(pk): place for place, pk in enumerate(order, start=1)}}
    judgement = submit(user=rater, slot=slot, uuid=uuid.uuid4(), raw=raw).judgement
    assert judgement is not None
    return judgement


def ask(stage: World, rater: User, purpose: Purpose = Purpose.ADJUDICATE) -> Slot:
    return make_on_demand(item=Item.objects.get(), purpose=purpose, rater=rater, actor=stage.alice)


def ranks_in_snapshot(stage: World) -> list[list[int | None]]:
    return [r.ranks for r in rankings(create_snapshot(project=stage.project, actor=None))]


def test_an_adjudication_comes_first_in_the_named_member_s_queue_and_in_nobody_else_s(stage: World) -> None:
    answer_next(stage.bob, stage)
    carol, dora = member(stage, "carol"), member(stage, "dora")
    slot = ask(stage, carol)
    assert claim(user=dora, project=stage.project) != slot
    assert claim(user=carol, project=stage.project) == slot
    assert AuditEvent.objects.get(action="asked").data == {"purpose": "adjudicate", "rater": "carol"}


def test_an_adjudication_counts_in_place_of_all_other_judgements_of_its_item(stage: World) -> None:
    answer_next(stage.bob, stage)
    answer_next(stage.alice, stage)
    assert ranks_in_snapshot(stage) == [[1, 2, 3, 4], [1, 2, 3, 4]]
    carol, dora = member(stage, "carol"), member(stage, "dora")
    ask(stage, carol)
    assert ranks_in_snapshot(stage) == [[1, 2, 3, 4], [1, 2, 3, 4]]
    answer_next(carol, stage, reverse=True)
    assert ranks_in_snapshot(stage) == [[4, 3, 2, 1]]
    ask(stage, dora)
    answer_next(dora, stage)
    assert ranks_in_snapshot(stage) == [[1, 2, 3, 4]]


def test_an_adjudication_by_a_program_supersedes_no_person_s_judgement(stage: World) -> None:
    answer_next(stage.bob, stage)
    carol = member(stage, "carol")
    ask(stage, carol)
    answer_next(carol, stage, reverse=True)
    User.objects.filter(pk=carol.pk).update(kind=User.Kind.AI)
    assert ranks_in_snapshot(stage) == [[1, 2, 3, 4]]


def test_a_blind_pair_is_not_adjudicated() -> None:
    left = turn(world(prompts=3))
    newer, older = left.generation, left.stage.generation
    slot = Slot.objects.filter(purpose=Purpose.EVALUATE).latest("pk")
    Slot.objects.filter(pk=slot.pk).update(priority=-(2**60))
    mine = claim(user=left.stage.bob, project=left.stage.project)
    assert mine == slot
    (new,) = slot.item.completions.filter(generation=newer)
    (old,) = slot.item.completions.filter(generation=older)
    submit(user=left.stage.bob, slot=slot, uuid=uuid.uuid4(), raw={"ranks": {str(new.pk): 1, str(old.pk): 2}})
    alice = left.stage.alice
    with pytest.raises(Refused, match="A blind pair is not adjudicated"):
        make_on_demand(item=slot.item, purpose=Purpose.ADJUDICATE, rater=alice, actor=None)
    asked = new_slot(item=slot.item, purpose=Purpose.ADJUDICATE, rater=alice)  # as could be asked for once
    claim(user=alice, project=left.stage.project)
    submit(user=alice, slot=asked, uuid=uuid.uuid4(), raw={"ranks": {str(new.pk): 2, str(old.pk): 1}})
    assert (win_rate(newer, older).value, win_rate(newer, older).n) == (1.0, 1)


def test_a_pair_of_which_both_are_bad_counts_as_a_tie() -> None:
    left = turn(world(prompts=3))
    Slot.objects.filter(purpose=Purpose.EVALUATE).update(priority=-(2**40))
    slot = claim(user=left.stage.bob, project=left.stage.project)
    assert slot is not None
    assert slot.purpose == Purpose.EVALUATE
    submit(user=left.stage.bob, slot=slot, uuid=uuid.uuid4(), raw={"both_bad": True})
    rate = win_rate(left.generation, left.stage.generation)
    assert (rate.value, rate.n) == (0.5, 1)


@pytest.mark.parametrize("purpose", [Purpose.REPEAT, Purpose.GOLD, Purpose.QUALIFY])
def test_other_slots_on_demand_enter_no_count_and_no_training_data(stage: World, purpose: Purpose) -> None:
    answer_next(stage.bob, stage)
    rater = stage.bob if purpose == Purpose.REPEAT else member(stage, "carol")
    ask(stage, rater, purpose)
    before = standing(user=rater, project=stage.project)
    assert answer_next(rater, stage, reverse=True).slot.purpose == purpose
    after = standing(user=rater, project=stage.project)
    assert (after.done, after.total, after.mine) == (before.done, before.total, before.mine + 1)
    assert ranks_in_snapshot(stage) == [[1, 2, 3, 4]]


def test_who_had_the_item_in_any_way_is_not_asked(stage: World) -> None:
    answer_next(stage.bob, stage)
    skipper, holder, carol = (member(stage, name) for name in ("skipper", "holder", "carol"))
    skipped = claim(user=skipper, project=stage.project)
    assert skipped is not None
    skip(user=skipper, slot=skipped, reason="unsure")
    claim(user=holder, project=stage.project)
    assert [person.username for person in never_had(Item.objects.get())] == ["alice", "carol"]
    for person in (stage.bob, skipper, holder, stage.charlie):
        with pytest.raises(Refused, match="cannot be asked"):
            ask(stage, person)
    ask(stage, carol)


@pytest.mark.parametrize(
    ("purpose", "sentence"),
    [
        (Purpose.COLLECT, "made with their item"),
        (Purpose.REPEAT, "has not judged this item"),
        (Purpose.ADJUDICATE, "nothing to adjudicate"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(stage: World, purpose: Purpose, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        ask(stage, stage.bob, purpose)


def test_asking_somebody_else_moves_the_open_adjudication_and_keeps_what_the_first_one_sends(stage: World) -> None:
    answer_next(stage.bob, stage)
    carol, dora = member(stage, "carol"), member(stage, "dora")
    slot = ask(stage, carol)
    assert claim(user=carol, project=stage.project) == slot
    assert ask(stage, dora) == slot
    assert claim(user=carol, project=stage.project) != slot
    raw = {"ranks": {str(pk): 1 for pk in shown_order(slot)}}
    assert submit(user=carol, slot=slot, uuid=uuid.uuid4(), raw=raw).outcome == "late"
    assert answer_next(dora, stage).slot == slot


def test_an_adjudication_that_was_skipped_can_be_asked_of_somebody_else(stage: World) -> None:
    answer_next(stage.bob, stage)
    carol, dora = member(stage, "carol"), member(stage, "dora")
    slot = ask(stage, carol)
    claim(user=carol, project=stage.project)
    skip(user=carol, slot=slot, reason="unsure")
    assert claim(user=carol, project=stage.project) is None
    ask(stage, dora)
    assert claim(user=dora, project=stage.project) == slot


@pytest.mark.parametrize(
    "fields",
    [
        {"purpose": "gold"},
        {"purpose": "collect", "number": 7, "reserved_for": "bob"},
        {"purpose": "gold", "reserved_for": "bob", "state": "done", "rater": "alice"},
        {"purpose": "gold", "reserved_for": "bob", "ahead": True},
    ],
)
def test_the_database_refuses_a_slot_for_nobody_for_two_or_with_a_wrong_purpose(
    stage: World, fields: dict[str, object]
) -> None:
    people = {"bob": stage.bob, "alice": stage.alice}
    values = {name: people.get(str(value), value) for name, value in fields.items()}
    with pytest.raises(IntegrityError), transaction.atomic():
        Slot.objects.create(project=stage.project, item=Item.objects.get(), order_seed=1, **values)


def test_a_lead_asks_on_the_judgement_s_page(client: Client) -> None:
    stage = world(prompts=1)
    collect_items(stage)
    judgement, carol = judge(stage), member(stage, "carol")
    client.force_login(stage.alice)
    address = reverse("judgement", args=[stage.project.slug, judgement.pk])
    assert "<option>carol</option>" in client.get(address).content.decode()
    asking = reverse("adjudicate", args=[stage.project.slug, judgement.pk])
    html = client.post(asking, {"rater": "carol"}, follow=True).content.decode()
    assert "carol has been asked to adjudicate this item." in html
    made = answer_next(carol, stage)
    assert f"Judgement {made.pk}</a> adjudicates this item" in client.get(address).content.decode()
    html = client.post(asking, {"rater": "carol"}, follow=True).content.decode()
    assert "Choose a member who has not had this item." in html


def test_a_late_answer_is_seen_by_the_lead_before_and_after_the_other_one_is_in(client: Client) -> None:
    stage = world(prompts=1)
    collect_items(stage)
    slot = claim(user=stage.bob, project=stage.project)
    assert slot is not None
    Slot.objects.filter(pk=slot.pk).update(rater=stage.alice)
    raw = {"ranks": {str(pk): 1 for pk in shown_order(slot)}, "rationale": "too slow, sadly"}
    submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=raw)
    client.force_login(stage.alice)
    prompt = client.get(reverse("prompt", args=[stage.project.slug, slot.item.prompt_id]))
    assert "too slow, sadly" in prompt.content.decode()
    judgement = answer_next(stage.alice, stage)
    page = client.get(reverse("judgement", args=[stage.project.slug, judgement.pk]))
    assert "too slow, sadly" in page.content.decode()
