"""The lead's page: the loop, its buttons, and decisions on generations."""

from __future__ import annotations

import re

import pytest
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotate.models import Generation, Run, Snapshot
from tests.annotate.factory import World, collect_items, run, world
from tests.annotate.lineage import judge, turn

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice(client: Client, stage: World, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr("annotate.services.runs.call_worker", lambda run: None)
    client.force_login(stage.alice)
    return client


def page(client: Client, stage: World) -> str:
    return client.get(reverse("project", args=[stage.project.slug])).content.decode()


def launch(client: Client, stage: World, kind: str, **fields: object) -> tuple[str, list[str]]:
    """Press a button; where it leads, and what is said."""
    response = client.post(reverse("launch", args=[stage.project.slug, kind]), fields)
    assert response.status_code == 302
    return response["Location"], [str(message) for message in get_messages(response.wsgi_request)]


def button(html: str, kind: str) -> str:
    """The loop's part for a kind of run, from its button on."""
    return html[html.index(f'id="loop-{kind}"') :][:600]


def test_each_button_says_why_it_cannot_be_pressed_yet(alice: Client, stage: World) -> None:
    stage.project.prompts.all().delete()
    html = page(alice, stage)
    for kind, reason in {
        "generate": "There are no prompts yet.",
        "train_reward": "Rate items first.",
        "improve": "Rate items first.",
        "evaluate": "There is only the base model.",
    }.items():
        assert "disabled" in button(html, kind)
        assert reason in button(html, kind)


def test_the_loop_counts_what_there_is(alice: Client, stage: World) -> None:
    turn(stage)
    html = " ".join(re.sub(r"<[^>]+>", " ", page(alice, stage)).split())
    assert "for 3 prompts" in html
    assert "1 / 4" in html  # three collected items and one compared pair
    assert "0 judgements since" in html
    assert "81.2%" in html
    assert "generation 1: candidate" in html


def test_generate_starts_a_run_and_goes_to_its_page(alice: Client, stage: World) -> None:
    where, said = launch(alice, stage, "generate", samples="2", splits=["train", "test"], generation="0")
    made = Run.objects.get()
    assert (where, said) == (reverse("run", args=[stage.project.slug, made.pk]), [])
    assert (made.job["samples"], made.selection["splits"], made.requested_by) == (2, ["train", "test"], stage.alice)


def test_a_second_lead_who_presses_the_same_button_is_told_so(alice: Client, stage: World) -> None:
    launch(alice, stage, "generate", splits=["train"])
    where, said = launch(alice, stage, "generate", splits=["train"])
    assert where == reverse("project", args=[stage.project.slug])
    assert said == ["“Generate completions” is already queued or running in this project."]
    assert Run.objects.count() == 1
    assert "Running already." not in button(page(alice, stage), "generate")  # its button has become a link
    assert reverse("run", args=[stage.project.slug, Run.objects.get().pk]) in page(alice, stage)


@pytest.mark.parametrize(
    ("kind", "fields", "sentence"),
    [
        ("generate", {"samples": "many", "splits": "train"}, "samples must be a whole number from 1 to 100."),
        ("generate", {"generation": "7", "splits": "train"}, "There is no generation 7 here."),
        ("train_reward", {"snapshot": "99"}, "There is no snapshot 99 here."),
        ("generate", {}, "Choose at least one part of the prompts."),
        ("train_reward", {}, "There are no comparisons yet"),
        ("evaluate", {}, "Generation 0 has no parent"),
    ],
)
def test_what_cannot_be_started_is_said_and_leaves_no_record(
    alice: Client, stage: World, kind: str, fields: dict[str, str], sentence: str
) -> None:
    where, said = launch(alice, stage, kind, **fields)
    assert where == reverse("project", args=[stage.project.slug])
    assert sentence in said[0]
    assert not Run.objects.exists()
    assert not Snapshot.objects.exists()


def test_an_unknown_kind_of_run_is_not_found(alice: Client, stage: World) -> None:
    assert alice.post(reverse("launch", args=[stage.project.slug, "destroy"])).status_code == 404


def test_the_time_of_the_last_run_of_a_kind_is_its_estimate(alice: Client, stage: World) -> None:
    made = run(stage.project, "generate", state=Run.State.SUCCEEDED, finished_at="2026-01-01T00:01:30Z")
    Run.objects.filter(pk=made.pk).update(started_at="2026-01-01T00:00:00Z")
    assert "The last one took 1 min 30 s." in page(alice, stage)


def test_a_snapshot_is_taken_once_for_the_same_judgements(alice: Client, stage: World) -> None:
    collect_items(stage)
    judge(stage)
    address = reverse("take_snapshot", args=[stage.project.slug])
    first, second = alice.post(address), alice.post(address)
    assert first["Location"] == second["Location"]
    assert Snapshot.objects.count() == 1


def test_promoting_and_rolling_back_decide_which_generation_serves(alice: Client, stage: World) -> None:
    left = turn(stage)
    for decision, state in (("promote", "promoted"), ("reject", "rejected")):
        alice.post(reverse(decision, args=[stage.project.slug, 1]))
        assert Generation.objects.get(pk=left.generation.pk).state == state


def test_the_base_model_cannot_be_rejected(alice: Client, stage: World) -> None:
    response = alice.post(reverse("reject", args=[stage.project.slug, 0]), follow=True)
    assert "it always stays available" in response.content.decode()


@pytest.mark.parametrize("prompts", [3, 60])
def test_the_page_takes_a_bounded_number_of_queries(client: Client, prompts: int) -> None:
    stage = world(prompts=prompts)
    turn(stage)
    client.force_login(stage.alice)
    with CaptureQueriesContext(connection) as queries:
        page(client, stage)
    assert len(queries) <= 24
