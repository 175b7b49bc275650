"""Signing in and out, sessions, and a person's own account."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth import hashers
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import AuditEvent, SignInTry, User
from tests.annotate.factory import world

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery"
LOGIN = "/sign-in"


@pytest.fixture
def bob(db: None) -> User:
    bob = world().bob
    bob.set_password(PASSWORD)
    bob.save()
    return bob


def sign_in(client: Client, name: str = "bob", password: str = PASSWORD, **more: str):
    return client.post(LOGIN, {"username": name, "password": password, **more})


def signed_in(client: Client) -> bool:
    return client.get(reverse("account")).status_code == 200


def test_signing_in_changes_the_session_key_and_ends_after_twelve_hours(client: Client, bob: User) -> None:
    client.get(LOGIN)
    session = client.session
    session["before"] = "here"
    session.save()
    planted = session.session_key or ""
    client.cookies["sessionid"] = planted
    assert sign_in(client).status_code == 302
    key = client.cookies["sessionid"].value
    assert key != planted
    assert not Session.objects.filter(pk=planted).exists()
    left = Session.objects.get(pk=key).expire_date - timezone.now()
    assert timedelta(hours=11, minutes=59) < left <= timedelta(hours=12)


def test_the_end_of_a_session_does_not_move_when_the_session_is_written(client: Client, bob: User) -> None:
    sign_in(client)
    before = Session.objects.get().expire_date
    session = client.session
    session["something"] = "new"
    session.save()
    assert Session.objects.get().expire_date == before


def test_signing_out_ends_the_session(client: Client, bob: User) -> None:
    sign_in(client)
    stolen = client.cookies["sessionid"].value
    client.post(reverse("logout"))
    client.cookies["sessionid"] = stolen
    assert not signed_in(client)


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(client: Client, bob: User) -> None:
    sign_in(client)
    for name in ("sessionid", "hone_browser"):
        cookie = client.cookies[name]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Lax"


def test_a_wrong_password_and_a_name_that_does_not_exist_sound_alike(client: Client, bob: User) -> None:
    User.objects.create_user("gone", password=PASSWORD, is_active=False)
    answers = [sign_in(client, name, "wrong password") for name in ("bob", "nobody", "gone")]
    answers.append(sign_in(client, "gone", PASSWORD))
    assert {answer.status_code for answer in answers} == {200}
    assert len({str(answer.context["form"].non_field_errors()) for answer in answers}) == 1


@pytest.mark.parametrize("name", ["bob", "nobody"])
def test_after_five_failures_a_sentence_says_when_to_try_again(client: Client, bob: User, name: str) -> None:
    for _ in range(5):
        assert sign_in(client, name, "wrong password").status_code == 200
    refused = sign_in(client, name)
    assert refused.status_code == 429
    assert "Too many tries with a wrong password. Try again in 15 minutes." in refused.content.decode()
    assert 14 * 60 < int(refused["Retry-After"]) <= 15 * 60
    assert not signed_in(client)


def test_a_try_that_must_wait_costs_no_password_hash(
    client: Client, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    encode = hashers.MD5PasswordHasher.encode

    def counted(hasher: hashers.MD5PasswordHasher, password: str, salt: str) -> str:
        hashed.append(password)
        return encode(hasher, password, salt)

    monkeypatch.setattr(hashers.MD5PasswordHasher, "encode", counted)
    for _ in range(5):
        sign_in(client, password="wrong password")
    assert hashed
    hashed.clear()
    assert sign_in(client).status_code == 429
    assert hashed == []


def test_a_locked_address_does_not_lock_out_the_browser_that_bob_uses(client: Client, bob: User) -> None:
    sign_in(client)
    client.post(reverse("logout"))
    attacker = Client()
    for _ in range(5):
        sign_in(attacker, password="wrong password")
    assert sign_in(attacker).status_code == 429
    assert sign_in(client).status_code == 302


def test_a_successful_sign_in_is_not_counted_and_forgives_the_failures_before_it(client: Client, bob: User) -> None:
    sign_in(client, password="wrong password")
    sign_in(client)
    assert SignInTry.objects.count() == 2  # the failure, which still counts against the account and the address


@pytest.mark.parametrize("there", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
def test_signing_in_leads_to_no_other_site(client: Client, bob: User, there: str) -> None:
    assert sign_in(client, next=there)["Location"] == "/"


@pytest.mark.parametrize("field", ["username", "password"])
def test_over_long_names_and_passwords_are_refused(client: Client, bob: User, field: str) -> None:
    answer = client.post(LOGIN, {"username": "bob", "password": PASSWORD, field: "x" * 100_000})
    assert answer.status_code == 200
    assert not signed_in(client)


def change(client: Client, old: str, new: str, again: str | None = None):
    return client.post(
        reverse("account"), {"old_password": old, "new_password1": new, "new_password2": again or new}, follow=True
    )


def test_a_new_password_ends_the_sessions_of_other_browsers_and_leaves_an_event(client: Client, bob: User) -> None:
    other = Client()
    sign_in(client)
    sign_in(other)
    assert "Your password is changed" in change(client, PASSWORD, "another horse entirely").content.decode()
    assert signed_in(client)
    assert not signed_in(other)
    assert sign_in(other, password="another horse entirely").status_code == 302
    event = AuditEvent.objects.get(action="changed password")
    assert (event.actor, event.object_id) == (bob, str(bob.pk))


@pytest.mark.parametrize("new", ["short", "0123456789012", "password123", "bob"])
def test_a_weak_password_is_refused_with_a_reason(client: Client, bob: User, new: str) -> None:
    sign_in(client)
    answer = change(client, PASSWORD, new)
    assert answer.context["form"].errors["new_password2"]
    assert not AuditEvent.objects.filter(action="changed password").exists()


def test_the_old_password_is_asked_for_and_cannot_be_guessed(client: Client, bob: User) -> None:
    sign_in(client)
    for _ in range(10):
        assert change(client, "wrong password", "another horse entirely").status_code == 200
    assert change(client, PASSWORD, "another horse entirely").status_code == 429
    bob.refresh_from_db()
    assert bob.check_password(PASSWORD)


def test_the_account_page_names_one_s_projects_and_roles(client: Client, bob: User) -> None:
    client.force_login(bob)
    html = client.get(reverse("account")).content.decode()
    assert "Garden" in html
    assert "rater" in html


def test_the_administration_has_no_sign_in_of_its_own(client: Client, bob: User) -> None:
    answer = client.get("/admin/", follow=True)
    assert answer.redirect_chain[-1][0].startswith("/sign-in")
    client.force_login(bob)
    assert client.get("/admin/", follow=True).status_code == 403
