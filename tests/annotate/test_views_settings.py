"""The form that changes a project."""

from __future__ import annotations

import json

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import AuditEvent, Membership, Project
from annotate.services.description import describe
from tests.annotate.factory import World, collect_items, model_folder, user
from tests.annotate.typing_in import WORDS, typed

pytestmark = pytest.mark.django_db

SETTINGS = reverse("settings", args=["garden"])


def test_settings_show_the_project_and_save_what_changed(alice: Client, stage: World) -> None:
    answer = alice.post(SETTINGS, typed(alice, SETTINGS, overlap="3", name="Yard", random_share="50"))
    assert answer.status_code == 302
    stage.project.refresh_from_db()
    assert (stage.project.overlap, stage.project.name, stage.project.random_share) == (3, "Yard", 0.5)
    event = AuditEvent.objects.get(action="changed")
    assert sorted(event.data["fields"]) == ["name", "overlap", "random_share"]
    assert event.actor == stage.alice


def test_saving_an_untouched_form_changes_nothing(alice: Client, stage: World) -> None:
    before = describe(stage.project)
    html = alice.post(SETTINGS, typed(alice, SETTINGS), follow=True).content.decode()
    assert "Nothing was changed." in html
    assert describe(Project.objects.get()) == before
    assert stage.project.guidelines.count() == 1
    assert not AuditEvent.objects.filter(action="changed").exists()


@pytest.mark.parametrize(("name", "status"), [("bob", 403), ("charlie", 404)])
def test_it_checks_ownership(client: Client, stage: World, name: str, status: int) -> None:
    client.force_login(getattr(stage, name))
    for what in ("settings", "pause", "resume", "add_prompts"):
        assert client.post(reverse(what, args=["garden"]), {}).status_code == status
    assert client.get(SETTINGS).status_code == status


def test_the_name_in_addresses_and_a_used_model_are_shown_as_fixed(alice: Client, stage: World) -> None:
    assert "It stays: links that people have would break." in alice.get(SETTINGS).content.decode()
    assert 'name="base_model"' in alice.get(SETTINGS).content.decode()
    collect_items(stage)
    html = alice.get(SETTINGS).content.decode()
    assert "It stays: answers were made with it." in html
    assert 'name="base_model"' not in html
    form = typed(alice, SETTINGS, slug="yard", model="folder", base_model=str(model_folder("other")))
    assert alice.post(SETTINGS, form).status_code == 302
    stage.project.refresh_from_db()
    assert (stage.project.slug, stage.project.base_model) == ("garden", "models/bare")


def test_another_model_may_be_chosen_before_the_first_answer(alice: Client, stage: World) -> None:
    other = model_folder("other")
    alice.post(SETTINGS, typed(alice, SETTINGS, model="folder", base_model=str(other)))
    assert stage.project.generations.get().weights_path == "models/other"
    answer = alice.post(SETTINGS, typed(alice, SETTINGS, model="folder", base_model="nowhere"))
    assert "lies outside the allowed folders" in answer.context["form"].problems["base_model"]


def test_a_criterion_that_is_removed_is_retired_and_one_of_its_name_brings_it_back(alice: Client, stage: World) -> None:
    wit = {"criteria": ["n7"], "criteria-n7-name": "Wit", **WORDS}
    alice.post(SETTINGS, typed(alice, SETTINGS, **wit))
    stage.criterion.refresh_from_db()
    assert not stage.criterion.active
    rating = alice.get(reverse("rate", args=["garden"])).content.decode()
    assert "Wit" in rating
    assert "Helpfulness" not in rating
    page = typed(alice, SETTINGS)
    (kept,) = page["criteria"]
    again = {"criteria": [kept, "n7"], "criteria-n7-name": "Helpfulness", **WORDS}
    alice.post(SETTINGS, page | again)
    stage.criterion.refresh_from_db()
    assert (stage.criterion.active, stage.criterion.position) == (True, 1)
    assert stage.project.criteria.count() == 2


def test_a_criterion_cannot_take_a_retired_one_s_name_and_two_can_change_names(alice: Client, stage: World) -> None:
    alice.post(SETTINGS, typed(alice, SETTINGS, **{"criteria": ["n7"], "criteria-n7-name": "Wit", **WORDS}))
    page = typed(alice, SETTINGS)
    (key,) = page["criteria"]
    answer = alice.post(SETTINGS, page | {f"criteria-{key}-name": "Helpfulness"})
    assert "One of this name was retired" in answer.context["form"].problems[f"criteria-{key}-name"]
    both = {"criteria": [key, "n7"], "criteria-n7-name": "Helpfulness", **WORDS}
    alice.post(SETTINGS, page | both)
    page = typed(alice, SETTINGS)
    one, two = page["criteria"]
    changed = {f"criteria-{one}-name": "Helpfulness", f"criteria-{two}-name": "Wit"}
    assert alice.post(SETTINGS, page | changed).status_code == 302
    stage.criterion.refresh_from_db()
    assert stage.criterion.name == "Wit"


def test_a_changed_rule_is_a_new_version_and_a_removed_norm_is_retired(alice: Client, stage: World) -> None:
    norm = {"norms": ["n1"], "norms-n1-name": "Doses", "norms-n1-text": "No dose."}
    alice.post(SETTINGS, typed(alice, SETTINGS, **norm))
    page = typed(alice, SETTINGS)
    (key,) = page["norms"]
    alice.post(SETTINGS, page | {f"norms-{key}-text": "No dose without a source."})
    kept = stage.project.norms.get()
    assert [version.text for version in kept.versions.order_by("number")] == ["No dose.", "No dose without a source."]
    alice.post(SETTINGS, typed(alice, SETTINGS, norms=[]))
    kept.refresh_from_db()
    assert (kept.active, kept.versions.count()) == (False, 2)
    alice.post(SETTINGS, typed(alice, SETTINGS, **norm | {"norms-n1-text": "No dose without a source."}))
    kept.refresh_from_db()
    assert (kept.active, kept.versions.count(), stage.project.norms.count()) == (True, 2, 1)


def test_a_changed_text_is_a_new_version_of_the_instructions(alice: Client, stage: World) -> None:
    alice.post(SETTINGS, typed(alice, SETTINGS, instructions="Prefer the answer that is true."))
    alice.post(SETTINGS, typed(alice, SETTINGS, instructions="Prefer the answer which is true.", must_read=None))
    versions = stage.project.guidelines.order_by("number").values_list("number", "must_read", "created_by")
    assert list(versions) == [(1, True, stage.alice.pk), (2, True, stage.alice.pk), (3, False, stage.alice.pk)]


def test_the_preview_of_settings_shows_what_raters_will_see_as_changed(alice: Client) -> None:
    form = typed(alice, SETTINGS, instructions="Prefer the answer that lasts.")
    html = alice.post(SETTINGS, form, headers={"HX-Request": "true"}).content.decode()
    assert "What raters will see as changed" in html
    assert "<ins>lasts</ins>" in html
    assert Project.objects.get().guidelines.count() == 1


# Two leads at once


def test_the_second_of_two_leads_is_told_and_sees_both(client: Client, stage: World) -> None:
    dora = user("dora")
    Membership.objects.create(user=dora, project=stage.project, role="lead")
    client.force_login(dora)
    theirs = typed(client, SETTINGS, overlap="5", description="Dora's words")
    other = Client()
    other.force_login(stage.alice)
    other.post(SETTINGS, typed(other, SETTINGS, overlap="3", quota="20"))

    answer = client.post(SETTINGS, theirs)
    assert answer.status_code == 409
    html = answer.content.decode()
    assert "alice changed these settings meanwhile" in html
    assert [(each.part, each.mine, each.stored) for each in answer.context["overtaken"]] == [("overlap", "5", "3")]
    assert [(each.part, each.stored) for each in answer.context["taken"]] == [("quota", "20")]
    stage.project.refresh_from_db()
    assert (stage.project.overlap, stage.project.quota, stage.project.description) == (3, 20, "")

    shown = answer.context["form"].values
    assert (shown["overlap"], shown["quota"], shown["description"]) == ("5", "20", "Dora's words")
    again = shown | answer.context["form"].keys | {"seen": answer.context["seen"]}
    assert client.post(SETTINGS, again).status_code == 302
    stage.project.refresh_from_db()
    assert (stage.project.overlap, stage.project.quota, stage.project.description) == (5, 20, "Dora's words")


def test_the_stored_part_can_be_taken_in_place_of_one_s_own(client: Client, stage: World) -> None:
    client.force_login(stage.alice)
    mine = typed(client, SETTINGS, overlap="5", **{"criteria": ["n7"], "criteria-n7-name": "Wit", **WORDS})
    (key,) = typed(client, SETTINGS)["criteria"]
    client.post(SETTINGS, typed(client, SETTINGS, overlap="3", **{f"criteria-{key}-name": "Use"}))
    answer = client.post(SETTINGS, mine)
    assert {each.part for each in answer.context["overtaken"]} == {"overlap", "criteria"}
    shown = answer.context["form"].values | {"criteria": ["n7"], "norms": [], "seen": answer.context["seen"]}
    answer = client.post(SETTINGS, shown | {"take": "criteria", "differs": ["overlap", "criteria"]})
    assert answer.status_code == 409
    assert [each.part for each in answer.context["overtaken"]] == ["overlap"]
    form = answer.context["form"]
    assert (form.keys["criteria"], form.values[f"criteria-{key}-name"], form.values["overlap"]) == ([key], "Use", "5")
    values = {name: value for name, value in form.values.items() if name != "take"}
    client.post(SETTINGS, values | form.keys | {"seen": answer.context["seen"]})
    assert stage.project.criteria.get().name == "Use"
    stage.project.refresh_from_db()
    assert stage.project.overlap == 5


def test_two_leads_who_change_different_parts_are_told_before_either_is_lost(client: Client, stage: World) -> None:
    client.force_login(stage.alice)
    mine = typed(client, SETTINGS, overlap="5")
    client.post(SETTINGS, typed(client, SETTINGS, quota="20"))
    assert client.post(SETTINGS, mine).status_code == 409
    stage.project.refresh_from_db()
    assert (stage.project.overlap, stage.project.quota) == (1, 20)


@pytest.mark.parametrize("seen", ["", "[]", "null", "[" * 100_000, json.dumps({"overlap": "x"})])
def test_a_form_that_has_seen_nothing_overwrites_nothing(alice: Client, stage: World, seen: str) -> None:
    assert alice.post(SETTINGS, typed(alice, SETTINGS, overlap="5", seen=seen)).status_code == 409
    stage.project.refresh_from_db()
    assert stage.project.overlap == 1


# Pausing


def test_a_project_is_paused_and_goes_on(alice: Client, stage: World) -> None:
    assert "Pause the project?" in alice.get(SETTINGS).content.decode()
    alice.post(reverse("pause", args=["garden"]))
    html = alice.get(SETTINGS).content.decode()
    assert "paused since" in html
    alice.post(reverse("pause", args=["garden"]))
    assert "The project is paused already." in alice.get(SETTINGS).content.decode()
    alice.post(reverse("resume", args=["garden"]))
    stage.project.refresh_from_db()
    assert stage.project.paused_at is None
    actions = AuditEvent.objects.filter(action__in=["paused", "resumed"]).order_by("pk")
    assert [event.action for event in actions] == ["paused", "resumed"]
