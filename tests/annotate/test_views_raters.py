"""How raters agree: figures by hand, what is explained where there are none, and what each rater sees of themselves."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Aggregate, Completion, Item, ItemCompletion, Purpose, Slot, User
from annotate.services import aggregates
from annotate.services.claiming import claim
from annotate.services.guidelines import mark_read, publish
from annotate.services.simulate import judge_everything
from tests.annotate.factory import World, collect_items, world
from tests.annotate.keyed import answer, answer_next, change, member

pytestmark = pytest.mark.django_db

Rule = Callable[[list[int], int], tuple[int, ...]]
"""Places of an item's answers in the order of their making, by the order in which they are shown and the turn."""


def oldest_first(_shown: list[int], _turn: int) -> tuple[int, ...]:
    return (1, 2)


def first_shown(shown: list[int], _turn: int) -> tuple[int, ...]:
    return (1, 2) if shown[0] < shown[1] else (2, 1)


def all_alike(_shown: list[int], _turn: int) -> tuple[int, ...]:
    return (1, 1)


def other_on_every_fourth(_shown: list[int], turn: int) -> tuple[int, ...]:
    return (2, 1) if turn % 4 == 0 else (1, 2)


def pairs(prompts: int = 8) -> World:
    """Items of two answers for two raters each."""
    stage = world(prompts=prompts, overlap=2, completions_per_item=2)
    collect_items(stage, samples=2)
    return stage


def judge(stage: World, rater: User, rule: Rule, *, times: int = 8, **more: object) -> None:
    """Judge the items in the order of their making, each of which is shown in a drawn order."""
    for turn in range(times):
        slot = claim(user=rater, project=stage.project)
        assert slot is not None
        answer(slot, rule(list(slot.shown), turn), active_ms=1000 * (turn + 1), **more)


def show(client: Client, stage: World, viewer: User | None = None, page: str = "raters", **query: str) -> str:
    client.force_login(viewer or stage.alice)
    response = client.get(reverse(page, args=["garden"]), query)
    assert response.status_code == 200
    return re.sub(r"\s+", " ", response.content.decode())


def found(stage: World, kind: str = "human", version: str = "1") -> dict[str, Any]:
    taken = aggregates.of(stage.project, Aggregate.Name.RATERS)
    assert taken is not None
    versions: dict[str, dict[str, Any]] = taken.data[kind]["versions"]
    return versions[version]


def test_before_the_first_judgement_the_page_says_what_comes(client: Client) -> None:
    stage = pairs()
    html = show(client, stage)
    assert "Nothing is judged yet" in html
    assert "<table" not in html
    assert "Beside others" not in show(client, stage, stage.bob, "mine")


def test_figures_are_those_of_a_hand_calculation(client: Client) -> None:
    stage = pairs()
    dora = member(stage, "dora")
    judge(stage, stage.bob, oldest_first)
    judge(stage, dora, other_on_every_fourth)
    figures = found(stage)
    # They say the same of 6 of 8 pairs.
    assert (figures["alike"]["value"], figures["alike"]["n"], figures["judgements"]) == (0.75, 8, 16)
    # α: 2 of the 8 pairs differ, so 4 of 16 coincidences. A pair being as good the other way round, 8 of the 16 say
    # "the older": by chance 2·8·8 of 16·15 differ. 1 − 15·4/(2·8·8).
    assert (figures["beyond_chance"]["value"], figures["beyond_chance"]["n"]) == (pytest.approx(0.53125), 16)
    bob, other = figures["raters"][str(stage.bob.pk)], figures["raters"][str(dora.pk)]
    assert bob["agreement"]["value"] == other["agreement"]["value"] == 0.75
    assert (bob["active_ms"]["value"], bob["active_ms"]["low"], bob["active_ms"]["high"]) == (4500, 1000, 8000)
    html = show(client, stage)
    assert "75.0%" in html
    assert "n = 8" in html
    assert html.count("There are too few judgements to tell.") == 2  # of drift
    assert "There are only 2 raters: the intervals of agreement beyond chance are over prompts alone" in html


def test_judged_and_usual_time_are_of_all_judgements_and_all_their_versions(client: Client) -> None:
    stage = pairs()
    for turn in range(3):
        slot = claim(user=stage.bob, project=stage.project)
        assert slot is not None
        edits = {str(pk): f"A clearer wording {turn}." for pk in slot.shown}
        answer(slot, (), edits=edits, active_ms=1000 * (turn + 1))
    careful = answer_next(stage.bob, stage.project, (1, 2), active_ms=90_000)
    change(careful, (2, 1), active_ms=3_000)
    bob = found(stage)["raters"][str(stage.bob.pk)]
    # Of 1, 2, 3 and 93 s; only the last item has an order.
    assert (bob["judged"], bob["active_ms"]["value"], bob["active_ms"]["n"]) == (4, 2500, 4)
    assert bob["position_bias"]["n"] == 1
    assert "Over 4 judgements" in show(client, stage)


def test_one_rater_is_explained(client: Client) -> None:
    stage = pairs()
    judge(stage, stage.bob, oldest_first, times=3)
    html = show(client, stage)
    assert "There is only one rater." in html
    assert "No two raters judged the same." in html
    assert "n = 3" in html


def test_who_always_takes_the_first_answer_is_pointed_out(client: Client) -> None:
    stage = pairs(prompts=12)
    dora = member(stage, "dora")
    judge(stage, stage.bob, first_shown, times=12)
    judge(stage, dora, oldest_first, times=12)
    bias = found(stage)["raters"][str(stage.bob.pk)]["position_bias"]
    assert (bias["value"], bias["n"]) == (1, 12)
    assert bias["low"] > 0.5
    html = show(client, stage)
    assert html.count("favours the first") == 1
    assert "100.0%" in html


def test_all_ties_are_explained(client: Client) -> None:
    stage = pairs()
    for rater in (stage.bob, member(stage, "dora")):
        judge(stage, rater, all_alike)
    html = show(client, stage)
    assert "All answers are the same, so that chance alone explains the agreement." in html
    assert "100.0%" in html
    assert "50.0%" in html  # for what is shown first


def test_scores_by_criterion_are_compared_as_an_order(client: Client) -> None:
    stage = pairs()
    for rater in (stage.bob, member(stage, "dora")):
        for _n in range(8):
            slot = claim(user=rater, project=stage.project)
            assert slot is not None
            order = sorted(slot.item.completions.values_list("pk", flat=True))
            values = {pk: 1 + (slot.item_id + place) % 5 for place, pk in enumerate(order)}
            answer(slot, (1, 2), scores={str(pk): {str(stage.criterion.pk): v} for pk, v in values.items()})
    alpha = found(stage)["criteria"][str(stage.criterion.pk)]
    assert (alpha["value"], alpha["n"]) == (1, 32)
    html = show(client, stage)
    assert "By criterion" in html
    assert "Helpfulness" in html


def test_an_answer_that_a_rater_scored_in_two_items_is_no_agreement_of_two(client: Client) -> None:
    stage = pairs()
    for _item in range(2):
        slot = claim(user=stage.bob, project=stage.project)
        assert slot is not None
        scored = {"scores": {str(pk): {str(stage.criterion.pk): 4} for pk in slot.shown}}
        answer(slot, (1, 2), **scored)
        again = Item.objects.create(project=stage.project, prompt=slot.item.prompt, purpose=Purpose.EVALUATE)
        for position, entry in enumerate(slot.item.entries.all()):
            ItemCompletion.objects.create(item=again, completion=entry.completion, position=position)
        own = {"purpose": Purpose.EVALUATE, "number": 0, "priority": -(2**50), "order_seed": 1}
        Slot.objects.create(project=stage.project, item=again, **own)
        answer_next(stage.bob, stage.project, (1, 2), **scored)
    alpha = found(stage)["criteria"][str(stage.criterion.pk)]
    assert (alpha["reason"], alpha["n"]) == ("There is only one rater.", 4)
    assert show(client, stage).count("There is only one rater.") >= 2


def test_judgements_under_other_instructions_are_kept_apart_and_said(client: Client) -> None:
    stage = pairs()
    judge(stage, stage.bob, oldest_first, times=2)
    version = publish(project=stage.project, text="Be brief.", translations={}, must_read=True, actor=stage.alice)
    mark_read(user=stage.bob, guideline=version)
    judge(stage, stage.bob, oldest_first, times=3)
    assert (found(stage)["judgements"], found(stage, version="2")["judgements"]) == (2, 3)
    html = show(client, stage)
    assert "Judgements under other instructions are kept apart:" in html
    assert "Over 3 judgements · instructions version 2" in html
    assert "Over 2 judgements · instructions version 1" in show(client, stage, instructions="1")
    assert "Over 3 judgements" in show(client, stage, instructions="99")


def test_people_and_programs_are_switched_and_never_mixed(client: Client) -> None:
    stage = pairs()
    judge(stage, stage.bob, oldest_first, times=1)
    judge_everything(project=stage.project, seed=1)
    assert "Over 1 judgement ·" in show(client, stage)
    html = show(client, stage, kind="simulated")
    assert "simulated-1" in html
    assert ">bob<" not in html
    assert "Nothing is judged yet" in show(client, stage, kind="ai")


def test_where_no_person_has_judged_the_page_begins_with_who_has(client: Client) -> None:
    stage = pairs()
    judge_everything(project=stage.project, seed=1)
    assert "simulated-1" in show(client, stage)
    assert "Nothing is judged yet" in show(client, stage, kind="human")


def test_raters_see_their_own_figures_and_nobody_else_s(client: Client) -> None:
    stage = pairs()
    dora = member(stage, "dora")
    judge(stage, stage.bob, oldest_first)
    judge(stage, dora, other_on_every_fourth)
    mark_read(user=dora, guideline=stage.project.guidelines.get())
    html = show(client, stage, stage.bob, "mine")
    assert "Beside others" in html
    assert re.search(r'With others</dt> ?<dd class="number">75\.0%', html)
    assert "dora" not in html
    client.force_login(stage.bob)
    assert client.get(reverse("raters", args=["garden"])).status_code == 403


def test_what_is_not_counted_is_in_no_figure() -> None:
    stage = pairs()
    judge(stage, stage.bob, oldest_first, times=2)
    Slot.objects.filter(state="done").update(purpose="gold", number=None, reserved_for=stage.bob)
    taken = aggregates.of(stage.project, Aggregate.Name.RATERS)
    assert taken is not None
    assert taken.data == {}
    assert Completion.objects.exists()
