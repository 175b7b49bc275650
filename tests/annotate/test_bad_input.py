"""Values that no form of ours sends: each is refused or ignored, none breaks a page."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import AuditEvent, Invite, Membership, Run, Snapshot
from tests.annotate.factory import user, world
from tests.annotate.lineage import Turn, turn

pytestmark = pytest.mark.django_db

BAD = [
    "\x00",
    "x" * 200_000,
    "9" * 5000,
    "-1",
    "1e9",
    "³",
    "\u202e",
    "%00",
    "{}",
    "null",
    "\ud7ff\U0010ffff",
    "' OR 1=1 --",
]
SEARCHES = {
    "prompts": ("q", "split", "tag", "page"),
    "judgements": ("rater", "page"),
    "history": ("who", "action", "since", "until", "page"),
    "runs": ("page",),
    "snapshot": ("page",),
    "snapshot_difference": ("with",),
    "recipe": ("from", "again"),
}


@pytest.fixture
def left(db: None) -> Turn:
    return turn(world())


@pytest.fixture
def alice(client: Client, left: Turn) -> Client:
    client.force_login(left.stage.alice)
    return client


@pytest.mark.parametrize("name", SEARCHES)
def test_no_search_breaks_a_list(alice: Client, left: Turn, name: str) -> None:
    address = reverse(name, args=["garden", left.snapshot.pk] if "snapshot" in name else ["garden"])
    for field in SEARCHES[name]:
        for value in BAD:
            assert alice.get(address, {field: value}).status_code == 200, (field, value[:20])


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("invite", ("role", "days", "max_uses")),
        ("change_role", ("role",)),
        ("take_snapshot", ("name",)),
        ("launch", ("splits", "samples", "generation")),
    ],
)
def test_no_field_breaks_a_form_or_gets_past_it(alice: Client, left: Turn, name: str, fields: tuple[str, ...]) -> None:
    bob = Membership.objects.get(user=left.stage.bob)
    keys: dict[str, list[object]] = {"change_role": [bob.pk], "launch": ["generate"]}
    address = reverse(name, args=["garden", *keys.get(name, [])])
    good = {"role": "rater", "days": "7", "max_uses": "1", "splits": "train", "samples": "2", "generation": "0"}
    before = (Invite.objects.count(), Run.objects.count(), AuditEvent.objects.count(), Snapshot.objects.count())
    for field in fields:
        for value in BAD:
            if (name, value) in {("take_snapshot", v) for v in BAD if 0 < len(v) <= 80 and v != "\x00"}:
                continue  # an odd name, but a name
            form = {k: v for k, v in good.items() if k in fields} | {field: value}
            answer = alice.post(address, form)
            assert answer.status_code == 302, (field, value[:20])
    after = (Invite.objects.count(), Run.objects.count(), AuditEvent.objects.count(), Snapshot.objects.count())
    assert after == before


def test_no_number_in_an_address_breaks_a_page(client: Client, left: Turn) -> None:
    client.force_login(user("root", is_superuser=True))
    for name in ("prompt", "completion", "judgement", "snapshot", "generation", "reward_model", "background_task"):
        for number in (0, 2**31, 2**63, 10**30):
            assert client.get(reverse(name, args=["garden", number])).status_code in (
                (200,) if (name, number) == ("generation", 0) else (404,)
            )


@pytest.mark.parametrize("value", BAD)
def test_nothing_breaks_the_sign_in(client: Client, left: Turn, value: str) -> None:
    for form in ({"username": value, "password": "x"}, {"username": "bob", "password": value}):
        assert client.post("/sign-in", form).status_code == 200
    client.cookies["hone_browser"] = value[:100].encode("ascii", "replace").decode().replace("\x00", "")
    assert client.post("/sign-in", {"username": "bob", "password": "x", "next": value}).status_code == 200
