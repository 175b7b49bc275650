"""Statistics of pages: of small projects as one looks, of large ones by a task, with the time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from annotate.models import Aggregate, Run, User
from annotate.services import aggregates
from annotate.services.claiming import claim, skip
from annotate.tasks import count
from tests.annotate.compared import Compared, compared

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = list(Aggregate.Name)
PAGES = ["raters", "generations"]


@pytest.fixture
def made() -> Compared:
    """Two of three planned prompts are in."""
    found = compared(number=3, leads_rate=True)
    for _n in range(2):
        found.judge(found.stage.bob)
    return found


@pytest.fixture
def large(made: Compared, monkeypatch: pytest.MonkeyPatch) -> Compared:
    """The same, where so few judgements are many."""
    monkeypatch.setattr(aggregates, "AT_ONCE", 1)
    return made


def rested() -> None:
    """Let the time go by for which statistics are left alone."""
    Aggregate.objects.update(at=F("at") - timedelta(minutes=10))
    Run.objects.update(finished_at=F("finished_at") - timedelta(hours=1))


def judgements(made: Compared) -> int:
    taken = aggregates.of(made.stage.project, Aggregate.Name.RATERS)
    assert taken is not None
    found: int = taken.data["human"]["versions"]["1"]["judgements"]
    return found


def test_those_of_a_small_project_are_taken_as_one_looks(made: Compared) -> None:
    count()
    assert not Aggregate.objects.exists()
    assert [getattr(aggregates.of(made.stage.project, name), "at", "?") for name in NAMES] == [None, None]
    assert judgements(made) == 2


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_a_large_project_waits_for_the_task_and_shows_itself(
    large: Compared, client: Client, page: str
) -> None:
    client.force_login(large.stage.alice)
    address = reverse(page, args=["garden"])
    html = client.get(address).content.decode()
    assert "The figures are being put together" in html
    assert f'hx-get="{address}"' in html
    polled = client.get(address, headers={"HX-Request": "true"})
    assert (polled.status_code, "HX-Refresh" in polled) == (204, False)
    count()
    assert client.get(address, headers={"HX-Request": "true"})["HX-Refresh"] == "true"
    html = client.get(address).content.decode()
    assert "As of " in html
    assert "being put together" not in html


def test_a_rater_s_own_figures_wait_for_the_task_and_then_have_its_time(large: Compared, client: Client) -> None:
    address = reverse("mine", args=["garden"])

    def seen_by(user: User) -> str:
        client.force_login(user)
        return client.get(address).content.decode()

    assert "is put together in the background" in seen_by(large.stage.bob)
    assert "Beside others" not in seen_by(large.stage.alice)  # who has judged nothing
    count()
    html = seen_by(large.stage.bob)
    assert "is put together in the background" not in html
    assert "instructions version 1 · As of " in html
    assert "Beside others" not in seen_by(large.stage.alice)


def test_they_stay_until_something_comes_and_their_rest_is_over(large: Compared) -> None:
    count()
    first = dict(Aggregate.objects.values_list("name", "at"))
    rested()
    count()
    assert all(row.at < first[row.name] for row in Aggregate.objects.all())
    large.judge(large.stage.bob)
    count()
    assert judgements(large) == 3
    assert set(first) == set(NAMES)


def test_a_run_that_ended_counts_as_a_change(large: Compared) -> None:
    count()
    rested()
    before = set(Aggregate.objects.values_list("at", flat=True))
    Run.objects.filter(finished_at__isnull=False).update(finished_at=Now())
    count()
    assert not before & set(Aggregate.objects.values_list("at", flat=True))


def test_what_came_too_soon_waits(large: Compared) -> None:
    count()
    large.judge(large.stage.bob)
    count()
    assert judgements(large) == 2


def test_a_skip_counts_as_a_change(large: Compared) -> None:
    count()
    rested()
    before = set(Aggregate.objects.values_list("at", flat=True))
    slot = claim(user=large.stage.bob, project=large.stage.project)
    assert slot is not None
    skip(user=large.stage.bob, slot=slot, reason="unsure")
    count()
    assert not before & set(Aggregate.objects.values_list("at", flat=True))


def test_who_judges_sees_stored_strengths_without_what_is_under_way(large: Compared, client: Client) -> None:
    count()
    address = reverse("generations", args=["garden"])
    for person, sees in ((large.stage.alice, False), (large.stage.charlie, True)):
        large.stage.project.memberships.update_or_create(user=person, defaults={"role": "lead"})
        client.force_login(person)
        html = client.get(address).content.decode()
        assert ("2 judgements" in html, "since you are one of its raters" in html) == (sees, not sees)
