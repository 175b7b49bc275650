"""My answers: everything that a rater said, found again, and nobody else's."""

from __future__ import annotations

import re
import uuid

import pytest
from django.test import Client
from django.urls import reverse

from annotate.handles import handle
from annotate.models import Completion, Norm, NormVersion, Prompt, Slot
from annotate.services.claiming import claim, shown_order
from annotate.services.judging import submit
from tests.annotate.compared import compared
from tests.annotate.factory import World, collect_items, world
from tests.annotate.keyed import RIGHT, answer_next, checked, make_key, member

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage() -> World:
    made = world(prompts=6)
    collect_items(made)
    return made


@pytest.fixture
def bob(client: Client, stage: World) -> Client:
    client.force_login(stage.bob)
    return client


def listed(client: Client, **query: str) -> list[str]:
    """What the rater wrote as the reason of each answer in the list."""
    html = client.get(reverse("mine", args=["garden"]), query).content.decode()
    return re.findall(r'<p class="verbatim" dir="auto">“(.*?)”</p>', html)


def late(stage: World, **more: object) -> None:
    """An answer of Bob's to an item that Carol has been given meanwhile."""
    slot = claim(user=stage.bob, project=stage.project)
    assert slot is not None
    Slot.objects.filter(pk=slot.pk).update(rater=member(stage, "carol"))
    raw = {"ranks": {str(pk): 1 for pk in shown_order(slot)}, **more}
    assert submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=raw).outcome == "late"


def test_answers_come_newest_first_each_as_it_is_now(bob: Client, stage: World) -> None:
    answer_next(stage.alice, stage.project, rationale="Not Bob's.")
    first = answer_next(stage.bob, stage.project, rationale="one")
    answer_next(stage.bob, stage.project, rationale="two")
    late(stage, rationale="three")
    assert listed(bob) == ["three", "two", "one"]
    raw = {"both_bad": True, "rationale": "one, thought over"}
    submit(user=stage.bob, slot=first.slot, uuid=uuid.uuid4(), raw=raw, version=1)
    assert listed(bob) == ["one, thought over", "three", "two"]


def test_filters_show_flagged_edited_and_late_answers(bob: Client, stage: World) -> None:
    slot = claim(user=stage.bob, project=stage.project)
    assert slot is not None
    pk = shown_order(slot)[0]
    raw = {"ranks": {str(pk): 1}, "flags": {str(pk): "invented"}, "rationale": "flagged"}
    submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=raw)
    slot = claim(user=stage.bob, project=stage.project)
    assert slot is not None
    raw = {"edits": {str(shown_order(slot)[0]): "A clearer wording."}, "rationale": "edited"}
    submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=raw)
    late(stage, rationale="late")
    for only in ("flagged", "edited", "late"):
        assert listed(bob, only=only) == [only]
    assert len(listed(bob, only="nonsense")) == 3
    assert listed(bob, q="INVENTED") == ["flagged"]
    assert listed(bob, q="clearer wording") == ["edited"]


def test_the_search_finds_prompts_answers_and_reasons_in_any_script(bob: Client, stage: World) -> None:
    texts = ['He said "grow".', "番茄", "plain"]
    for text in texts:
        judgement = answer_next(stage.bob, stage.project, rationale=f"on {text[:2]}")
        Prompt.objects.filter(pk=judgement.item.prompt_id).update(messages=[{"role": "user", "content": text}])
        Completion.objects.filter(entries__item=judgement.item).update(text=f"An answer to {text}")
    assert listed(bob, q='said "grow"') == ["on He"]
    assert listed(bob, q="茄") == ["on 番茄"]
    assert listed(bob, q="answer to pl") == ["on pl"]
    assert listed(bob, q="on pl") == ["on pl"]
    assert listed(bob, q="rationale") == []


def test_each_answer_leads_to_its_own_slot_by_a_number_that_tells_nothing(bob: Client, stage: World) -> None:
    judgement = answer_next(stage.bob, stage.project)
    html = bob.get(reverse("mine", args=["garden"])).content.decode()
    address = f"/p/garden/slots/{handle(judgement.slot_id)}/change"
    assert address in html
    assert "open for changes" not in html
    page = bob.get(address).content.decode()
    assert '"stored": {"version": 1' in page


def test_verdicts_on_norms_stand_with_their_passages_under_the_norm_s_own_words_of_then(
    bob: Client, stage: World
) -> None:
    stage.project.norms_on = True
    stage.project.save()
    norm = Norm.objects.create(project=stage.project, name="Plain words")
    version = NormVersion.objects.create(norm=norm, number=1, text="No jargon.")
    Completion.objects.update(text="It *runs* itself.")
    slot = claim(user=stage.bob, project=stage.project)
    assert slot is not None
    first, second, *_others = map(str, shown_order(slot))
    verdicts = {
        first: {str(version.pk): {"verdict": "violate", "quote": "runs itself"}},
        second: {str(version.pk): {"verdict": "comply"}},
    }
    submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw={"norms": verdicts})
    late(stage, norms={})
    Norm.objects.update(active=False)
    html = bob.get(reverse("mine", args=["garden"])).content.decode()
    found = re.findall(r'<ul class="verdicts">(.*?)</ul>', html)
    assert [re.sub(r"<.*?>", "", each) for each in found] == [
        "violates Plain words v1: runs itself",
        "complies Plain words v1",
    ]


def test_gold_items_look_like_others_in_the_list_until_they_are_shown(bob: Client, stage: World) -> None:
    check = checked(make_key(stage, "gold"), stage.bob, RIGHT)
    answer_next(stage.bob, stage.project)

    def entries() -> list[str]:
        html = bob.get(reverse("mine", args=["garden"])).content.decode()
        found = re.findall(r'<li><details class="card mine-entry">.*?</details></li>', html, re.DOTALL)
        return [
            re.sub(r"\d+|, \d\d:\d\d", "N", re.sub(r"<div class=\"prose.*?</div>|<a [^>]*>", "", each, flags=re.DOTALL))
            for each in found
        ]

    ordinary, gold = entries()
    assert ordinary.count("Change it") == gold.count("Change it") == 1
    assert len(ordinary.split()) == len(gold.split())
    bob.post(reverse("reveal", args=["garden"]))
    ordinary, gold = entries()
    assert ("stands" in ordinary, "stands" in gold) == (False, True)
    address = reverse("change", args=["garden", check.judgement.slot_id])
    assert "what you said of it stands" in bob.get(address, follow=True).content.decode()


def test_showing_the_right_answers_says_nothing_where_none_was_judged(bob: Client, stage: World) -> None:
    answer_next(stage.bob, stage.project)
    html = bob.post(reverse("reveal", args=["garden"]), follow=True).content.decode()
    assert "No more of your items have a known answer so far." in html


def test_an_empty_list_says_what_will_be_there(bob: Client) -> None:
    assert "Every answer that you submit is kept here" in bob.get(reverse("mine", args=["garden"])).content.decode()
    html = bob.get(reverse("mine", args=["garden"]), {"q": "x"}).content.decode()
    assert "No answer of yours fits" in html


def test_an_answer_of_a_comparison_whose_planned_number_is_in_is_shown_as_locked(client: Client) -> None:
    made = compared(number=2)
    client.force_login(made.stage.bob)
    judgement = made.judge(made.stage.bob)
    change = reverse("change", args=["garden", judgement.slot_id])
    assert change in client.get(reverse("mine", args=["garden"])).content.decode()
    assert client.get(change).status_code == 200
    made.judge(made.stage.bob)
    html = client.get(reverse("mine", args=["garden"])).content.decode()
    assert (html.count("what you said stands"), html.count('class="tag">stands<')) == (2, 2)
    assert change not in html
    assert "what you said stands" in client.get(change, follow=True).content.decode()
    last = client.get(reverse("last_answer", args=["garden"])).content.decode()
    assert "Your last answer stands" in last
    assert "data-item" not in last
    answer = {"ranks": {"A": 1, "B": 2}}
    body = {"uuid": str(uuid.uuid4()), "version": 1, "answer": answer, "ahead": None}
    sent = client.post(reverse("submit", args=["garden", judgement.slot_id]), body, content_type="application/json")
    assert sent.status_code == 400
    assert "what you said stands" in sent.json()["error"]
