"""Raters held against themselves: repeats, what they are compared with, and the figures with their intervals."""

from __future__ import annotations

import re

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse

from annotate.models import Check, Purpose
from annotate.services import checks, figures, raters
from annotate.services.figures import Share
from tests.annotate.factory import World, collect_items, world
from tests.annotate.keyed import (
    RIGHT,
    WRONG,
    answer,
    answer_next,
    answering,
    change,
    checked,
    handed,
    make_key,
    new_instructions,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage() -> World:
    made = world(prompts=6)
    collect_items(made)
    return made


def test_a_repeat_is_compared_with_what_the_rater_said_before(stage: World) -> None:
    first = answer_next(stage.bob, stage.project, (1, 2, 3, 4))
    again = answer(handed(first.item, Purpose.REPEAT, stage.bob), (1, 2, 4, 3))
    check = Check.objects.get(judgement=again)
    assert (check.earlier, check.agreement) == (first, pytest.approx(5 / 6))
    with_self = raters.own(user=stage.bob, project=stage.project).with_self
    assert (with_self.mean, with_self.n, with_self.few) == (pytest.approx(5 / 6), 1, True)


def test_a_repeat_is_compared_again_when_what_was_said_before_is_changed(stage: World) -> None:
    first = answer_next(stage.bob, stage.project, RIGHT)
    again = answer(handed(first.item, Purpose.REPEAT, stage.bob), WRONG)
    check = Check.objects.get(judgement=again)
    assert check.agreement == 0
    change(first, WRONG)
    check.refresh_from_db()
    assert (check.earlier, check.agreement) == (first, 1)
    change(first, (1,))  # which puts no two answers in an order
    assert not Check.objects.exists()
    change(first, RIGHT)
    assert Check.objects.get(judgement=again).agreement == 0


@pytest.mark.django_db(transaction=True)
def test_a_repeat_that_comes_while_what_was_said_before_is_being_changed_is_compared_with_the_change(
    stage: World,
) -> None:
    first = answer_next(stage.bob, stage.project, RIGHT)
    slot = handed(first.item, Purpose.REPEAT, stage.bob)
    repeat = answering(slot, WRONG)
    with transaction.atomic():
        change(first, WRONG)
        repeat.start()
        repeat.join(1)
        assert repeat.is_alive()  # it waits for the earlier judgement
    repeat.join(30)
    assert Check.objects.get().agreement == 1


def shares(client: Client, stage: World) -> tuple[Share, Share, str]:
    """Bob's agreement with himself as he sees it and as leads do, and his page."""
    client.force_login(stage.bob)
    html = re.sub(r"\s+", " ", client.get(reverse("mine", args=["garden"])).content.decode())
    of_leads = figures.of(stage.project).by_rater[stage.bob.pk].with_self
    return raters.own(user=stage.bob, project=stage.project).with_self, of_leads, html


def test_a_change_of_mind_that_new_instructions_ask_for_is_no_disagreement_with_oneself(
    client: Client, stage: World
) -> None:
    before, after = (answer_next(stage.bob, stage.project, RIGHT) for _n in range(2))
    answer(handed(before.item, Purpose.REPEAT, stage.bob), RIGHT)
    new_instructions(stage)
    answer(handed(after.item, Purpose.REPEAT, stage.bob), WRONG)
    own, of_leads, html = shares(client, stage)
    assert own == of_leads == Share(1.0, 1)
    assert "items judged twice: 1" in html
    assert "left out, since the instructions had changed: 1" in html
    change(after, RIGHT)  # under the new instructions
    own, of_leads, html = shares(client, stage)
    assert own == of_leads == Share(0.5, 2)
    assert "left out" not in html


def test_a_small_correction_of_the_instructions_changes_nothing(client: Client, stage: World) -> None:
    first = answer_next(stage.bob, stage.project, RIGHT)
    new_instructions(stage, must_read=False)
    answer(handed(first.item, Purpose.REPEAT, stage.bob), RIGHT)
    own, of_leads, html = shares(client, stage)
    assert own == of_leads == Share(1.0, 1)
    assert "left out" not in html


def test_an_item_that_was_repeated_twice_is_one_item(client: Client, stage: World) -> None:
    first = answer_next(stage.bob, stage.project, RIGHT)
    for places in (RIGHT, WRONG):
        answer(handed(first.item, Purpose.REPEAT, stage.bob), places)
    own, of_leads, _html = shares(client, stage)
    assert own == of_leads == Share(0.5, 1)


def test_each_mean_agreement_stands_with_its_interval(client: Client, stage: World) -> None:
    for places in (RIGHT, WRONG):
        checked(make_key(stage, "gold"), stage.bob, places)
    first = answer_next(stage.bob, stage.project, RIGHT)
    answer(handed(first.item, Purpose.REPEAT, stage.bob), RIGHT)
    assert checks.reveal(user=stage.bob, project=stage.project) == 2
    # Wilson's, as statsmodels 0.14 has it for 1 of 2 and for 1 of 1.
    assert Share(0.5, 2).interval == pytest.approx([0.094531, 0.905469], abs=1e-6)
    assert Share(None, 0).interval is None
    _own, _of_leads, mine = shares(client, stage)
    client.force_login(stage.alice)
    quality = re.sub(r"\s+", " ", client.get(reverse("quality", args=["garden"])).content.decode())
    for html in (mine, quality):
        assert "9.5% – 90.5%" in html
        assert "20.7% – 100.0%" in html
    assert "The instructions were changed" not in quality
