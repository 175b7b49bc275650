"""Where number and people of a comparison are asked for: the form that evaluates, the page before it, the commands."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from annotate.management.commands import evaluate
from annotate.models import Generation, Membership, Run
from annotate.services import register
from tests.annotate.compared import Compared, compared, unplanned
from tests.annotate.factory import World
from tests.annotate.keyed import member
from tests.annotate.lineage import ended, turn

pytestmark = pytest.mark.django_db


def piece(client: Client, made: Compared, **query: str) -> str:
    client.force_login(made.stage.alice)
    response = client.get(reverse("evaluation_terms", args=["garden"]), query)
    assert response.status_code == 200
    return re.sub(r"\s+", " ", response.content.decode())


def test_before_there_is_a_plan_the_form_says_what_an_empty_number_means(client: Client) -> None:
    html = piece(client, unplanned())
    assert "left empty it is all test prompts, or 300 of them." in html
    assert 'name="leads_rate"' in html


def test_while_nothing_is_judged_the_form_holds_what_is_stated(client: Client) -> None:
    html = piece(client, compared(number=3, leads_rate=True))
    assert 'value="3"' in html
    assert 'name="leads_rate" value="1" checked' in html
    assert "number and raters can be stated anew" in html


def test_once_something_is_judged_the_form_asks_for_more_prompts_and_shows_who_judges(client: Client) -> None:
    made = compared(number=3)
    made.judge(made.stage.bob)
    html = piece(client, made)
    assert "More test prompts to draw" in html
    assert "the planned number stays 3. Beside what is drawn, 1 more can be" in html
    assert "Raters, as stated: <bdi>bob</bdi>" in html
    assert "leads_rate" not in html


def test_where_nobody_of_the_raters_is_left_the_form_offers_the_present_ones(client: Client) -> None:
    made = compared(number=3)
    made.judge(made.stage.bob)
    Membership.objects.filter(user=made.stage.bob).delete()
    member(made.stage, "dora")
    html = piece(client, made)
    assert "Nobody of the stated raters is left in the project (bob)." in html
    client.post(reverse("launch", args=["garden", "evaluate"]), {"generation": "1", "leads_rate": "1"})
    report = client.get(reverse("gate", args=["garden", 1])).content.decode()
    assert "Added when nobody of them was left in the project: alice, dora." in report


def test_the_piece_is_of_the_generation_that_was_chosen(client: Client) -> None:
    made = compared(number=3)
    Generation.objects.create(
        project=made.stage.project, number=2, parent=made.newer, weights_path=made.newer.weights_path
    )
    assert 'value="3"' not in piece(client, made)
    assert 'value="3"' in piece(client, made, generation="1")
    assert 'value="3"' not in piece(client, made, generation="7" * 30)
    assert client.get(reverse("evaluation_terms", args=["garden"]), {"generation": "0"}).status_code == 404
    page = client.get(reverse("project", args=["garden"])).content.decode()
    assert page.count('id="evaluate-terms"') == 1


def test_leads_who_are_asked_for_too_late_are_refused_with_the_reason(client: Client) -> None:
    made = compared(number=3)
    made.judge(made.stage.bob)
    client.force_login(made.stage.alice)
    sent = {"generation": "1", "leads_rate": "1"}
    html = client.post(reverse("launch", args=["garden", "evaluate"]), sent, follow=True).content.decode()
    assert "its raters stay as stated, without alice." in html


def test_a_form_that_was_opened_before_raters_began_draws_nothing(client: Client) -> None:
    made = compared(number=2)
    html = piece(client, made)
    [begun] = re.findall('name="begun" value="([^"]*)"', html)
    sent = {"generation": "1", "planned": "2", "begun": begun}
    made.judge(made.stage.bob)
    answer = client.post(reverse("launch", args=["garden", "evaluate"]), sent, follow=True).content.decode()
    assert "has changed meanwhile: open the form again" in answer
    assert not Run.objects.filter(kind="evaluate", state="queued").exists()
    [begun] = re.findall('name="begun" value="([^"]*)"', piece(client, made))
    client.post(reverse("launch", args=["garden", "evaluate"]), {**sent, "begun": begun}, follow=True)
    assert Run.objects.get(kind="evaluate", state="queued").selection["draw"] == 2


def test_the_page_that_improves_asks_for_the_comparison_and_the_evaluation_after_it_heeds_that(
    alice: Client, stage: World
) -> None:
    left = turn(stage)
    address = reverse("improve", args=["garden"])
    html = alice.post(address, {"method": "ppo", "planned": "2"}).content.decode()
    assert "There is only 1 test prompt." in html
    alice.post(address, {"method": "ppo", "planned": "1", "leads_rate": "1"})
    made = Run.objects.filter(kind="improve").latest("created_at")
    assert (made.selection["planned"], made.selection["leads_rate"]) == (1, True)
    newer = Generation.objects.create(
        project=stage.project, number=2, parent=left.generation, run=made, weights_path=left.generation.weights_path
    )
    register.follow_up(made, newer)
    evaluation = newer.evaluations.get()
    assert (evaluation.planned, evaluation.pool.count()) == (1, 2)


def test_the_command_states_a_plan_and_without_options_keeps_to_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = unplanned()

    def carried_out(_command: Any, run: Run) -> Run:
        return run

    monkeypatch.setattr(evaluate.Command, "follow", carried_out)
    call_command("evaluate", project=made.stage.project.slug, planned=2, leads_rate=True)
    assert "2 test prompts are planned, 2 of them to be drawn now; raters: alice, bob." in capsys.readouterr().err
    Run.objects.filter(kind="evaluate", state="queued").update(**ended())
    call_command("evaluate", project=made.stage.project.slug)
    assert (made.evaluation.planned, made.evaluation.pool.count()) == (2, 2)
