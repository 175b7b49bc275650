"""What raters did in figures: of small projects as one looks, of large ones by a task, with the time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import Purpose, RaterFigures
from annotate.services import figures, raters, standing
from annotate.services.claiming import claim, skip
from annotate.services.figures import Figures
from annotate.tasks import count
from tests.annotate.factory import World, collect_items, world
from tests.annotate.keyed import RIGHT, WRONG, answer, answer_next, change, handed, make_key

pytestmark = pytest.mark.django_db(transaction=True)

BOB = Figures(judged=2, total_ms=80_000, median_ms=40_000.0, gold_mean=0.0, gold_n=1, flags=1, skips=1)
"""A gold item the wrong way round in 60 s, another with a flag in 20 s, and one passed over."""


@pytest.fixture
def stage() -> World:
    made = world(prompts=6)
    collect_items(made)
    answer(handed(make_key(made, "gold").item, Purpose.GOLD, made.bob), WRONG, active_ms=60_000)
    passed = claim(user=made.bob, project=made.project)
    assert passed is not None
    skip(user=made.bob, slot=passed, reason="unsure")
    slot = claim(user=made.bob, project=made.project)
    assert slot is not None
    flagged = next(iter(slot.shown))
    answer(slot, active_ms=20_000, flags={str(flagged): "Off the topic."})
    return made


@pytest.fixture
def large(stage: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The same, where so few slots are many, measured once."""
    monkeypatch.setattr(standing, "COUNTED_AT_ONCE", 3)
    count()
    return stage


def test_a_small_project_is_measured_as_one_looks(stage: World) -> None:
    count()
    assert not RaterFigures.objects.exists()
    measured = figures.of(stage.project)
    assert (measured.by_rater[stage.bob.pk], measured.at) == (BOB, None)
    assert measured.by_rater[stage.alice.pk].judged == 1
    assert stage.charlie.pk not in measured.by_rater


def test_a_large_project_is_measured_by_the_task_and_says_when(large: World, client: Client) -> None:
    answer_next(large.bob, large.project)
    measured = figures.of(large.project)
    assert measured.by_rater[large.bob.pk] == BOB
    assert measured.at is not None
    client.force_login(large.alice)
    html = client.get(reverse("quality", args=["garden"])).content.decode()
    assert "As of " in html
    assert '<td class="figure">1 min 20 s</td>' in html


@pytest.mark.parametrize(("minutes", "judged"), [(3, 2), (4, 3)])
def test_measuring_that_took_two_seconds_is_repeated_after_two_hundred(large: World, minutes: int, judged: int) -> None:
    answer_next(large.bob, large.project)
    then = timezone.now() - timedelta(minutes=minutes)
    RaterFigures.objects.update(seconds=2.0, at=then)
    count()
    measured = figures.of(large.project)
    assert measured.by_rater[large.bob.pk].judged == judged
    assert (measured.at == then) == (judged == 2)


def test_the_figures_of_a_large_project_are_looked_up_by_one_query(large: World, django_assert_num_queries) -> None:
    with django_assert_num_queries(1):
        figures.of(large.project)


def test_the_time_at_a_judgement_is_that_at_all_its_versions(stage: World) -> None:
    careful = answer_next(stage.bob, stage.project, RIGHT, active_ms=90_000)
    change(careful, WRONG, active_ms=3_000)
    change(careful, RIGHT, active_ms=2_000)
    bob = figures.of(stage.project).by_rater[stage.bob.pk]
    assert (bob.judged, bob.total_ms, bob.median_ms) == (3, 80_000 + 95_000, 60_000)  # of 20, 60 and 95 s
    assert raters.own(user=stage.bob, project=stage.project).median_ms == 60_000
