"""Where raters and projects stand: small projects are counted as one looks, large ones from time to time."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from annotate.models import Tally
from annotate.services import standing as service
from annotate.services.claiming import claim, shown_order
from annotate.services.judging import submit
from annotate.services.standing import Counts, Standing, count_again, counts, standing
from tests.annotate.factory import World, collect_items, world

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stage() -> World:
    stage = world(prompts=4)
    collect_items(stage)
    return stage


@pytest.fixture
def large(stage: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A project that counts as large, counted once."""
    monkeypatch.setattr(service, "COUNTED_AT_ONCE", 3)
    judge(stage)
    count_again()
    return stage


def judge(stage: World, *, of_bob: bool = True) -> None:
    user = stage.bob if of_bob else stage.alice
    slot = claim(user=user, project=stage.project)
    assert slot is not None
    ranks = {str(pk): place for place, pk in enumerate(shown_order(slot), start=1)}
    submit(user=user, slot=slot, uuid=uuid.uuid4(), raw={"ranks": ranks})


def test_a_small_project_is_never_out_of_date(stage: World) -> None:
    count_again()
    assert not Tally.objects.exists()
    judge(stage)
    assert standing(user=stage.bob, project=stage.project) == Standing(mine=1, done=1, total=4)
    assert counts(stage.project) == Counts(done=1, total=4)


def test_a_large_project_is_counted_by_the_task(large: World) -> None:
    judge(large, of_bob=False)
    assert counts(large.project) == Counts(done=1, total=4)
    Tally.objects.update(at=timezone.now() - timedelta(minutes=1))
    count_again()
    assert counts(large.project) == Counts(done=2, total=4)


def test_a_rater_of_a_large_project_sees_each_own_judgement_at_once(large: World) -> None:
    judge(large)
    judge(large, of_bob=False)
    assert standing(user=large.bob, project=large.project) == Standing(mine=2, done=1, total=4)
    assert standing(user=large.alice, project=large.project) == Standing(mine=1, done=1, total=4)


@pytest.mark.parametrize(("minutes", "done"), [(3, 1), (4, 2)])
def test_a_count_that_took_two_seconds_is_repeated_after_two_hundred(large: World, minutes: int, done: int) -> None:
    judge(large)
    Tally.objects.update(seconds=2.0, at=timezone.now() - timedelta(minutes=minutes))
    count_again()
    assert counts(large.project).done == done


def test_the_first_page_shows_a_large_project_too(large: World, client: Client) -> None:
    client.force_login(large.alice)
    assert "0 by you; 25 % of the project" in client.get("/").content.decode()
