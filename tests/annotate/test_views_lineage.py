"""Lineage by links: from each record to what it came from and to what came of it."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Completion, Prompt, Submission
from annotate.services.comparison import compare
from annotate.services.judging import submit
from tests.annotate.compared import compared
from tests.annotate.factory import world
from tests.annotate.lineage import Turn, turn

pytestmark = pytest.mark.django_db


@pytest.fixture
def left() -> Turn:
    return turn(world())


@pytest.fixture
def alice(client: Client, left: Turn) -> Client:
    client.force_login(left.stage.alice)
    return client


def to(left: Turn, name: str, *key: object) -> str:
    return reverse(name, args=[left.stage.project.slug, *key])


def show(client: Client, left: Turn, name: str, *key: object, **query: str) -> str:
    response = client.get(to(left, name, *key), query)
    assert response.status_code == 200
    return response.content.decode()


def links(left: Turn, html: str) -> set[str]:
    """Which records a page links to."""
    known = {
        "parent": to(left, "generation", 0),
        "generation": to(left, "generation", 1),
        "run": to(left, "run", left.run.pk),
        "reward model": to(left, "reward_model", 1),
        "snapshot": to(left, "snapshot", left.snapshot.pk),
        "judgement": to(left, "judgement", left.judgement.pk),
        "completion": to(left, "completion", left.completion.pk),
        "prompt": to(left, "prompt", left.completion.prompt_id),
    }
    return {name for name, address in known.items() if f'href="{address}"' in html}


def test_a_generation_links_to_its_parent_run_reward_model_and_completions(alice: Client, left: Turn) -> None:
    html = show(alice, left, "generation", 1)
    assert links(left, html) >= {"parent", "run", "reward model", "completion", "prompt"}
    assert "not compared yet" in html


def test_a_generation_shows_the_win_rate_of_its_gate_report(client: Client) -> None:
    made = compared(number=3)
    client.force_login(made.stage.alice)
    for outcome in (1.0, 1.0, 0.0):
        made.judge(made.stage.bob, outcome)
    html = client.get(reverse("generation", args=["garden", 1])).content.decode()
    rate = compare(made.evaluation).win_rate()
    assert rate.low is not None
    assert f"{100 * rate.low:.1f}" in html  # bounds that hold at every look, not an interval for one
    assert "on 3 test prompts" in html


def test_a_generation_links_to_its_children(alice: Client, left: Turn) -> None:
    assert "generation" in links(left, show(alice, left, "generation", 0))


def rows(html: str) -> dict[str, list[str]]:
    """The cells of each row of measures, by the measure's name."""
    found = {}
    for row in html.split('<th scope="row" class="wide">')[1:]:
        name = row[: row.index("<")]
        cells = re.findall(r'<td class="figure">(.*?)</td>', row.split("</tr>")[0])
        found[name] = [re.sub("<.*?>", " ", cell) for cell in cells]
    return found


def test_a_generation_shows_how_ppo_went_and_how_it_does_beside_its_parent(alice: Client, left: Turn) -> None:
    measured = rows(show(alice, left, "generation", 1))
    assert measured["KL to the parent"] == ["0", "4.75"]
    assert measured["Reward"] == ["0.0625", "1.188"]
    assert measured["Answers that end"] == ["50.0%", "75.0%"]


def test_a_reward_model_shows_test_beside_dev_and_how_it_was_trained(alice: Client, left: Turn) -> None:
    measured = rows(show(alice, left, "reward_model", 1))
    assert measured["Accuracy"] == ["81.2%  75.0% – 87.5% ", "93.8%"]
    assert measured["Length alone"] == ["56.2%", "–"]
    assert (measured["Steps"], measured["Best step"], measured["Mean of raw scores"]) == (["24"], ["18"], ["−0.25"])


def test_a_reward_model_shows_its_accuracy_beside_length_alone(alice: Client, left: Turn) -> None:
    html = show(alice, left, "reward_model", 1)
    assert "81.2%" in html
    assert "75.0% – 87.5%" in html
    assert "56.2%" in html
    assert links(left, html) >= {"snapshot", "run", "generation"}


def test_a_snapshot_links_to_its_judgements_and_the_models_that_learned_from_it(alice: Client, left: Turn) -> None:
    assert links(left, show(alice, left, "snapshot", left.snapshot.pk)) >= {"judgement", "reward model"}


def test_a_completion_shows_its_origin_and_its_signals(alice: Client, left: Turn) -> None:
    html = show(alice, left, "completion", left.completion.pk)
    assert links(left, html) >= {"generation", "reward model", "prompt"}
    assert ">1.5<" in html


def test_a_judged_completion_links_to_the_judgement_and_its_edit(alice: Client, left: Turn) -> None:
    slot = left.judgement.slot
    pk = left.judgement.revisions.get().order_shown[0]
    raw = {"edits": {str(pk): "A better wording."}}
    submit(user=left.stage.bob, slot=slot, uuid=uuid4(), raw=raw, version=1)
    edit = Completion.objects.get(edit_of=pk)
    original = show(alice, left, "completion", pk)
    assert "judgement" in links(left, original)
    assert to(left, "completion", edit.pk) in original
    edited = show(alice, left, "completion", edit.pk)
    assert to(left, "completion", pk) in edited
    assert "judgement" in links(left, edited)


def test_a_judgement_shows_every_version_as_the_rater_saw_it(alice: Client, left: Turn) -> None:
    raw = {"ranks": {str(pk): 1 for pk in left.judgement.revisions.get().order_shown}}
    submit(user=left.stage.bob, slot=left.judgement.slot, uuid=uuid4(), raw=raw, version=1)
    html = show(alice, left, "judgement", left.judgement.pk)
    assert html.index("Version 2") < html.index("Version 1")
    assert "The first one answers the question." in html
    assert links(left, html) >= {"snapshot", "parent"}


def test_a_judgement_shows_what_came_late_for_its_item(alice: Client, left: Turn) -> None:
    Submission.objects.create(
        uuid=uuid4(),
        slot=left.judgement.slot,
        rater=left.stage.charlie,
        payload={"ranks": {"1": 1}},
        payload_sha256="0" * 64,
        outcome=Submission.Outcome.LATE,
    )
    assert "Came late from charlie" in show(alice, left, "judgement", left.judgement.pk)


def test_the_list_of_judgements_can_be_narrowed_to_a_rater(alice: Client, left: Turn) -> None:
    assert "judgement" in links(left, show(alice, left, "judgements", rater="bob"))
    assert "judgement" not in links(left, show(alice, left, "judgements", rater="alice"))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, 4),
        ({"q": "NUMBER 1"}, 1),
        ({"q": 'with "quotes"'}, 1),
        ({"q": "雨"}, 1),
        ({"q": "%"}, 0),
        ({"split": "train"}, 2),
        ({"tag": "weather"}, 1),
        ({"split": "test", "tag": "weather"}, 0),
    ],
)
def test_prompts_are_found_by_text_part_and_tag(alice: Client, left: Turn, query: dict[str, str], found: int) -> None:
    Prompt.objects.create(
        project=left.stage.project,
        messages=[{"role": "user", "content": '雨: a word with "quotes"'}],
        tags=["weather"],
        split="train",
        dedup_hash="f" * 64,
    )
    html = show(alice, left, "prompts", **query)
    assert html.count('<th class="wide') == found


def test_a_prompt_shows_its_answers_and_judgements(alice: Client, left: Turn) -> None:
    html = show(alice, left, "prompt", left.completion.prompt_id)
    assert {"completion", "generation", "parent"} <= links(left, html)
    judged = show(alice, left, "prompt", left.judgement.item.prompt_id)
    assert "judgement" in links(left, judged)
