"""Comparisons of two, strengths and norms: what is stored of them, and what is refused with which sentence."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Completion, Criterion, JudgementRevision, Norm, NormVersion, Project, Slot, Submission
from annotate.services import Refused
from annotate.services.claiming import claim, shown_order
from annotate.services.judging import submit
from annotate.services.payload import current_norms, is_quoted
from annotate.views.answers import of_revision
from annotate.views.letters import stored_answer
from tests.annotate.factory import World, collect_items, world

pytestmark = pytest.mark.django_db

TEXT = "# Title\n\nThe *quick* fox costs $5.\n\n| a | b |\n| - | - |\n| one | two |\n"


def norm(project: Project, name: str = "Honest", *, number: int = 1, **more: Any) -> NormVersion:
    return NormVersion.objects.create(
        norm=Norm.objects.create(project=project, name=name, **more), number=number, text=f"It is {name}."
    )


@pytest.fixture
def pair() -> World:
    stage = world(strength_on=True, norms_on=True, completions_per_item=2)
    collect_items(stage, samples=2)
    return stage


def held(stage: World) -> Slot:
    slot = claim(user=stage.bob, project=stage.project)
    assert slot is not None
    return slot


def send(stage: World, slot: Slot, raw: dict[str, Any], version: int | None = None) -> JudgementRevision:
    submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=raw, version=version)
    return JudgementRevision.objects.latest("pk")


@pytest.mark.parametrize("strength", [1, 2, 3])
def test_a_preference_between_two_is_stored_with_its_strength(pair: World, strength: int) -> None:
    slot = held(pair)
    a, b = shown_order(slot)
    revision = send(pair, slot, {"ranks": {str(a): 2, str(b): 1}, "strength": strength})
    assert {rank.completion_id: rank.group for rank in revision.ranks.all()} == {a: 2, b: 1}
    assert revision.strength == strength


def test_equals_and_a_preference_without_strength_are_stored_without_one(pair: World) -> None:
    slot = held(pair)
    a, b = map(str, shown_order(slot))
    assert send(pair, slot, {"ranks": {a: 1, b: 1}}).strength is None
    assert send(pair, slot, {"ranks": {a: 1, b: 2}}, version=1).strength is None


def test_both_bad_is_a_judgement_without_an_order(pair: World) -> None:
    revision = send(pair, held(pair), {"both_bad": True})
    assert revision.both_bad
    assert not revision.ranks.exists()


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ({"ranks": {"A": 1, "B": 1}, "strength": 2}, "one of two answers is better"),
        ({"ranks": {"A": 1}, "strength": 2}, "one of two answers is better"),
        ({"both_bad": True, "strength": 2}, "one of two answers is better"),
        ({"ranks": {"A": 1, "B": 2}, "strength": 0}, "1, 2 or 3"),
        ({"ranks": {"A": 1, "B": 2}, "strength": 4}, "1, 2 or 3"),
        ({"ranks": {"A": 1, "B": 2}, "strength": True}, "1, 2 or 3"),
        ({"ranks": {"A": 1, "B": 2}, "strength": "much"}, "1, 2 or 3"),
        ({"ranks": {"A": 1, "B": 2}, "both_bad": True}, "not both"),
    ],
)
def test_a_strength_without_a_preference_is_refused(pair: World, raw: dict[str, Any], sentence: str) -> None:
    slot = held(pair)
    letters = dict(zip("AB", map(str, shown_order(slot)), strict=True))
    raw = {**raw, **({"ranks": {letters[k]: v for k, v in raw["ranks"].items()}} if "ranks" in raw else {})}
    with pytest.raises(Refused, match=sentence) as refusal:
        send(pair, slot, raw)
    assert refusal.value.place == "ranks"
    assert not Submission.objects.exists()


def test_a_strength_is_refused_where_the_project_asks_for_none_and_of_more_than_two() -> None:
    stage = world(strength_on=True)
    collect_items(stage)
    slot = held(stage)
    order = map(str, shown_order(slot))
    raw = {"ranks": dict(zip(order, (1, 2, 3, 4), strict=True)), "strength": 1}
    with pytest.raises(Refused, match="one of two answers is better"):
        send(stage, slot, raw)
    Project.objects.update(strength_on=False)
    with pytest.raises(Refused, match=r"older than the project.*by how much.*Reload"):
        send(stage, Slot.objects.get(pk=slot.pk), raw)


def test_verdicts_on_norms_are_stored_with_the_passages_and_count_as_a_judgement(pair: World) -> None:
    honest, brief, calm = (norm(pair.project, name) for name in ("Honest", "Brief", "Calm"))
    Completion.objects.update(text=TEXT)
    slot = held(pair)
    a, b = shown_order(slot)
    verdicts = {
        str(a): {str(honest.pk): {"verdict": "violate", "quote": " quick fox "}, str(brief.pk): {"verdict": "na"}},
        str(b): {str(calm.pk): {"verdict": "comply", "quote": ""}},
    }
    revision = send(pair, slot, {"norms": verdicts})
    stored = {(v.completion_id, v.norm_version_id): (v.verdict, v.quote) for v in revision.norm_verdicts.all()}
    assert stored == {
        (a, honest.pk): ("violate", "quick fox"),
        (a, brief.pk): ("na", ""),
        (b, calm.pk): ("comply", ""),
    }


@pytest.mark.parametrize(
    "quote",
    ["The quick fox", "The *quick* fox", "Title\n\nThe quick", "costs $5.", "one\ttwo", "  fox   costs "],
)
def test_a_passage_is_found_as_written_or_as_shown_however_it_is_spaced(quote: str) -> None:
    assert is_quoted(quote, TEXT)


@pytest.mark.parametrize("quote", ["The slow fox", "the quick", "<em>quick", "two one"])
def test_a_passage_of_another_text_is_not_found(quote: str) -> None:
    assert not is_quoted(quote, TEXT)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"verdict": "perhaps"}, "comply, violate or na"),
        ({"verdict": ["comply"]}, "comply, violate or na"),
        ({"quote": "fox"}, "comply, violate or na"),
        ("comply", "comply, violate or na"),
        ({"verdict": "comply", "span": [0, 3]}, "comply, violate or na"),
        ({"verdict": "violate", "quote": "a bear"}, "not in the answer"),
        ({"verdict": "na", "quote": "fox"}, "kept or broken"),
        ({"verdict": "comply", "quote": "x" * 2_001}, "longer than"),
        ({"verdict": "comply", "quote": "a\x00b"}, "cannot be stored"),
        ({"verdict": "comply", "quote": 5}, "must be text"),
    ],
)
def test_a_wrong_verdict_is_refused_with_a_sentence(pair: World, entry: Any, sentence: str) -> None:
    version = norm(pair.project)
    Completion.objects.update(text=TEXT)
    slot = held(pair)
    with pytest.raises(Refused, match=sentence) as refusal:
        send(pair, slot, {"norms": {str(shown_order(slot)[0]): {str(version.pk): entry}}})
    assert refusal.value.place == "norms"
    assert not Submission.objects.exists()


def test_a_norm_that_the_project_does_not_ask_for_now_is_answered_with_the_advice_to_reload(pair: World) -> None:
    other = another_project()
    outdated = norm(pair.project)
    newer = NormVersion.objects.create(norm=outdated.norm, number=2, text="It is honest, always.")
    inactive = norm(pair.project, "Dropped", active=False)
    slot = held(pair)
    a = str(shown_order(slot)[0])
    for version in (norm(other), outdated, inactive):
        with pytest.raises(Refused, match=rf"older than the project.*norm version {version.pk}.*Reload"):
            send(pair, slot, {"norms": {a: {str(version.pk): {"verdict": "comply"}}}})
    Project.objects.update(norms_on=False)
    with pytest.raises(Refused, match="does not collect norms"):
        send(pair, Slot.objects.get(pk=slot.pk), {"norms": {a: {str(newer.pk): {"verdict": "comply"}}}})
    assert not Submission.objects.exists()


def another_project() -> Project:
    return Project.objects.create(slug="other", name="Other", base_model="x")


def test_the_norms_asked_for_are_the_newest_versions_of_the_active_ones_in_their_order(pair: World) -> None:
    first, second = norm(pair.project, "Z first"), norm(pair.project, "A second", number=3)
    NormVersion.objects.create(norm=second.norm, number=2, text="older")
    norm(pair.project, "Dropped", active=False)
    assert current_norms(pair.project) == [first, second]


def test_a_score_by_a_criterion_that_is_no_longer_asked_for_is_refused(pair: World) -> None:
    Criterion.objects.update(active=False)
    slot = held(pair)
    a = str(shown_order(slot)[0])
    with pytest.raises(Refused, match=r"no criterion.*Reload"):
        send(pair, slot, {"scores": {a: {str(pair.criterion.pk): 3}}})


def test_an_edit_that_only_ends_its_lines_otherwise_is_the_same_as_the_original(pair: World) -> None:
    Completion.objects.update(text="one\r\ntwo")
    slot = held(pair)
    a = str(shown_order(slot)[0])
    with pytest.raises(Refused, match="same as the original"):
        send(pair, slot, {"edits": {a: "one\ntwo"}})


def test_an_answer_with_all_its_parts_comes_back_by_letters(pair: World) -> None:
    version = norm(pair.project)
    slot = held(pair)
    a, b = map(str, shown_order(slot))
    raw = {"ranks": {a: 1, b: 2}, "strength": 3, "norms": {b: {str(version.pk): {"verdict": "violate"}}}}
    send(pair, slot, raw)
    stored = stored_answer(slot, pair.bob)
    assert stored is not None
    assert stored["answer"]["ranks"] == {"A": 1, "B": 2}
    assert stored["answer"]["strength"] == 3
    assert stored["answer"]["norms"] == {"B": {str(version.pk): {"verdict": "violate"}}}


def test_a_lead_sees_strength_and_verdicts_with_their_passages(client: Client, pair: World) -> None:
    version = norm(pair.project)
    Completion.objects.update(text=TEXT)
    slot = held(pair)
    a, b = map(str, shown_order(slot))
    verdict = {str(version.pk): {"verdict": "violate", "quote": "quick fox"}}
    send(pair, slot, {"ranks": {a: 1, b: 2}, "strength": 3, "norms": {a: verdict}})
    client.force_login(pair.alice)
    html = client.get(reverse("judgement", args=["garden", slot.judgement.pk])).content.decode()
    for words in ("much better", "violates", "Honest", '<q class="soft" dir="auto">quick fox</q>'):
        assert words in html
    send(pair, slot, {"both_bad": True}, version=1)
    assert "both bad" in client.get(reverse("judgement", args=["garden", slot.judgement.pk])).content.decode()


def test_a_judgement_is_shown_to_people_with_strength_and_verdicts(pair: World) -> None:
    version = norm(pair.project)
    slot = held(pair)
    a, b = map(str, shown_order(slot))
    raw = {"ranks": {a: 2, b: 1}, "strength": 1, "norms": {a: {str(version.pk): {"verdict": "violate"}}}}
    first, second = of_revision(send(pair, slot, raw), slot, []).parts
    assert (first.strength, second.strength) == ("", "slightly better")
    assert [verdict.get_verdict_display() for verdict in first.verdicts] == ["violates"]
    assert second.verdicts == []
