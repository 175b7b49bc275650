"""Answer keys, what is compared with them, and objections to them."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import AnswerKey, Check, Contest, Judgement, Purpose, Slot
from annotate.services import Refused, checks, contests, keys, raters
from annotate.services.figures import Share
from tests.annotate.factory import World, collect_items, world
from tests.annotate.keyed import (
    RIGHT,
    WRONG,
    answer,
    answer_next,
    change,
    checked,
    handed,
    make_key,
    member,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage() -> World:
    made = world(prompts=6)
    collect_items(made)
    return made


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (RIGHT, 1.0),
        (WRONG, 0.0),
        ((2, 1, 3, 4), 5 / 6),  # one of six pairs reversed
        ((1, 1, 2, 2), 5 / 6),  # two of six pairs tied
        ((1, 2, None, None), 1.0),  # the one pair that the rater ranked
    ],
)
def test_a_gold_judgement_is_compared_with_the_key(
    stage: World, places: tuple[int | None, ...], expected: float
) -> None:
    check = checked(make_key(stage, "gold"), stage.bob, places)
    assert check.agreement == pytest.approx(expected)
    assert check.revealed_at is None


def test_scores_are_compared_where_a_judgement_has_no_ranks(stage: World) -> None:
    key = make_key(stage, "gold")
    slot = handed(key.item, Purpose.GOLD, stage.bob)
    order = sorted(slot.item.completions.values_list("pk", flat=True))
    scores = {str(pk): {str(stage.criterion.pk): value} for pk, value in zip(order, (5, 4, 4, 1), strict=True)}
    judgement = answer(slot, (), scores=scores)
    assert Check.objects.get(judgement=judgement).agreement == pytest.approx(5.5 / 6)  # one pair of six tied


def test_two_who_call_all_answers_bad_agree_and_one_alone_is_half_right(stage: World) -> None:
    slot_of = {}
    for use, places in (("gold", ()), ("qualify", RIGHT)):
        judgement = answer_next(stage.alice, stage.project, places, **({"both_bad": True} if not places else {}))
        slot_of[use] = keys.make(judgement=judgement, use="gold", explanation="", actor=stage.alice)
    for use, expected in (("gold", 1.0), ("qualify", 0.5)):
        slot = handed(slot_of[use].item, Purpose.GOLD, stage.bob)
        assert Check.objects.get(judgement=answer(slot, (), both_bad=True)).agreement == expected


def test_a_judgement_that_orders_nothing_is_no_key_and_has_no_check(stage: World) -> None:
    first = answer_next(stage.alice, stage.project, (1,))
    with pytest.raises(Refused, match="ranks and scores nothing"):
        keys.make(judgement=first, use="gold", explanation="", actor=stage.alice)
    judgement = answer(handed(make_key(stage, "gold").item, Purpose.GOLD, stage.bob), (1,))
    assert not Check.objects.filter(judgement=judgement).exists()


def test_a_check_follows_the_judgement_until_the_key_is_shown_and_then_it_stands(stage: World) -> None:
    check = checked(make_key(stage, "gold"), stage.bob, WRONG)
    change(check.judgement, RIGHT)
    check.refresh_from_db()
    assert check.agreement == 1.0
    assert checks.reveal(user=stage.bob, project=stage.project) == 1
    judgement = Judgement.objects.get(pk=check.judgement_id)
    with pytest.raises(Refused, match="what you said of it stands"):
        change(judgement, WRONG)
    judgement.refresh_from_db()
    assert judgement.version == 2
    assert checks.reveal(user=stage.bob, project=stage.project) == 0


def test_an_item_has_one_active_key_of_a_use_and_a_retired_one_is_replaced_and_compared_again(stage: World) -> None:
    key = make_key(stage, "gold")
    check = checked(key, stage.bob, WRONG)
    with pytest.raises(Refused, match="such a key already"):
        keys.make(judgement=check.judgement, use="gold", explanation="", actor=stage.alice)
    keys.switch(key=key, active=False, actor=stage.alice)
    other = answer(handed(key.item, Purpose.GOLD, member(stage, "carol")), (4, 3, 1, 2))
    assert not Check.objects.filter(judgement=other).exists()  # a retired key judges nobody
    again = keys.make(judgement=check.judgement, use="gold", explanation="", actor=stage.alice)
    assert again.pk == key.pk
    check.refresh_from_db()
    assert check.agreement == 1.0


def test_keys_of_the_qualification_change_places(stage: World) -> None:
    first, second, third = (make_key(stage, "qualify") for _n in range(3))
    keys.move(key=third, earlier=True, actor=stage.alice)
    keys.move(key=first, earlier=True, actor=stage.alice)
    keys.move(key=first, earlier=False, actor=stage.alice)
    assert list(AnswerKey.objects.order_by("position")) == [third, first, second]


def test_an_objection_is_made_once_and_only_to_a_key_that_was_shown(stage: World) -> None:
    check = checked(make_key(stage, "gold"), stage.bob)
    with pytest.raises(Refused, match="that you were shown"):
        contests.contest(check=check, reason="No.", user=stage.bob)
    checks.reveal(user=stage.bob, project=stage.project)
    check.refresh_from_db()
    with pytest.raises(Refused, match="that you were shown"):
        contests.contest(check=check, reason="No.", user=stage.alice)
    with pytest.raises(Refused, match="Say why"):
        contests.contest(check=check, reason=" ", user=stage.bob)
    contests.contest(check=check, reason="No.", user=stage.bob)
    with pytest.raises(Refused, match="already"):
        contests.contest(check=check, reason="No!", user=stage.bob)


def test_an_accepted_objection_counts_no_more_and_a_refused_one_does(stage: World) -> None:
    wrong, right = make_key(stage, "gold"), make_key(stage, "gold")
    bad, good = checked(wrong, stage.bob, WRONG), checked(right, stage.bob, RIGHT)
    checks.reveal(user=stage.bob, project=stage.project)
    bad.refresh_from_db()
    made = contests.contest(check=bad, reason="The first one is made up.", user=stage.bob)

    def figure() -> Share:
        return raters.own(user=stage.bob, project=stage.project).with_gold

    assert figure() == Share(0.5, 2)
    with pytest.raises(Refused, match="why the key stands"):
        contests.decide(contest=made, accept=False, reply="", retire=False, actor=stage.alice)
    contests.decide(contest=made, accept=True, reply="You are right.", retire=True, actor=stage.alice)
    assert figure() == Share(1.0, 1)
    wrong.refresh_from_db()
    assert (wrong.active, good.agreement) == (False, 1.0)
    with pytest.raises(Refused, match="decided already"):
        contests.decide(contest=made, accept=False, reply="No.", retire=False, actor=stage.alice)


def test_the_walk_of_an_objection_through_the_pages(client: Client, stage: World) -> None:
    key = make_key(stage, "gold")
    check = checked(key, stage.bob)
    client.force_login(stage.bob)
    mine = reverse("mine", args=["garden"])
    assert "<strong>Because</strong>" not in client.get(mine).content.decode()
    assert client.post(reverse("contest", args=["garden", check.pk]), {"reason": "No."}).status_code == 404
    html = client.post(reverse("reveal", args=["garden"]), follow=True).content.decode()
    assert "Shown beside the right ones: 1 more of your answers." in html
    assert "<strong>Because</strong> it helps." in html
    html = client.post(reverse("contest", args=["garden", check.pk]), {"reason": "No."}, follow=True).content.decode()
    assert "A lead has still to decide." in html
    lead = Client()
    lead.force_login(stage.alice)
    page = reverse("quality", args=["garden"])
    assert '<blockquote class="notice verbatim" dir="auto">No.</blockquote>' in lead.get(page).content.decode()
    deciding = reverse("decide_contest", args=["garden", Contest.objects.get().pk])
    refusal = {"decision": "refuse", "reply": "It is in the instructions."}
    html = lead.post(deciding, refusal, follow=True).content.decode()
    assert "Your decision is stored" in html
    html = client.get(mine).content.decode()
    assert "A lead finds that the key stands." in html
    assert "It is in the instructions." in html
    assert "the key stands" in html


def test_a_lead_makes_keys_on_a_judgement_s_page(client: Client, stage: World) -> None:
    judgement = answer_next(stage.bob, stage.project)
    client.force_login(stage.alice)
    page = reverse("judgement", args=["garden", judgement.pk])
    assert "Use as gold" in client.get(page).content.decode()
    form = {"use": "gold", "explanation": "It *helps*."}
    html = client.post(reverse("make_key", args=["garden", judgement.pk]), form, follow=True).content.decode()
    assert "Raters are held against version 1 of this judgement." in html
    assert "Use as gold" not in html
    assert "Use for qualification" in html
    html = client.get(reverse("quality", args=["garden"])).content.decode()
    assert "It <em>helps</em>." in html
    assert Slot.objects.filter(purpose=Purpose.GOLD).count() == 0
