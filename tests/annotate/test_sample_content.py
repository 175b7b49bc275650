"""The sample project is data that people edit by hand; these tests hold the promises the loop's figures rest on."""

import json
import re
import unicodedata
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

SAMPLE = Path(__file__).resolve().parents[2] / "annotate" / "sample"
CATEGORIES = {
    "writing",
    "question-answering",
    "translation",
    "summarising",
    "code",
    "customer-service",
    "safety",
}
HAN = "\u4e00-\u9fff"


@pytest.fixture(scope="module")
def prompts() -> list[dict]:
    lines = (SAMPLE / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def project() -> dict:
    return json.loads((SAMPLE / "project.json").read_text(encoding="utf-8"))


def words(text: str) -> list[str]:
    """Lower-case words of a text: runs of letters or digits, or single Chinese characters."""
    return re.findall(rf"[{HAN}]|[^\W_{HAN}]+", unicodedata.normalize("NFKC", text).casefold())


def chat_words(prompt: dict) -> list[str]:
    return [word for message in prompt["messages"] for word in words(message["content"])]


def test_every_row_has_exactly_the_fields_of_the_import(prompts):
    for prompt in prompts:
        assert prompt.keys() == {"messages", "reference", "tags", "split"}
        assert all(message.keys() == {"role", "content"} for message in prompt["messages"])
        assert all(message["content"] == message["content"].strip() != "" for message in prompt["messages"])


def test_splits_hold_48_16_and_32_prompts_a_quarter_of_each_chinese(prompts):
    counts = Counter((prompt["split"], prompt["tags"][1]) for prompt in prompts)
    assert counts == {
        ("train", "en"): 36,
        ("train", "zh"): 12,
        ("dev", "en"): 12,
        ("dev", "zh"): 4,
        ("test", "en"): 24,
        ("test", "zh"): 8,
    }


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_categories_are_spread_evenly_over_each_split(prompts, split):
    counts = Counter(prompt["tags"][0] for prompt in prompts if prompt["split"] == split)
    assert counts.keys() == CATEGORIES
    assert max(counts.values()) - min(counts.values()) <= 1


def test_every_category_has_at_least_three_chinese_prompts(prompts):
    counts = Counter(prompt["tags"][0] for prompt in prompts if prompt["tags"][1] == "zh")
    assert counts.keys() == CATEGORIES
    assert min(counts.values()) >= 3


def test_the_language_tag_matches_the_language_the_user_opens_with(prompts):
    for prompt in prompts:
        opening = next(message["content"] for message in prompt["messages"] if message["role"] == "user")
        first_letter = next(character for character in opening if character.isalpha())
        assert (prompt["tags"][1] == "zh") == bool(re.match(f"[{HAN}]", first_letter))


def test_24_prompts_have_a_reference_answer_most_of_them_held_out(prompts):
    with_reference = Counter(prompt["split"] for prompt in prompts if prompt["reference"] is not None)
    assert with_reference == {"train": 6, "dev": 6, "test": 12}
    assert all(prompt["reference"] is None or prompt["reference"].strip() for prompt in prompts)


def test_chats_alternate_from_user_to_user_after_an_optional_system_message(prompts):
    for prompt in prompts:
        roles = [message["role"] for message in prompt["messages"]]
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns in (["user"], ["user", "assistant", "user"])


def test_some_chats_have_several_turns_and_some_a_system_message(prompts):
    assert sum(len(prompt["messages"]) == 3 for prompt in prompts) == 5
    assert sum(prompt["messages"][0]["role"] == "system" for prompt in prompts) == 2


def test_prompts_are_short_unless_they_carry_a_passage_to_summarise(prompts):
    for prompt in prompts:
        opening = next(message["content"] for message in prompt["messages"] if message["role"] == "user")
        if prompt["tags"][0] == "summarising":
            _, passage = opening.split("\n\n")
            assert 60 <= len(words(passage)) <= 110, passage
        else:
            assert len(words(opening)) <= 45, opening


def test_no_prompt_appears_twice_in_normalised_text(prompts):
    repeated = [text for text, count in Counter(" ".join(chat_words(p)) for p in prompts).items() if count > 1]
    assert repeated == []


def test_prompts_of_different_splits_share_less_than_half_of_their_words(prompts):
    for one, other in combinations(prompts, 2):
        if one["split"] != other["split"]:
            a, b = set(chat_words(one)), set(chat_words(other))
            assert len(a & b) / len(a | b) < 0.5, (one["messages"], other["messages"])


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_the_project_is_worded_in_both_languages_with_anchors_for_every_score(project, language):
    def worded(part: dict) -> dict:
        return part if language == "en" else part["translations"][language]

    for field in ("name", "description", "instructions"):
        assert bool(re.search(f"[{HAN}]", worded(project)[field])) == (language != "en")
    for criterion in map(worded, project["criteria"]):
        anchors = criterion["anchors"]
        assert list(anchors) == ["1", "2", "3", "4", "5"]
        assert len(set(anchors.values())) == 5
        for text in (criterion["name"], criterion["description"], *anchors.values()):
            assert bool(re.search(f"[{HAN}]", text)) == (language != "en")


def test_anchors_are_at_most_twelve_words(project):
    anchors = [anchor for criterion in project["criteria"] for anchor in criterion["anchors"].values()]
    assert max(len(anchor.split()) for anchor in anchors) <= 12


def test_instructions_name_every_criterion_in_both_languages(project):
    assert [criterion["name"] for criterion in project["criteria"]] == ["Helpfulness", "Correctness", "Language"]
    for criterion in project["criteria"]:
        assert criterion["name"] in project["instructions"]
        chinese = project["translations"]["zh-hans"]["instructions"]
        assert criterion["translations"]["zh-hans"]["name"] in chinese


def test_the_project_asks_for_what_its_instructions_explain(project):
    assert project["slug"] == "first-light"
    assert project["protocol"] == {"score": True, "rank": True, "edit": True, "norms": False, "rationale": True}
    assert project["completions_per_item"] == 4
    assert project["overlap"] == 1
    assert project["sampling"] == {"temperature": 0.7, "max_tokens": 64}
