"""The rating page: blind, exact about errors, and fast."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotate.handles import handle
from annotate.models import (
    Completion,
    Criterion,
    Edit,
    Judgement,
    Norm,
    NormVersion,
    Project,
    Score,
    Skip,
    Slot,
    Submission,
)
from annotate.services.claiming import claim, shown_order
from tests.annotate.factory import World, collect_items, world
from tests.annotate.lineage import judge, turn

pytestmark = pytest.mark.django_db

ANSWER = {"ranks": {"A": 1, "B": 2, "C": 3, "D": 3}}


@pytest.fixture
def stage() -> World:
    made = world()
    collect_items(made)
    return made


@pytest.fixture
def bob(client: Client, stage: World) -> Client:
    client.force_login(stage.bob)
    return client


def page(client: Client, stage: World) -> str:
    response = client.get(reverse("rate", args=[stage.project.slug]))
    assert response.status_code == 200
    return response.content.decode()


def held(stage: World) -> Slot:
    return Slot.objects.get(rater=stage.bob, state=Slot.State.LEASED)


def send(client: Client, slot: Slot, what: str = "submit", **body: Any) -> Any:
    address = reverse(what, args=[slot.project.slug, slot.pk])
    return client.post(address, data=json.dumps(body), content_type="application/json")


def submit(client: Client, slot: Slot, answer: Any = ANSWER, **more: Any) -> Any:
    return send(client, slot, **{"uuid": str(uuid.uuid4()), "version": None, "answer": answer, **more})


def test_it_shows_the_prompt_and_every_answer_in_the_slot_s_order(bob: Client, stage: World) -> None:
    html = page(bob, stage)
    texts = {c.pk: c.text for c in held(stage).item.completions.all()}
    positions = [html.index(texts[pk]) for pk in shown_order(held(stage))]
    assert positions == sorted(positions)
    assert held(stage).item.prompt.messages[0]["content"] in html


def test_reloading_shows_the_same_item(bob: Client, stage: World) -> None:
    page(bob, stage)
    first = held(stage)
    page(bob, stage)
    assert held(stage) == first


def test_nothing_on_the_page_tells_the_generations_apart(client: Client) -> None:
    left = turn(world())
    Completion.objects.update(text="The same words.")
    client.force_login(left.stage.bob)
    html = page(client, left.stage).split("<main")[1]
    assert held(left.stage).purpose == "evaluate"
    for word in ("generation", "sample", "engine", "transformers", "reward", "evaluate", "completion"):
        assert word not in html.lower()
    first, second = re.findall(r'<article class="answer".*?</article>', html, re.DOTALL)
    assert re.sub(r"\bA\b", "B", first) == second


def test_the_page_knows_answers_by_letters_only(bob: Client, stage: World) -> None:
    numbers = {pk: 10**6 + n for n, pk in enumerate(Completion.objects.values_list("pk", flat=True))}
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        for table, column in (("annotate_itemcompletion", "completion_id"), ("annotate_completion", "id")):
            for old, new in numbers.items():
                cursor.execute(f"UPDATE {table} SET {column} = %s WHERE {column} = %s", [new, old])
    html = page(bob, stage)
    assert [pk for pk in shown_order(held(stage)) if str(pk) in html] == []


def test_an_answer_by_letters_is_stored_for_the_completions_behind_them(bob: Client, stage: World) -> None:
    page(bob, stage)
    slot = held(stage)
    answer = {
        "scores": {"B": {str(stage.criterion.pk): 4}},
        **ANSWER,
        "edits": {"C": "A better wording."},
        "flags": {"D": "invented"},
        "rationale": "B is clear.",
        "active_ms": 1500,
    }
    response = submit(bob, slot, answer)
    assert (response.status_code, response.json()["outcome"], response.json()["version"]) == (200, "accepted", 1)
    assert response.json()["progress"]["words"] == "1 by you; 33 % of the project"
    a, b, c, d = shown_order(slot)
    revision = Judgement.objects.get(slot=slot).revisions.get()
    assert Score.objects.get(revision=revision).completion_id == b
    assert {rank.completion_id: rank.group for rank in revision.ranks.all()} == {a: 1, b: 2, c: 3, d: 3}
    assert Edit.objects.get(revision=revision).completion_id == c
    assert revision.flags.get().completion_id == d
    assert (revision.rationale, revision.active_ms) == ("B is clear.", 1500)


def test_sending_the_same_submission_again_stores_nothing_more(bob: Client, stage: World) -> None:
    page(bob, stage)
    slot, body = held(stage), {"uuid": str(uuid.uuid4())}
    assert submit(bob, slot, **body).json() == submit(bob, slot, **body).json()
    assert Submission.objects.count() == Judgement.objects.count() == 1


def test_the_same_uuid_with_another_answer_is_a_conflict(bob: Client, stage: World) -> None:
    page(bob, stage)
    slot, body = held(stage), {"uuid": str(uuid.uuid4())}
    submit(bob, slot, **body)
    assert submit(bob, slot, {"ranks": {"A": 1}}, **body).status_code == 409


def test_a_stale_version_is_a_conflict_that_shows_what_is_stored(bob: Client, stage: World) -> None:
    page(bob, stage)
    slot = held(stage)
    submit(bob, slot)
    submit(bob, slot, {"ranks": {"A": 2, "B": 1}}, version=1)
    response = submit(bob, slot, {"ranks": {"A": 1, "B": 1}}, version=1)
    assert response.status_code == 409
    assert response.json()["stored"]["version"] == 2
    assert response.json()["stored"]["answer"]["ranks"] == {"A": 2, "B": 1}


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        ({}, ""),
        ({"ranks": {"A": 1, "B": 3}}, "ranks"),
        ({"ranks": {"E": 1}}, "ranks"),
        ({"ranks": "A"}, "ranks"),
        ({"scores": {"A": {"0": 3}}}, "scores"),
        ({"edits": {"A": " "}}, "edits"),
        ({"ranks": {"A": 1}, "rationale": "x" * 1_000_000}, "rationale"),
        ([], ""),
    ],
)
def test_a_wrong_answer_is_refused_at_its_place_and_stores_nothing(
    bob: Client, stage: World, answer: Any, place: str
) -> None:
    page(bob, stage)
    slot = held(stage)
    response = submit(bob, slot, answer)
    assert (response.status_code, response.json()["place"]) == (400, place)
    assert response.json()["error"]
    assert not Submission.objects.exists()
    assert held(stage) == slot


@pytest.mark.parametrize("body", ["", "{", "[]", '{"uuid": "x"}', '{"uuid": 5}', "\udcff"])
def test_a_body_that_is_no_submission_is_refused_in_a_sentence(bob: Client, stage: World, body: str) -> None:
    page(bob, stage)
    slot = held(stage)
    address = reverse("submit", args=[stage.project.slug, slot.pk])
    raw = body.encode("utf-8", "surrogateescape")
    response = bob.post(address, data=raw, content_type="application/json")
    assert response.status_code == 400
    assert response.json()["error"]


def test_a_body_beyond_the_limit_is_refused_in_a_sentence(bob: Client, stage: World) -> None:
    page(bob, stage)
    response = submit(bob, held(stage), {"ranks": {"A": 1}, "rationale": "x" * 3_000_000})
    assert (response.status_code, bool(response.json()["error"])) == (400, True)


def test_an_answer_to_an_item_that_was_taken_over_is_kept_as_late(bob: Client, stage: World) -> None:
    page(bob, stage)
    slot = held(stage)
    Slot.objects.filter(pk=slot.pk).update(rater=stage.alice)
    answer = submit(bob, slot).json()
    assert (answer["outcome"], answer["version"]) == ("late", None)


def test_a_slot_that_was_never_handed_to_the_rater_is_not_found(bob: Client, stage: World) -> None:
    page(bob, stage)
    slot = Slot.objects.filter(state=Slot.State.FREE).first()
    assert slot is not None
    assert [send(bob, slot, what).status_code for what in ("submit", "skip", "renew")] == [404, 404, 404]


def test_skipping_takes_a_reason_and_brings_another_item(bob: Client, stage: World) -> None:
    page(bob, stage)
    slot = held(stage)
    assert send(bob, slot, "skip").json()["place"] == "reason"
    assert send(bob, slot, "skip", reason="other").json()["place"] == "note"
    assert send(bob, slot, "skip", reason="broken", note="no question").status_code == 200
    assert Skip.objects.get().reason == "broken: no question"
    page(bob, stage)
    assert held(stage) != slot


def test_the_heartbeat_says_whether_the_item_is_still_held(bob: Client, stage: World) -> None:
    page(bob, stage)
    slot = held(stage)
    assert send(bob, slot, "renew").json()["held"] is True
    Slot.objects.filter(pk=slot.pk).update(rater=stage.alice)
    assert send(bob, slot, "renew").json() == {"held": False, "done": False, "draft": None}


def test_the_heartbeat_says_when_the_item_was_submitted_in_another_tab(bob: Client, stage: World) -> None:
    page(bob, stage)
    slot = held(stage)
    submit(bob, slot)
    assert send(bob, slot, "renew").json() == {"held": False, "done": True, "draft": None}


def test_the_last_answer_comes_back_as_it_was_with_its_version(bob: Client, stage: World) -> None:
    address = reverse("last_answer", args=[stage.project.slug])
    assert bob.get(address).status_code == 204
    page(bob, stage)
    slot = held(stage)
    submit(bob, slot, {**ANSWER, "rationale": "because"})
    html = bob.get(address).content.decode()
    data = json.loads(re.search(r'id="desk-data"[^>]*>(.*?)</script>', html).group(1))  # type: ignore[union-attr]
    assert data["slot"] == handle(slot.pk)
    assert data["stored"]["version"] == 1
    assert data["stored"]["answer"]["ranks"] == ANSWER["ranks"]
    assert data["stored"]["answer"]["rationale"] == "because"


def test_when_nothing_is_left_the_page_says_why(client: Client) -> None:
    stage = world()
    client.force_login(stage.bob)
    assert "No items have been prepared yet" in page(client, stage)
    collect_items(stage)
    while claim(user=stage.bob, project=stage.project):
        judge(stage)
    html = page(client, stage)
    assert "Every item of this project is judged" in html
    assert "3 by you; 100 % of the project" in html


def test_the_protocol_decides_what_is_asked(client: Client, stage: World) -> None:
    Project.objects.update(score_on=False, edit_on=False, rationale_on=False)
    client.force_login(stage.bob)
    html = page(client, stage)
    assert 'name="rank-A"' in html
    assert not {'name="edit-A"', 'name="rationale"', 'role="radiogroup"'} & set(
        re.findall(r'(?:name|role)="[^"]+"', html)
    )


def test_two_answers_are_compared_and_more_are_ranked(client: Client) -> None:
    stage = world(completions_per_item=2)
    collect_items(stage, samples=2)
    client.force_login(stage.bob)
    html = page(client, stage)
    assert re.findall(r'name="choice" value="([^"]+)"', html) == ["A", "equal", "B", "bad"]
    assert "rank-A" not in html
    Project.objects.update(strength_on=True)
    choices = re.findall(r'name="choice" value="([^"]+)"', page(client, stage))
    assert choices == ["A-3", "A-2", "A-1", "equal", "B-1", "B-2", "B-3", "bad"]
    Project.objects.update(rank_on=False)
    assert "choice" not in page(client, stage).split("<main")[1].split("words")[0]


def test_a_blind_pair_of_two_generations_is_compared_too(client: Client) -> None:
    left = turn(world())
    client.force_login(left.stage.bob)
    assert 'name="choice"' in page(client, left.stage)


def test_each_answer_is_judged_by_the_newest_version_of_each_active_norm(client: Client) -> None:
    stage = world(norms_on=True)
    collect_items(stage)
    norm, dropped = (Norm.objects.create(project=stage.project, name=n, active=n == "Kind") for n in ("Kind", "Old"))
    versions = [NormVersion.objects.create(norm=norm, number=n, text=f"Text **{n}**.") for n in (1, 2)]
    NormVersion.objects.create(norm=dropped, number=1, text="Dropped.")
    client.force_login(stage.bob)
    html = page(client, stage)
    assert re.findall(r'data-norm="(\d+)"', html) == [str(versions[1].pk)] * 4
    assert "Text <strong>2</strong>." in html
    assert "Dropped." not in html


def test_what_a_lead_changes_of_the_scales_is_on_the_page_at_once(client: Client, stage: World) -> None:
    Project.objects.update(norms_on=True)
    norm = NormVersion.objects.create(norm=Norm.objects.create(project=stage.project, name="Honest"), number=1)
    client.force_login(stage.bob)
    page(client, stage)
    changes = [
        ("a better word", lambda word: Criterion.objects.update(anchors={"1": word})),
        ("another name", lambda word: Criterion.objects.update(name=word)),
        ("Say what is so.", lambda word: NormVersion.objects.filter(pk=norm.pk).update(text=word)),
        ("Truthful", lambda word: Norm.objects.update(name=word)),
    ]
    for word, change in changes:
        change(word)
        assert word in page(client, stage)
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = "zh-hans"
    assert "遵守" in page(client, stage)


def test_a_criterion_that_is_no_longer_active_is_not_asked_for(client: Client) -> None:
    stage = world()
    collect_items(stage)
    Criterion.objects.update(active=False)
    client.force_login(stage.bob)
    assert "data-criterion" not in page(client, stage)


def test_model_text_cannot_run_anything(bob: Client, stage: World) -> None:
    Completion.objects.update(text='<script>alert(1)</script><img src=x onerror="alert(2)"> [a](javascript:alert(3))')
    html = page(bob, stage)
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert 'href="javascript:' not in html


@pytest.mark.parametrize("prompts", [3, 60])
def test_showing_an_item_takes_a_bounded_number_of_queries(client: Client, prompts: int) -> None:
    stage = world(prompts=prompts)
    collect_items(stage)
    client.force_login(stage.bob)
    page(client, stage)
    with CaptureQueriesContext(connection) as queries:
        page(client, stage)
    assert len(queries) <= 24
