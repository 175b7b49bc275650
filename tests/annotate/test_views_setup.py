"""The form that makes a project."""

from __future__ import annotations

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from annotate.models import Membership, Project
from annotate.views.setup_fields import FIELDS
from tests.annotate.factory import World, user
from tests.annotate.typing_in import WORDS, typed

pytestmark = pytest.mark.django_db

NEW = reverse("new_project")


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
