"""The form that makes a project and changes it."""

from __future__ import annotations

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from annotate.models import AuditEvent, Membership, Project
from annotate.services.description import describe
from annotate.views.setup_fields import FIELDS
from tests.annotate.factory import World, collect_items, model_folder, user, world
from tests.annotate.typing_in import typed

pytestmark = pytest.mark.django_db

NEW = reverse("new_project")
SETTINGS = reverse("settings", args=["garden"])
WORDS = {f"criteria-n7-anchors-{value}": f"word {value}" for value in range(1, 6)}


@pytest.fixture
def stage() -> World:
    return world()


@pytest.fixture
def alice(client: Client, stage: World) -> Client:
    client.force_login(stage.alice)
    return client


# A new project


def test_it_works(alice: Client, stage: World) -> None:
    form = typed(
        alice,
        NEW,
        **{
            "name": "Kitchen",
            "quota": "40",
            "lease_minutes": "5",
            "gold_rate": "12.5",
            "pass_mark": "",
            "norms_on": "on",
        },
        **{"norms": ["n1"], "norms-n1-name": "Doses", "norms-n1-text": "No dose without a source."},
        prompts="How do I sharpen a knife?\n\nWhat is a roux?\n",
    )
    answer = alice.post(NEW, form)
    assert (answer.status_code, answer["Location"]) == (302, "/p/kitchen/")
    made = Project.objects.get(slug="kitchen")
    assert (made.quota, made.lease_minutes, made.gold_rate, made.pass_mark) == (40, 5, 0.125, None)
    assert made.norms.get().versions.get().text == "No dose without a source."
    assert [prompt.messages[0]["content"] for prompt in made.prompts.order_by("pk")] == [
        "How do I sharpen a knife?",
        "What is a roux?",
    ]
    assert Membership.objects.get(project=made).user == stage.alice
    html = alice.get("/p/kitchen/").content.decode()
    assert "Generate answers" in html
    assert reverse("members", args=["kitchen"]) in html


@pytest.mark.parametrize(("name", "status"), [("alice", 200), ("bob", 403), ("charlie", 403), ("root", 200)])
def test_it_checks_who_may_make_one(client: Client, stage: World, name: str, status: int) -> None:
    user("root", is_superuser=True)
    client.force_login(type(stage.alice).objects.get(username=name))
    assert client.get(NEW).status_code == status
    assert client.post(NEW, {"name": "x"}).status_code == (422 if status == 200 else 403)
    assert (NEW in client.get(reverse("home"), follow=True).content.decode()) == (status == 200)


def called(field: str) -> str:
    rows = {"criteria-n0-name": "Criteria 1 · Name", "criteria-n0-anchors-3": "Criteria 1 · Words for 3"}
    return rows.get(field) or str(FIELDS[field].label)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("name", "  ", "Fill this in."),
        ("name", "x" * 201, "At most 200 characters."),
        ("name", "a\x00b", "This holds characters that cannot be stored."),
        ("slug", "two words", "Use only letters from a to z, digits, - and _."),
        ("slug", "garden", "There is a project garden already."),
        ("instructions", "", "Fill this in."),
        ("completions_per_item", "10", "At most 9."),
        ("completions_per_item", "four", "Write a whole number."),
        ("overlap", "0", "At least 1."),
        ("overlap", "9" * 400, "At most 100."),
        ("quota", "0", "At least 1."),
        ("lease_minutes", "481", "At most 480."),
        ("random_share", "101", "At most 100 %."),
        ("gold_rate", "51", "At most 50 %."),
        ("repeat_rate", "nan", "Write a number."),
        ("adjudicate_above", "-1", "At least 0 %."),
        ("pass_mark", "much", "Write a number."),
        ("temperature", "0", "More than 0."),
        ("max_tokens", "1.5", "Write a whole number."),
        ("base_model", "/etc", "lies outside the allowed folders"),
        ("criteria-n0-name", "", "Fill this in."),
        ("criteria-n0-anchors-3", " ", "Fill this in."),
    ],
)
def test_what_is_wrong_stands_at_its_field_and_nothing_typed_is_lost(
    alice: Client, field: str, value: str, sentence: str
) -> None:
    projects = Project.objects.count()
    form = typed(alice, NEW, name="Kitchen", description="Knives & pans", prompts="One?\nTwo?") | {field: value}
    answer = alice.post(NEW, form)
    assert answer.status_code == 422
    shown = answer.context["form"]
    assert sentence in shown.problems[field]
    sent = {name: text for name, text in form.items() if isinstance(text, str)}
    assert {name: shown.values[name] for name in sent} == sent
    html = answer.content.decode()
    assert f'href="#f-{field}"' in html
    assert f'id="f-{field}"' in html
    assert [label for name, label, _words in shown.summary if name == field] == [called(field)]
    assert "Knives &amp; pans" in html
    assert "One?\nTwo?" in html
    assert Project.objects.count() == projects


def test_a_project_that_asks_for_nothing_is_refused_at_what_raters_do(alice: Client) -> None:
    off = {f"{name}_on": None for name in ("rank", "edit", "norms")}
    answer = alice.post(NEW, typed(alice, NEW, name="Kitchen", **off, criteria=[]))
    assert "Ask raters for something" in answer.context["form"].problems["protocol"]
    assert alice.post(NEW, typed(alice, NEW, name="Kitchen", **off)).status_code == 302


def test_two_criteria_of_one_name_are_refused(alice: Client) -> None:
    twice = {"criteria": ["n0", "n7"], "criteria-n7-name": "Helpfulness", **WORDS}
    answer = alice.post(NEW, typed(alice, NEW, name="Kitchen", **twice))
    assert answer.context["form"].problems == {"criteria": "Two of them are named Helpfulness."}


def test_criteria_come_in_the_order_of_the_form(alice: Client) -> None:
    alice.post(
        NEW, typed(alice, NEW, name="Kitchen", **{"criteria": ["n7", "n0"], "criteria-n7-name": "Taste", **WORDS})
    )
    criteria = Project.objects.get(slug="kitchen").criteria.order_by("position")
    assert [criterion.name for criterion in criteria] == ["Taste", "Helpfulness"]


def test_renderings_in_another_language_are_kept_and_shown_there(alice: Client) -> None:
    chinese = {
        "translations-zh-hans-name": "厨房",
        "translations-zh-hans-instructions": "先读说明。",
        "criteria-n0-translations-zh-hans-name": "有用",
        "criteria-n0-translations-zh-hans-anchors-5": "很有用",
    }
    alice.post(NEW, typed(alice, NEW, name="Kitchen", **chinese))
    made = Project.objects.get(slug="kitchen")
    assert made.translations == {"zh-hans": {"name": "厨房"}}
    assert made.guidelines.get().translations == {"zh-hans": {"text": "先读说明。"}}
    assert made.criteria.get().translations == {"zh-hans": {"name": "有用", "anchors": {"5": "很有用"}}}
    html = alice.get(reverse("rate", args=["kitchen"]), headers={"accept-language": "zh-CN"}).content.decode()
    assert "先读说明。" in html
    assert "很有用" in html
    assert "Does what was asked, with a small gap." in html  # what has no rendering shows as it was written


def test_every_wrong_line_of_a_file_is_named_and_nothing_is_made(alice: Client) -> None:
    lines = ['{"prompt": "Good?"}', "oops", '{"prompt": 5}'] + ["[]"] * 7
    file = SimpleUploadedFile("prompts.jsonl", "\n".join(lines).encode())
    answer = alice.post(NEW, typed(alice, NEW, name="Kitchen", prompts_file=file))
    assert answer.status_code == 422
    html = answer.content.decode()
    assert "9 lines cannot be read" in html
    for number in range(2, 11):
        assert f"line {number}: " in html
    assert not Project.objects.filter(slug="kitchen").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xff\xfe", "not UTF-8 text"),
        (b"", "holds no prompts"),
        (b'{"prompt": "a", "reference": "\\u0000"}', "the reference holds characters that cannot be stored"),
        (b'{"prompt": "a", "tags": ["\\u0000"]}', "the tags are not a list of short words"),
        (b"[" * 100_000, "too deeply nested"),
    ],
)
def test_a_file_that_will_not_do_is_refused_in_a_sentence(alice: Client, content: bytes, sentence: str) -> None:
    file = SimpleUploadedFile("prompts.jsonl", content or b"\n")
    answer = alice.post(reverse("add_prompts", args=["garden"]), {"prompts_file": file})
    assert answer.status_code == 422
    assert sentence in answer.content.decode()


def test_prompts_are_added_to_a_project_and_known_ones_are_told(alice: Client, stage: World) -> None:
    file = SimpleUploadedFile("prompts.jsonl", b'\xef\xbb\xbf{"prompt": "From a file?", "split": "test"}')
    form = {"prompts": "Question number 1?\r\nA new one?", "prompts_file": file}
    answer = alice.post(reverse("add_prompts", args=["garden"]), form, follow=True)
    assert "2 prompts added; 1 were here already." in answer.content.decode()
    assert stage.project.prompts.count() == 5


def test_the_preview_shows_the_form_as_it_is_typed_even_where_it_is_wrong(alice: Client) -> None:
    form = typed(alice, NEW, completions_per_item="3", rank_on=None, **{"criteria-n0-name": "Wit", "overlap": "no"})
    html = alice.post(NEW, form | {"instructions": "Be *brief*."}, headers={"HX-Request": "true"}).content.decode()
    assert html.count('class="answer"') == 3
    assert "Wit" in html
    assert "data-board" not in html
    assert "Be <em>brief</em>." in html
    assert "inert" in html
    assert "<title>" not in html
    html = alice.post(NEW, {"completions_per_item": "9" * 50}, headers={"HX-Request": "true"}).content.decode()
    assert html.count('class="answer"') == 4


# Settings


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
