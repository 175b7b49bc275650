"""Signing in, the first page, languages, and pages for what went wrong."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotate.models import Tally
from annotate.services.claiming import claim
from annotate.services.items import make_collect_items
from annotate.services.projects import create_project
from annotate.services.prompts import PromptRow, add_prompts
from tests.annotate.factory import GARDEN, World, collect_items, completions, run, user
from tests.annotate.keyed import answer
from tests.annotate.lineage import judge

pytestmark = pytest.mark.django_db

HOME = reverse("home")
SIGN_IN = reverse("login")


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


def test_many_projects_cost_no_more_queries_than_few(client: Client, stage: World) -> None:
    """Of each kind: counted now, counted by the task, with gold mixed in, without items."""

    def add(number: int) -> None:
        project = create_project(
            description=GARDEN,
            slug=f"p{number}",
            base_model=stage.project.base_model,
            gold_rate=0.2 * (number % 2),
            actor=stage.alice,
        )
        add_prompts(project=project, rows=[PromptRow([{"role": "user", "content": "Why?"}])], actor=stage.alice)
        generation = project.generations.get()
        completions(generation, samples=4)
        make_collect_items(project=project, generation=generation)
        slot = claim(user=stage.alice, project=project)
        assert slot is not None
        answer(slot)
        if number > 1:
            Tally.objects.create(project=project, done=number, total=8, through=0, seconds=0.1)

    client.force_login(stage.alice)
    for number in range(4):
        add(number)
    with CaptureQueriesContext(connection) as few:
        client.get(HOME)
    for number in range(4, 12):
        add(number)
    with CaptureQueriesContext(connection) as many:
        html = client.get(HOME).content.decode()
    assert len(many) == len(few)
    assert html.count("1 by you; ") == 12
    assert "1 by you; 37 % of the project" in html  # 3 of 8 by the task's count
