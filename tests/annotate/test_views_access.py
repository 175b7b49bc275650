"""Who may open which page: the whole matrix of pages and people."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import User
from annotate.urls import of_a_project
from tests.annotate.factory import user, world
from tests.annotate.lineage import Turn, turn

pytestmark = pytest.mark.django_db

FOR_MEMBERS = {"rate", "next_item", "item_ahead", "last_answer"}
FOR_THE_RATER = {"submit", "skip", "renew", "draft"}
SENT_ON = {"project"}
POSTED = {"launch", "take_snapshot", "promote", "reject", "adjudicate"}


@pytest.fixture
def left() -> Turn:
    return turn(world())


def addresses(left: Turn) -> dict[str, str]:
    """An address of each page of the project."""
    keys: list[tuple[object, set[str]]] = [
        ("generate", {"launch"}),
        (left.judgement.slot_id, FOR_THE_RATER),
        (left.run.pk, {"run", "run_live", "run_series"}),
        (left.generation.number, {"generation", "promote", "reject"}),
        (left.reward_model.number, {"reward_model"}),
        (left.snapshot.pk, {"snapshot", "export"}),
        (left.completion.prompt_id, {"prompt"}),
        (left.completion.pk, {"completion"}),
        (left.judgement.pk, {"judgement", "adjudicate"}),
    ]
    slug = left.stage.project.slug
    key_of = {name: [key] for key, names in keys for name in names}
    names = [page.name for page in of_a_project if page.name]
    return {name: reverse(name, args=[slug, *key_of.get(name, [])]) for name in names}


def ask(client: Client, name: str, address: str) -> int:
    if name in POSTED | FOR_THE_RATER:
        return client.post(address, data="{}", content_type="application/json").status_code
    return client.get(address).status_code


def statuses(client: Client, person: User | None, left: Turn) -> dict[str, int]:
    if person is not None:
        client.force_login(person)
    return {name: ask(client, name, address) for name, address in addresses(left).items()}


def test_anonymous_people_are_sent_to_sign_in_everywhere(client: Client, left: Turn) -> None:
    for address in addresses(left).values():
        response = client.get(address)
        assert (response.status_code, response["Location"].split("?")[0]) == (302, reverse("login"))


def test_a_stranger_finds_nothing_anywhere(client: Client, left: Turn) -> None:
    assert set(statuses(client, left.stage.charlie, left).values()) == {404}


def test_a_rater_reaches_the_rating_pages_and_no_page_of_the_leads(client: Client, left: Turn) -> None:
    found = statuses(client, left.stage.bob, left)
    assert {name for name, status in found.items() if status == 200} == FOR_MEMBERS | {"renew"}
    assert {name for name, status in found.items() if status == 302} == SENT_ON
    assert {name for name, status in found.items() if status == 400} == {"submit", "skip", "draft"}
    assert {name for name, status in found.items() if status == 403} == (
        set(found) - FOR_MEMBERS - FOR_THE_RATER - SENT_ON
    )


def test_a_lead_reaches_everything_but_what_was_handed_to_a_rater(client: Client, left: Turn) -> None:
    found = statuses(client, left.stage.alice, left)
    assert {name for name, status in found.items() if status == 404} == FOR_THE_RATER
    assert {name for name, status in found.items() if status == 302} == POSTED
    assert {name for name, status in found.items() if status == 204} == {"last_answer"}
    assert {name for name, status in found.items() if status == 200} == (
        set(found) - FOR_THE_RATER - POSTED - {"last_answer"}
    )


def test_a_superuser_is_a_lead_everywhere(client: Client, left: Turn) -> None:
    client.force_login(user("root", is_superuser=True))
    assert client.get(reverse("project", args=[left.stage.project.slug])).status_code == 200


def test_a_lead_of_one_project_cannot_reach_records_through_another(client: Client, left: Turn) -> None:
    client.force_login(user("root", is_superuser=True))
    other = world_beside(left)
    for name in ("prompt", "completion", "judgement", "snapshot", "run", "reward_model"):
        address = addresses(left)[name].replace(f"/p/{left.stage.project.slug}/", f"/p/{other}/")
        assert client.get(address).status_code == 404, name


def world_beside(left: Turn) -> str:
    """The slug of a second project, with nothing in it."""
    project = left.stage.project
    project.pk, project.slug = None, "orchard"
    project._state.adding = True
    project.save()
    return project.slug
