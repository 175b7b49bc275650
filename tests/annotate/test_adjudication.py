"""Where raters disagree too much, a second person decides, and sees what they said."""

from __future__ import annotations

import re

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse

from annotate.models import AuditEvent, Item, Judgement, Membership, Project, Purpose, Slot, User
from annotate.services import adjudication, disagreements, keys, places, raters
from annotate.services.claiming import claim, skip
from annotate.services.figures import Share
from tests.annotate.factory import World, collect_items, world
from tests.annotate.keyed import (
    RIGHT,
    WRONG,
    answer,
    answer_next,
    answering,
    change,
    make_key,
    member,
    new_instructions,
)

pytestmark = pytest.mark.django_db

ODD = (2, 1, 3, 4)
"""Agrees with RIGHT on five of six pairs."""


@pytest.fixture
def stage() -> World:
    made = world(prompts=1, overlap=2, adjudicate_above=0.3)
    collect_items(made)
    return made


def asked() -> list[str]:
    slots = Slot.objects.filter(purpose=Purpose.ADJUDICATE).order_by("pk")
    return [slot.reserved_for.username for slot in slots if slot.reserved_for]


def test_the_last_judgement_that_makes_the_disagreement_plain_asks_a_lead_to_decide(stage: World) -> None:
    carol = member(stage, "carol")
    answer_next(stage.bob, stage.project, RIGHT)
    assert asked() == []
    answer_next(carol, stage.project, WRONG)
    assert asked() == ["alice"]
    event = AuditEvent.objects.get(action="asked")
    assert (event.actor, event.data["disagreement"]) == (None, 1.0)
    slot = claim(user=stage.alice, project=stage.project)
    assert slot is not None
    assert slot.purpose == Purpose.ADJUDICATE


@pytest.mark.parametrize(("threshold", "expected"), [(0.3, []), (0.1, ["alice"]), (None, [])])
def test_below_the_threshold_or_without_one_nobody_is_asked(
    stage: World, threshold: float | None, expected: list[str]
) -> None:
    Project.objects.update(adjudicate_above=threshold)
    stage.project.refresh_from_db()
    answer_next(stage.bob, stage.project, RIGHT)
    answer_next(member(stage, "carol"), stage.project, ODD)  # one of six pairs: 0.17
    assert asked() == expected


def test_who_has_least_to_decide_is_asked_and_raters_only_where_no_lead_can() -> None:
    stage = world(prompts=4, overlap=2, adjudicate_above=0.3)
    collect_items(stage)
    carol, dora, _erin = member(stage, "carol"), member(stage, "dora", "lead"), member(stage, "erin")
    for _n in range(4):
        item = answer_next(stage.bob, stage.project, RIGHT).item
        Slot.objects.filter(item=item).update(priority=-(2**60))
        answer_next(carol, stage.project, WRONG)
    assert asked() == ["alice", "dora", "alice", "dora"]
    Membership.objects.filter(user__in=[stage.alice, dora]).delete()
    assert [person.username for person in adjudication.eligible(item)] == ["erin"]


def test_a_rater_who_has_not_qualified_does_not_decide(stage: World) -> None:
    carol, dora = member(stage, "carol"), member(stage, "dora")
    item = answer_next(stage.bob, stage.project, RIGHT).item
    answer_next(carol, stage.project, RIGHT)
    Membership.objects.filter(user=stage.alice).update(role=Membership.Role.RATER)
    Project.objects.update(pass_mark=0.9)
    assert list(adjudication.eligible(Item.objects.get())) == [stage.alice, dora]  # no key, so no qualification
    keys.make(judgement=Judgement.objects.earliest("pk"), use="qualify", explanation="", actor=stage.alice)
    assert list(adjudication.eligible(Item.objects.get(pk=item.pk))) == []


def test_programs_disagreeing_with_people_ask_nobody(stage: World) -> None:
    carol = member(stage, "carol")
    User.objects.filter(pk=carol.pk).update(kind=User.Kind.SIMULATED)
    carol.refresh_from_db()
    answer_next(stage.bob, stage.project, RIGHT)
    answer_next(carol, stage.project, WRONG)
    assert asked() == []


def test_the_list_says_who_decides_who_passed_it_over_and_why_nobody_can(stage: World) -> None:
    def states() -> list[str]:
        return [entry.state for entry in disagreements.of(stage.project, raters.shared_items(stage.project))]

    carol = member(stage, "carol")
    Membership.objects.filter(user=stage.alice).delete()
    answer_next(stage.bob, stage.project, RIGHT)
    answer_next(carol, stage.project, WRONG)
    assert asked() == []
    assert states() == ["Nobody can be asked: every member who may decide has had this item."]
    dora = member(stage, "dora")
    assert states() == ["Nobody has been asked."]
    slot = adjudication.consider(item=Item.objects.select_related("project").get())
    assert states() == ["dora has been asked."]
    assert claim(user=dora, project=stage.project) == slot
    assert slot is not None
    skip(user=dora, slot=slot, reason="unsure")
    assert states() == ["dora passed over it: ask somebody else."]


def test_the_adjudicator_sees_both_judgements_in_their_own_letters_and_no_name(client: Client, stage: World) -> None:
    carol = member(stage, "carol")
    answer_next(stage.bob, stage.project, RIGHT, rationale="The first is clear.")
    answer_next(carol, stage.project, WRONG)
    client.force_login(stage.alice)
    html = client.get(reverse("rate", args=["garden"])).content.decode()
    others = re.search(r'<details class="others".*?</section>\s*</div>\s*</details>', html, re.DOTALL)
    assert others is not None
    text = others.group(0)
    slot = Slot.objects.get(purpose=Purpose.ADJUDICATE)
    order = sorted(slot.shown)
    shown = re.findall(r"Place <strong>(\d)</strong>", text)
    expected = [order.index(pk) + 1 for pk in slot.shown]
    assert [int(place) for place in shown] == expected + [5 - place for place in expected]
    assert "The first is clear." in text
    assert ("Rater 1" in text, "Rater 2" in text, "bob" in text, "carol" in text) == (True, True, False, False)
    answer(Slot.objects.get(pk=slot.pk))
    (entry,) = disagreements.of(stage.project, raters.shared_items(stage.project))
    assert (entry.state, entry.share, entry.decided) == ("alice decided.", 1.0, True)


def test_ordinary_items_show_nobody_s_judgements(client: Client, stage: World) -> None:
    answer_next(stage.bob, stage.project, RIGHT)
    client.force_login(stage.alice)
    assert 'class="others"' not in client.get(reverse("rate", args=["garden"])).content.decode()


def test_the_table_of_raters_holds_each_figure_with_its_number() -> None:
    stage = world(prompts=3, overlap=2)
    collect_items(stage)
    carol = member(stage, "carol")
    for person, ways in ((stage.bob, (RIGHT, RIGHT)), (carol, (RIGHT, ODD))):
        for item, way in zip(Item.objects.order_by("pk")[:2], ways, strict=True):
            Slot.objects.filter(item=item).update(priority=-(2**60) + item.pk)
            answer_next(person, stage.project, way, active_ms=60_000)
    table = raters.table(stage.project, raters.shared_items(stage.project))
    rows = {row.membership.user.username: row for row in table.rows}
    for name in ("bob", "carol"):
        with_others = rows[name].with_others
        assert (with_others.mean, with_others.n) == (pytest.approx((1 + 5 / 6) / 2), 2)
        own = rows[name].figures
        assert (own.judged, own.total_ms, own.median_ms) == (2, 120_000, 60_000)
        assert rows[name].with_others.few
    assert rows["alice"].with_others == Share(None, 0)
    make_key(stage, "gold")
    assert places.disagreement(adjudication.judged(Item.objects.order_by("pk")[1])) == pytest.approx(1 / 6)


def test_raters_are_compared_only_where_they_judged_under_the_same_instructions(client: Client) -> None:
    stage = world(prompts=2, overlap=2)
    collect_items(stage)
    carol = member(stage, "carol")
    old = [answer_next(stage.bob, stage.project, RIGHT) for _n in range(2)]
    answer_next(carol, stage.project, RIGHT)
    new_instructions(stage)
    answer_next(carol, stage.project, WRONG)

    def with_others() -> list[Share]:
        table = raters.table(stage.project, raters.shared_items(stage.project))
        return [row.with_others for row in table.rows if row.membership.user in (stage.bob, carol)]

    def page() -> str:
        return re.sub(r"\s+", " ", client.get(reverse("quality", args=["garden"])).content.decode())

    client.force_login(stage.alice)
    assert with_others() == [Share(1.0, 1)] * 2
    assert "Of the newest items that several people judged, that concerns 1." in page()
    assert page().count("under different instructions") == 1  # in the list of disagreements
    (apart,) = [item.item for item in raters.shared_items(stage.project) if item.is_mixed]
    change(next(judgement for judgement in old if judgement.item == apart), RIGHT)
    assert with_others() == [Share(0.5, 2)] * 2
    assert "that concerns" not in page()
    assert "The instructions were changed" in page()


@pytest.mark.django_db(transaction=True)
def test_two_last_answers_at_the_same_time_do_not_both_overlook_the_disagreement() -> None:
    stage = world(prompts=1, overlap=2, adjudicate_above=0.3)
    collect_items(stage)
    carol = member(stage, "carol")
    mine, theirs = claim(user=stage.bob, project=stage.project), claim(user=carol, project=stage.project)
    assert mine is not None
    assert theirs is not None
    other = answering(theirs, WRONG)
    with transaction.atomic():
        answer(mine, RIGHT)
        other.start()
        other.join(1)
        assert other.is_alive()  # it waits for the item
        assert asked() == []
    other.join(30)
    assert asked() == ["alice"]
