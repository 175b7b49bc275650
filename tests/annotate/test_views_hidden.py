"""What must not be known by who judges in a comparison, beside the gate's report, and how it is told afterwards."""

from __future__ import annotations

import re
import uuid

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Slot
from annotate.services import promotion
from annotate.services.claiming import claim
from annotate.services.judging import submit
from annotate.services.simulate import judge_everything
from annotate.views.evidence_words import evidence_words
from tests.annotate.compared import compared
from tests.annotate.keyed import member

pytestmark = pytest.mark.django_db


def test_a_program_s_result_on_the_same_pairs_is_hidden_too(client: Client) -> None:
    made = compared(number=2, leads_rate=True)
    claim(user=made.stage.bob, project=made.stage.project)  # who is still at work on one of them
    assert judge_everything(project=made.stage.project, seed=1) == 1
    client.force_login(made.stage.alice)
    assert (
        "The result is hidden from you"
        in client.get(reverse("gate", args=["garden", 1]), {"kind": "simulated"}).content.decode()
    )


def history(client: Client) -> str:
    return re.sub(r"\s+", " ", client.get(reverse("history", args=["garden"])).content.decode())


def test_the_history_tells_in_words_what_was_known_and_not_to_who_still_judges(client: Client) -> None:
    made = compared(number=2, leads_rate=True)
    made.judge(made.stage.bob)
    promotion.promote(generation=made.newer, actor=None)
    client.force_login(made.stage.alice)
    assert "known then: <bdi>hidden from you until all prompts that were drawn are in</bdi>" in history(client)
    assert "100.0%" not in history(client)
    made.judge(made.stage.bob, 0.5)
    said = "People: too early to say, preferred on 100.0% of prompts (n = 1, bounds 0.0% – 100.0%)"
    said += "; test prompts planned: 2"
    assert f"before: <bdi>candidate</bdi> · known then: <bdi>{said}</bdi>" in history(client)
    client.cookies["django_language"] = "zh-hans"
    assert "真人" in history(client)


def test_the_history_still_reads_what_earlier_versions_kept_and_tells_programs_apart() -> None:
    assert evidence_words({"verdict": "not planned"}) == "People: no comparison was planned"
    before = {"verdict": "better", "win_rate": 0.75, "bounds": [0.5, 0.9], "prompts": 40, "planned": 40}
    people = "People: better than its parent, preferred on 75.0% of prompts (n = 40, bounds 50.0% – 90.0%)"
    assert evidence_words(before) == f"{people}; test prompts planned: 40"
    program = {"verdict": "worse", "win_rate": 0.25, "bounds": [0.1, 0.5], "prompts": 40}
    simulated = "Simulated rater: worse than its parent, preferred on 25.0% of prompts (n = 40, bounds 10.0% – 50.0%)"
    both = {**before, "programs": {"simulated": program}}
    assert evidence_words(both) == f"{people}; {simulated}; test prompts planned: 40"
    assert evidence_words("of an archive that somebody wrote by hand") == "of an archive that somebody wrote by hand"


def test_what_was_said_of_a_pair_is_hidden_from_a_lead_who_still_judges(client: Client) -> None:
    made = compared(number=2, leads_rate=True)
    other = member(made.stage, "dora", role="lead")
    judgement = made.judge(made.stage.bob)
    address = reverse("judgement", args=["garden", judgement.pk])
    told = (reverse("generation", args=["garden", 1]), "Answer 0 of generation", "Place")
    client.force_login(made.stage.alice)
    html = client.get(address).content.decode()
    assert "hidden from you until all prompts of this comparison" in html
    assert [part for part in told if part in html] == []
    client.force_login(other)
    assert all(part in client.get(address).content.decode() for part in told)
    made.judge(made.stage.bob)
    client.force_login(made.stage.alice)
    assert all(part in client.get(address).content.decode() for part in told)


def test_what_came_late_of_a_pair_is_hidden_from_a_lead_who_still_judges(client: Client) -> None:
    made = compared(number=1, leads_rate=True)
    slot = claim(user=made.stage.bob, project=made.stage.project)
    assert slot is not None
    Slot.objects.filter(pk=slot.pk).update(rater=made.stage.alice)
    raw = {"both_bad": True, "rationale": "Too late."}
    submit(user=made.stage.bob, slot=slot, uuid=uuid.uuid4(), raw=raw)
    client.force_login(made.stage.alice)
    address = reverse("prompt", args=["garden", slot.item.prompt_id])
    assert "Too late." not in client.get(address).content.decode()
    made.answer(slot, made.stage.alice, 1.0)
    assert "Too late." in client.get(address).content.decode()
