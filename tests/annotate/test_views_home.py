"""Signing in, the first page, languages, and pages for what went wrong."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from tests.annotate.factory import World, collect_items, run, user, world
from tests.annotate.lineage import judge

pytestmark = pytest.mark.django_db

HOME = reverse("home")
SIGN_IN = reverse("login")


@pytest.fixture
def stage() -> World:
    return world()


def test_a_name_and_password_open_the_site(client: Client) -> None:
    person = user("dora")
    person.set_password("a long password")
    person.save()
    response = client.post(SIGN_IN, {"username": "dora", "password": "a long password"}, follow=True)
    assert response.redirect_chain == [(HOME, 302)]
    assert "You are in no project yet" in response.content.decode()


def test_a_wrong_password_is_said_and_keeps_the_name(client: Client) -> None:
    user("dora")
    html = client.post(SIGN_IN, {"username": "dora", "password": "wrong"}).content.decode()
    assert 'role="alert"' in html
    assert 'value="dora"' in html


def test_signing_out_ends_the_session(client: Client, stage: World) -> None:
    client.force_login(stage.bob)
    assert client.post(reverse("logout")).status_code == 302
    assert client.get(HOME).status_code == 302


def test_a_rater_of_one_project_goes_straight_to_rating(client: Client, stage: World) -> None:
    client.force_login(stage.bob)
    assert client.get(HOME)["Location"] == reverse("rate", args=[stage.project.slug])


def test_a_lead_sees_a_card_with_progress_and_what_goes_on(client: Client, stage: World) -> None:
    collect_items(stage)
    judge(stage)
    active = run(stage.project, "improve")
    client.force_login(stage.alice)
    html = client.get(HOME).content.decode()
    assert "0 by you; 33 % of the project" in html
    assert reverse("run", args=[stage.project.slug, active.pk]) in html


def test_a_project_without_items_says_so(client: Client, stage: World) -> None:
    client.force_login(stage.alice)
    assert "No items to judge yet." in client.get(HOME).content.decode()


def test_the_language_can_be_switched_without_signing_in(client: Client) -> None:
    client.post(reverse("set_language"), {"language": "zh-hans", "next": SIGN_IN})
    assert '<html lang="zh-hans">' in client.get(SIGN_IN).content.decode()


def test_what_a_lead_wrote_is_shown_in_the_viewer_s_language(client: Client, stage: World) -> None:
    stage.project.translations = {"zh-hans": {"name": "花园"}}
    stage.project.save()
    client.force_login(stage.alice)
    assert "Garden" in client.get(HOME).content.decode()
    assert "花园" in client.get(HOME, headers={"accept-language": "zh-CN"}).content.decode()


def test_an_unknown_address_has_a_page_of_its_own(client: Client, stage: World) -> None:
    client.force_login(stage.alice)
    response = client.get("/nowhere")
    assert (response.status_code, "There is nothing here" in response.content.decode()) == (404, True)


def test_a_refusal_says_whom_the_page_is_for(client: Client, stage: World) -> None:
    client.force_login(stage.bob)
    response = client.get(reverse("runs", args=[stage.project.slug]))
    assert (response.status_code, "for the leads of the project" in response.content.decode()) == (403, True)


def test_a_form_without_its_token_is_refused_with_a_page(stage: World) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(stage.alice)
    response = client.post(reverse("logout"))
    assert (response.status_code, "under another sign-in" in response.content.decode()) == (403, True)


def test_a_fault_of_ours_shows_a_page_that_needs_nothing(
    client: Client, stage: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("annotate.views.home.projects_of", fail)
    client.force_login(stage.alice)
    client.raise_request_exception = False
    response = client.get(HOME)
    assert (response.status_code, "Something broke on our side" in response.content.decode()) == (500, True)


def test_no_page_may_run_inline_scripts_or_load_from_elsewhere(client: Client) -> None:
    policy = client.get(SIGN_IN)["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
