"""What a project's settings do to its queue: pause, quota, lease, and the choice among projects."""

from __future__ import annotations

import uuid
from collections import Counter

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from annotate.models import Membership, Project, Purpose, Slot, User
from annotate.services.claiming import claim, open_ahead, renew, shown_order
from annotate.services.judging import submit
from annotate.services.offers import choose_project, why_none
from annotate.services.ondemand import make_on_demand
from annotate.services.projects import pause, resume
from tests.annotate.factory import World, collect_items, model_folder, user, world

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage() -> World:
    made = world(prompts=4)
    collect_items(made)
    return made


def reread(stage: World) -> Project:
    return Project.objects.get(pk=stage.project.pk)


def answer(rater: User, slot: Slot) -> None:
    raw = {"ranks": {str(pk): 1 for pk in shown_order(slot)}}
    assert submit(user=rater, slot=slot, uuid=uuid.uuid4(), raw=raw).outcome == "accepted"


def answer_next(rater: User, project: Project) -> None:
    slot = claim(user=rater, project=project)
    assert slot is not None
    answer(rater, slot)


# Pause


def test_a_paused_project_lets_raters_finish_what_they_hold_and_gives_nothing_new(stage: World) -> None:
    at_work = claim(user=stage.bob, project=stage.project)
    ahead = claim(user=stage.bob, project=stage.project, ahead=True)
    assert at_work
    assert ahead
    pause(project=stage.project, actor=stage.alice)
    project = reread(stage)
    assert claim(user=stage.bob, project=project) == at_work
    assert renew(user=stage.bob, slot=Slot.objects.get(pk=at_work.pk))
    assert claim(user=stage.alice, project=project) is None
    answer(stage.bob, at_work)
    assert not open_ahead(user=stage.bob, project=project, slot_id=ahead.pk)
    assert claim(user=stage.bob, project=project) is None
    assert "paused" in why_none(user=stage.bob, project=project)
    assert "paused" in why_none(user=stage.alice, project=project)
    resume(project=project, actor=stage.alice)
    assert claim(user=stage.bob, project=reread(stage)) == ahead


def test_a_paused_project_does_not_hand_out_what_a_rater_is_asked_for_by_name(stage: World) -> None:
    answer_next(stage.bob, stage.project)
    item = Slot.objects.get(state="done").item
    asked = make_on_demand(item=item, purpose=Purpose.REPEAT, rater=stage.bob, actor=stage.alice)
    pause(project=stage.project, actor=stage.alice)
    assert claim(user=stage.bob, project=reread(stage)) is None
    resume(project=reread(stage), actor=stage.alice)
    assert claim(user=stage.bob, project=reread(stage)) == asked


def test_a_judged_project_is_said_to_be_judged_although_it_is_paused(stage: World) -> None:
    for _ in range(4):
        answer_next(stage.bob, stage.project)
    pause(project=stage.project, actor=stage.alice)
    assert why_none(user=stage.bob, project=reread(stage)) == "Every item of this project is judged. Thank you!"


def test_the_page_of_a_paused_project_says_so(client: Client, stage: World) -> None:
    pause(project=stage.project, actor=stage.alice)
    client.force_login(stage.bob)
    html = client.get(reverse("rate", args=["garden"])).content.decode()
    assert "The project is paused." in html


# Quota


def test_nobody_gets_more_items_than_the_quota_and_is_told(stage: World) -> None:
    stage.project.quota = 2
    first = claim(user=stage.bob, project=stage.project)
    second = claim(user=stage.bob, project=stage.project, ahead=True)
    assert first
    assert second
    answer(stage.bob, first)
    assert claim(user=stage.bob, project=stage.project) == second
    assert claim(user=stage.bob, project=stage.project, ahead=True) is None
    answer(stage.bob, second)
    assert claim(user=stage.bob, project=stage.project) is None
    assert "as many items as one person may" in why_none(user=stage.bob, project=stage.project)
    assert claim(user=stage.alice, project=stage.project) is not None


def test_what_a_rater_is_asked_for_by_name_comes_beyond_the_quota(stage: World) -> None:
    stage.project.quota = 1
    answer_next(stage.bob, stage.project)
    item = Slot.objects.get(state="done").item
    asked = make_on_demand(item=item, purpose=Purpose.REPEAT, rater=stage.bob, actor=stage.alice)
    assert claim(user=stage.bob, project=stage.project) == asked
    answer(stage.bob, asked)
    stage.project.quota = 2
    assert claim(user=stage.bob, project=stage.project) is not None


def test_the_quota_is_no_reason_where_nothing_is_left_for_the_rater_anyway(stage: World) -> None:
    stage.project.quota = 4
    for _ in range(4):
        answer_next(stage.bob, stage.project)
    assert why_none(user=stage.bob, project=stage.project) == "Every item of this project is judged. Thank you!"


def test_a_quota_costs_claiming_one_query(stage: World) -> None:
    with CaptureQueriesContext(connection) as free:
        claim(user=stage.bob, project=stage.project)
    stage.project.quota = 10
    with CaptureQueriesContext(connection) as limited:
        claim(user=stage.alice, project=stage.project)
    assert len(limited) == len(free) + 1


# Lease


@pytest.mark.parametrize("minutes", [1, 45, 480])
def test_a_lease_lasts_as_long_as_the_project_says(stage: World, minutes: int) -> None:
    Project.objects.update(lease_minutes=minutes)
    project = reread(stage)

    def left(slot: Slot) -> float:
        expires = Slot.objects.get(pk=slot.pk).lease_expires_at
        assert expires is not None
        return (expires - timezone.now()).total_seconds() / 60

    at_work = claim(user=stage.bob, project=project)
    ahead = claim(user=stage.bob, project=project, ahead=True)
    assert at_work
    assert ahead
    assert left(at_work) == pytest.approx(minutes, abs=0.5)
    assert left(ahead) == pytest.approx(minutes, abs=0.5)
    for act in (
        lambda: renew(user=stage.bob, slot=at_work),
        lambda: open_ahead(user=stage.bob, project=project, slot_id=at_work.pk),
    ):
        Slot.objects.filter(state="leased").update(lease_expires_at=timezone.now())
        assert act()
        assert left(at_work) == pytest.approx(minutes, abs=0.5)


@pytest.mark.parametrize(("minutes", "seconds"), [(1, 20), (2, 40), (15, 300), (480, 300)])
def test_the_page_renews_well_within_any_lease(client: Client, stage: World, minutes: int, seconds: int) -> None:
    Project.objects.update(lease_minutes=minutes)
    client.force_login(stage.bob)
    html = client.get(reverse("rate", args=["garden"]), headers={"accept-language": "zh-CN"}).content.decode()
    assert f'data-renew="{seconds}"' in html
    assert seconds < minutes * 60


# Among projects


def another(stage: World, slug: str, prompts: int) -> Project:
    other = Project.objects.create(slug=slug, name=slug, base_model=str(model_folder()))
    Membership.objects.create(user=stage.bob, project=other, role="rater")
    for number in range(prompts):
        prompt = stage.project.prompts.create(messages=[], split="train", dedup_hash=f"{slug}{number}")
        item = other.items.create(prompt=prompt)
        Slot.objects.create(project=other, item=item, number=0, order_seed=1)
    return other


def test_projects_are_drawn_with_equal_chance_however_large_they_are(stage: World) -> None:
    large, small, empty = another(stage, "large", 60), another(stage, "small", 1), another(stage, "empty", 0)
    drawn = Counter(choose_project(user=stage.bob, projects=[large, small, empty]) for _ in range(200))
    assert set(drawn) == {large, small}
    assert 60 <= drawn[small] <= 140  # of 200 at one half, outside once in 10⁸ runs


def test_a_project_with_an_item_in_hand_comes_first(stage: World) -> None:
    large = another(stage, "large", 30)
    claim(user=stage.bob, project=stage.project)
    assert {choose_project(user=stage.bob, projects=[large, stage.project]) for _ in range(20)} == {stage.project}


def test_starting_goes_to_a_project_that_has_something(client: Client, stage: World) -> None:
    another(stage, "empty", 0)
    client.force_login(stage.bob)
    assert client.get(reverse("start"))["Location"] == reverse("rate", args=["garden"])
    html = client.get(reverse("home")).content.decode()
    assert f'href="{reverse("start")}"' in html


def test_starting_tells_for_each_project_why_nothing_is_left(client: Client, stage: World) -> None:
    another(stage, "empty", 0)
    pause(project=stage.project, actor=stage.alice)
    client.force_login(stage.bob)
    html = client.get(reverse("start")).content.decode()
    assert "No items have been prepared yet." in html
    assert "The project is paused." in html
    client.force_login(stage.charlie)
    assert "You are in no project yet" in client.get(reverse("start")).content.decode()


def test_a_first_administrator_is_offered_a_new_project(client: Client) -> None:
    client.force_login(user("root", is_superuser=True))
    html = client.get(reverse("home")).content.decode()
    assert "No project yet" in html
    assert reverse("new_project") in html
