"""Members and invitations: who may join, who may not, and that a project is never left without a lead."""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import AuditEvent, Invite, InviteUse, Judgement, Membership, User
from annotate.services import Refused, invites, members
from tests.annotate.factory import World, user, world
from tests.annotate.lineage import turn

pytestmark = pytest.mark.django_db

ACCOUNT = {"username": "dora", "password1": "correct horse battery", "password2": "correct horse battery"}


def invitation(stage: World, **fields: object) -> tuple[Invite, str]:
    wanted = {"role": "rater", "days": 7, "max_uses": 1, **fields}
    made, token = invites.create(project=stage.project, actor=stage.alice, **wanted)  # type: ignore[arg-type]
    return made, reverse("join", args=[token])


def membership(stage: World, name: str) -> Membership:
    return Membership.objects.get(project=stage.project, user__username=name)


def events(action: str) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(action=action))


def test_members_are_listed_with_their_roles_and_judgements(alice: Client, stage: World) -> None:
    turn(stage)
    html = alice.get(reverse("members", args=["garden"])).content.decode()
    rows = re.findall(
        r"<tr>\s*<th scope=\"row\"><bdi>(\w+)</bdi>.*?<td>(\w+)</td>\s*<td class=\"figure\">(.*?)</td>", html, re.S
    )
    assert [(name, role, re.sub("<.*?>", "", judged)) for name, role, judged in rows] == [
        ("alice", "lead", "0"),
        ("bob", "rater", "1"),
    ]


def test_the_link_of_an_invitation_is_shown_once_and_only_its_hash_is_stored(alice: Client, stage: World) -> None:
    made = alice.post(reverse("invite", args=["garden"]), {"role": "rater", "days": "7", "max_uses": "3"})
    (link,) = re.findall(r'value="(http://testserver/join/[\w-]{43})"', made.content.decode())
    assert link not in alice.get(reverse("members", args=["garden"])).content.decode()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT string_agg(t::text, '') FROM annotate_invite t)"
            " || (SELECT string_agg(t::text, '') FROM annotate_auditevent t)"
        )
        assert link[-43:] not in cursor.fetchone()[0]
    assert Client().get(urlsplit(link).path).status_code == 200
    invite = Invite.objects.get()
    assert (invite.role, invite.max_uses, invite.created_by) == ("rater", 3, stage.alice)
    assert timedelta(days=6, hours=23) < invite.expires_at - timezone.now() <= timedelta(days=7)
    assert events("invited")[0].actor == stage.alice


@pytest.mark.parametrize(
    "wrong",
    [{"role": "admin"}, {"role": ""}, {"days": "365"}, {"days": "x"}, {"max_uses": "0"}, {"max_uses": "501"}],
    ids=str,
)
def test_an_invitation_that_will_not_do_is_refused_with_a_sentence(
    alice: Client, stage: World, wrong: dict[str, str]
) -> None:
    form = {"role": "rater", "days": "7", "max_uses": "1", **wrong}
    answer = alice.post(reverse("invite", args=["garden"]), form, follow=True)
    assert 'class="notice notice-error"' in answer.content.decode()
    assert not Invite.objects.exists()


def test_who_has_no_account_makes_one_and_joins(client: Client, stage: World) -> None:
    invite, address = invitation(stage)
    assert "Garden" in client.get(address).content.decode()
    answer = client.post(address, ACCOUNT, follow=True)
    assert "Welcome to “Garden”." in answer.content.decode()
    assert membership(stage, "dora").role == "rater"
    assert client.session.get_expiry_age() <= 12 * 3600
    dora = User.objects.get(username="dora")
    assert [(e.actor, e.project) for e in events("joined") + events("created")[:1]] == [(dora, stage.project)] * 2
    assert InviteUse.objects.get().invite == invite


@pytest.mark.parametrize(
    "wrong",
    [
        {"password1": "short", "password2": "short"},
        {"password2": "something else"},
        {"username": "Bob"},
        {"username": "<script>"},
        {"username": "x" * 151},
        {"password1": "x" * 1001, "password2": "x" * 1001},
        {"username": ""},
    ],
    ids=str,
)
def test_an_account_that_will_not_do_is_refused_and_uses_nothing_up(
    client: Client, stage: World, wrong: dict[str, str]
) -> None:
    _invite, address = invitation(stage)
    answer = client.post(address, {**ACCOUNT, **wrong})
    assert answer.status_code == 200
    assert 'class="problem"' in answer.content.decode()
    assert not User.objects.filter(username=ACCOUNT["username"]).exists()
    assert not InviteUse.objects.exists()


def test_who_is_signed_in_confirms_and_joins_under_that_name(client: Client, stage: World) -> None:
    _invite, address = invitation(stage, role="lead")
    client.force_login(stage.charlie)
    assert "You are signed in as charlie and join under this name." in client.get(address).content.decode()
    assert not Membership.objects.filter(user=stage.charlie).exists()
    client.post(address)
    assert membership(stage, "charlie").role == "lead"


def closed(stage: World, how: str) -> str:
    invite, address = invitation(stage)
    if how == "expired":
        Invite.objects.filter(pk=invite.pk).update(expires_at=timezone.now())
    elif how == "withdrawn":
        invites.revoke(invite=invite, actor=stage.alice)
    else:
        invites.join(invite=invite, user=user("first"))
    return address


@pytest.mark.parametrize("how", ["expired", "withdrawn", "used up"])
def test_a_closed_invitation_says_why_and_lets_nobody_in(client: Client, stage: World, how: str) -> None:
    address = closed(stage, how)
    for answer in (client.get(address), client.post(address, ACCOUNT)):
        assert answer.status_code == 410
        assert how in answer.content.decode()
    assert not User.objects.filter(username="dora").exists()


def test_an_invitation_changes_nobody_s_role(client: Client, stage: World) -> None:
    invite, address = invitation(stage, role="lead")
    client.force_login(stage.bob)
    answer = client.post(address)
    assert (answer.status_code, "You are in this project already." in answer.content.decode()) == (409, True)
    assert membership(stage, "bob").role == "rater"
    assert not invite.uses.exists()


def test_who_was_removed_does_not_come_back_by_the_same_link(client: Client, stage: World) -> None:
    _invite, address = invitation(stage, max_uses=5)
    client.force_login(stage.charlie)
    client.post(address)
    members.remove(membership=membership(stage, "charlie"), actor=stage.alice)
    assert client.post(address).status_code == 409
    assert not Membership.objects.filter(user=stage.charlie).exists()


def test_a_lead_withdraws_an_invitation(alice: Client, stage: World) -> None:
    invite, address = invitation(stage)
    alice.post(reverse("revoke_invite", args=["garden", invite.pk]))
    assert Client().get(address).status_code == 410
    assert events("revoked")[0].actor == stage.alice
    again = alice.post(reverse("revoke_invite", args=["garden", invite.pk]), follow=True)
    assert "withdrawn already" in again.content.decode()


def test_a_lead_changes_roles_and_removes_and_judgements_stay(alice: Client, stage: World) -> None:
    turn(stage)
    bob = membership(stage, "bob")
    alice.post(reverse("change_role", args=["garden", bob.pk]), {"role": "lead"})
    assert membership(stage, "bob").role == "lead"
    assert events("changed role")[0].data == {"user": "bob", "before": "rater", "after": "lead"}
    alice.post(reverse("remove_member", args=["garden", bob.pk]))
    assert not Membership.objects.filter(user=stage.bob).exists()
    assert Judgement.objects.get().rater == stage.bob
    assert (events("removed")[0].actor, events("removed")[0].data["user"]) == (stage.alice, "bob")
    bobs = Client()
    bobs.force_login(stage.bob)
    assert bobs.get(reverse("rate", args=["garden"])).status_code == 404


@pytest.mark.parametrize(("name", "form"), [("change_role", {"role": "rater"}), ("remove_member", {})])
def test_the_last_lead_stays(alice: Client, stage: World, name: str, form: dict[str, str]) -> None:
    retired = user("retired", is_active=False)
    Membership.objects.create(user=retired, project=stage.project, role="lead")  # who cannot sign in leads nobody
    answer = alice.post(reverse(name, args=["garden", membership(stage, "alice").pk]), form, follow=True)
    assert "make somebody else a lead first" in answer.content.decode()
    assert membership(stage, "alice").role == "lead"
    assert not AuditEvent.objects.filter(action__in=["removed", "changed role"]).exists()


def test_a_lead_who_hands_over_may_step_down(alice: Client, stage: World) -> None:
    members.change_role(membership=membership(stage, "bob"), role="lead", actor=stage.alice)
    answer = alice.post(reverse("remove_member", args=["garden", membership(stage, "alice").pk]))
    assert answer["Location"] == reverse("home")
    assert not Membership.objects.filter(user=stage.alice).exists()


def test_a_role_that_there_is_not_is_refused(alice: Client, stage: World) -> None:
    alice.post(reverse("change_role", args=["garden", membership(stage, "bob").pk]), {"role": "owner"})
    assert membership(stage, "bob").role == "rater"


def at_once(*calls) -> list[str]:
    """Run calls in threads; what each was refused with, or an empty text."""
    outcomes: list[str] = []
    gate = threading.Barrier(len(calls))

    def run(call) -> None:
        gate.wait()
        try:
            call()
            outcomes.append("")
        except Refused as refusal:
            outcomes.append(str(refusal))
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


@pytest.mark.django_db(transaction=True)
def test_two_leads_who_remove_each_other_at_once_leave_one() -> None:
    stage = world()
    members.change_role(membership=membership(stage, "bob"), role="lead", actor=stage.alice)
    alice, bob = membership(stage, "alice"), membership(stage, "bob")
    outcomes = at_once(
        lambda: members.remove(membership=bob, actor=stage.alice),
        lambda: members.remove(membership=alice, actor=stage.bob),
    )
    assert sorted(bool(outcome) for outcome in outcomes) == [False, True]
    assert Membership.objects.filter(project=stage.project, role="lead").count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_people_cannot_take_the_last_place_of_an_invitation() -> None:
    stage = world()
    invite, _address = invitation(stage)
    people = [user(f"guest{number}") for number in range(4)]
    outcomes = at_once(*(lambda person=person: invites.join(invite=invite, user=person) for person in people))
    assert outcomes.count("") == 1
    assert InviteUse.objects.count() == Membership.objects.filter(user__in=people).count() == 1
