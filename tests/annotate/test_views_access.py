"""Who may open which page: the whole table of addresses and people, and what holds at every address."""

from __future__ import annotations

import re

import pytest
from django.http import HttpResponseBase
from django.test import Client
from django.urls import reverse

from annotate.models import Membership, User
from annotate.services.projects import create_project
from tests.annotate.access_table import PEOPLE, REFUSED, TABLE, Answer, Stage, fingerprint, names, walk
from tests.annotate.factory import GARDEN, model_folder, user, world
from tests.annotate.lineage import Turn, turn

pytestmark = pytest.mark.django_db

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@pytest.fixture
def left() -> Turn:
    return turn(world())


@pytest.fixture
def people(left: Turn) -> dict[str, User | None]:
    stage = left.stage
    root = user("root", is_superuser=True, is_staff=True)
    return dict(zip(PEOPLE, (None, stage.charlie, stage.bob, stage.alice, root), strict=True))


def signed_in(person: User | None, *, csrf: bool = False) -> Client:
    client = Client(enforce_csrf_checks=csrf)
    if person is not None:
        client.force_login(person)
    return client


def ask(client: Client, method: str, address: str) -> HttpResponseBase:
    return client.generic(method, address, data=b"{}", content_type="application/json")


def test_every_address_is_in_the_table() -> None:
    ours = {name for name, _pattern in names() if not name.startswith("admin:")}
    assert ours == {name for name, _method in TABLE}


def test_everybody_reaches_what_the_table_says_and_nothing_else(left: Turn, people: dict[str, User | None]) -> None:
    clients = {name: signed_in(person) for name, person in people.items()}

    def over_the_test_client(person: str, method: str, address: str) -> Answer:
        response = ask(clients[person], method, address)
        body = "" if response.streaming else response.content.decode()  # type: ignore[attr-defined]
        return Answer(response.status_code, response.headers.get("Location", ""), body)

    report = walk(over_the_test_client, left)
    assert report.leaks == []
    assert report.surprises == []
    assert report.cells > len(TABLE) * len(PEOPLE)


def test_an_address_takes_no_method_beside_those_of_the_table(left: Turn, people: dict[str, User | None]) -> None:
    stage, clients = Stage(left), {name: signed_in(person) for name, person in people.items()}
    for name in {name for name, _method in TABLE}:
        for method in METHODS:
            if (name, method) in TABLE:
                continue
            for person in ("admin", "anonymous") if name in ("login", "join") else ("admin",):
                if (name, person) != ("login", "admin"):  # who is signed in is sent on, whatever the method
                    assert ask(clients[person], method, stage.address(name)).status_code == 405, (name, method, person)


def test_nothing_can_be_sent_without_the_form_s_token(left: Turn, people: dict[str, User | None]) -> None:
    stage = Stage(left)
    addresses = {name: stage.address(name) for name, method in TABLE if method == "POST"}
    before = fingerprint()
    for person in people.values():
        client = signed_in(person, csrf=True)
        for name, address in addresses.items():
            assert client.post(address).status_code == 403, name
    assert fingerprint() == before


def of_records() -> list[tuple[str, str]]:
    """Addresses that name a record of a project beside the project."""
    routes = {name: str(pattern.pattern) for name, pattern in names()}
    return [(name, method) for name, method in TABLE if "pk>" in routes[name] or "number>" in routes[name]]


def test_a_record_cannot_be_reached_through_another_project(left: Turn, people: dict[str, User | None]) -> None:
    other = create_project(description=GARDEN, slug="orchard", base_model=str(model_folder()), actor=left.stage.alice)
    Membership.objects.create(user=left.stage.bob, project=other, role=Membership.Role.RATER)
    stage = Stage(left)
    for person in ("rater", "lead", "admin"):
        client = signed_in(people[person])
        for name, method in of_records():
            cell = dict(zip(PEOPLE, TABLE[name, method], strict=True))[person]
            address = stage.address(name).replace("/p/garden/", "/p/orchard/")
            wanted = cell if cell in REFUSED else 404
            assert ask(client, method, address).status_code == wanted, (name, person)


def test_records_that_do_not_exist_are_not_found(left: Turn, people: dict[str, User | None]) -> None:
    client = signed_in(people["admin"])
    for name, method in of_records():
        missing = "00000000-0000-4000-8000-000000000000" if name.startswith("run") else 2**31 - 1
        rest = ["trl-preference", "train.jsonl"] if name == "export" else []
        assert ask(client, method, reverse(name, args=["garden", missing, *rest])).status_code == 404, name
    assert ask(client, "GET", reverse("join", args=["x" * 43])).status_code == 404
    assert ask(client, "POST", reverse("launch", args=["garden", "reward"])).status_code == 404


def test_a_lease_of_another_rater_is_not_found_without_a_hint(left: Turn) -> None:
    dora = user("dora")
    Membership.objects.create(user=dora, project=left.stage.project, role=Membership.Role.RATER)
    client = signed_in(dora)
    for name in ("submit", "skip", "renew", "draft"):
        said = set()
        for slot in (left.judgement.slot_id, 2**31 - 1):
            address = reverse(name, args=["garden", slot])
            response = client.post(address)
            said.add((response.status_code, re.sub(f'{address}|name="csrf.*?>', "", response.content.decode())))
        assert len(said) == 1
        assert said.pop()[0] == 404
