"""Every format that can be read: small files written by hand after its description, and what they must become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from annotate.formats.reading.catalogue import BY_NAME, CATALOGUE, parsed, recognise
from annotate.formats.reading.rows import Row
from tests.annotate.brought import file_of

SKY = [{"role": "user", "content": "What color is the sky?"}]
BLUE, GREEN = "It is blue.", "It is green."
ANSWERS = {text: [{"role": "assistant", "content": text}] for text in (BLUE, GREEN)}
TREE = {
    "message_tree_id": "14fbb664",
    "tree_state": "ready_for_export",
    "prompt": {
        "message_id": "14fbb664",
        "text": "What color is the sky?",
        "role": "prompter",
        "lang": "en",
        "replies": [
            {"message_id": "b", "text": GREEN, "role": "assistant", "rank": 1, "replies": []},
            {
                "message_id": "a",
                "text": BLUE,
                "role": "assistant",
                "rank": 0,
                "replies": [
                    {
                        "message_id": "c",
                        "text": "Why?",
                        "role": "prompter",
                        "replies": [
                            {"message_id": "d", "text": "Air scatters it.", "role": "assistant", "rank": 0},
                            {"message_id": "e", "text": "Nobody knows.", "role": "assistant", "rank": 1},
                            {"message_id": "f", "text": "Paint.", "role": "assistant", "rank": 2},
                        ],
                    }
                ],
            },
        ],
    },
}
TASK = {
    "id": 1,
    "project": 83,
    "data": {"prompt": "What color is the sky?", "text1": GREEN, "text2": BLUE},
    "annotations": [
        {
            "id": 1001,
            "was_cancelled": False,
            "result": [
                {"from_name": "pw", "to_name": "text1,text2", "type": "pairwise", "value": {"selected": "right"}}
            ],
        },
        {"id": 1002, "was_cancelled": True, "result": []},
    ],
}
RECORD = {
    "id": "4a",
    "fields": {"instruction": "What color is the sky?", "response_1": GREEN, "response_2": BLUE},
    "metadata": {},
    "responses": {
        "ranking": [
            {"value": ["response-2", "response-1"], "user_id": "u1", "status": "submitted"},
            {"value": ["response-1", "response-2"], "user_id": "u2", "status": "draft"},
        ]
    },
}
ONE: list[Any] = [(SKY, BLUE, GREEN, None)]
CASES: list[tuple[str, Any, Any]] = [
    ("trl-preference", {"prompt": SKY, "chosen": ANSWERS[BLUE], "rejected": ANSWERS[GREEN]}, ONE),
    ("trl-preference", {"prompt": "What color is the sky?", "chosen": BLUE, "rejected": GREEN}, ONE),
    (
        "trl-preference",
        {"prompt": "What color is the sky?", "chosen": SKY + ANSWERS[BLUE], "rejected": SKY + ANSWERS[GREEN]},
        ONE,
    ),
    ("trl-implicit", {"chosen": SKY + ANSWERS[BLUE], "rejected": SKY + ANSWERS[GREEN]}, ONE),
    (
        "trl-implicit",
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
        [([{"role": "user", "content": "The sky is"}], " blue.", " green.", None)],
    ),
    (
        "hh",
        {
            "chosen": f"\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: What color is the sky?\n\nAssistant: {BLUE}",
            "rejected": f"\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: What color is the sky?\n\nAssistant: {GREEN}",
        },
        [
            (
                [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}, *SKY],
                BLUE,
                GREEN,
                None,
            )
        ],
    ),
    (
        "ultrafeedback",
        {
            "source": "evol_instruct",
            "instruction": "What color is the sky?",
            "models": ["a", "b", "c"],
            "completions": [
                {"model": "a", "response": GREEN, "overall_score": 2.0},
                {"model": "b", "response": BLUE, "overall_score": 8.5},
                {"model": "c", "response": "Grey.", "overall_score": 2.0},
            ],
        },
        [(SKY, BLUE, GREEN, 6.5), (SKY, BLUE, "Grey.", 6.5)],
    ),
    (
        "helpsteer",
        {"prompt": SKY[0]["content"], "response_1": GREEN, "response_2": BLUE, "preference_strength": 3},
        [(SKY, BLUE, GREEN, 3.0)],
    ),
    (
        "helpsteer",
        {"domain": "general", "context": SKY, "response1": BLUE, "response2": GREEN, "overall_preference": -1},
        [(SKY, BLUE, GREEN, 1.0)],
    ),
    (
        "arena",
        {
            "question_id": "58210e39",
            "model_a": "alpaca-13b",
            "model_b": "koala-13b",
            "winner": "model_b",
            "conversation_a": SKY + ANSWERS[GREEN],
            "conversation_b": SKY + ANSWERS[BLUE],
        },
        ONE,
    ),
    (
        "arena-columns",
        {
            **{"id": 30192, "model_a": "gpt-4", "model_b": "vicuna", "prompt": '["What color is the sky?"]'},
            **{"response_a": f'["{BLUE}"]', "response_b": f'["{GREEN}"]'},
            **{"winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0},
        },
        ONE,
    ),
    (
        "oasst",
        TREE,
        [
            (SKY, BLUE, GREEN, None),
            *(
                ([*SKY, *ANSWERS[BLUE], {"role": "user", "content": "Why?"}], better, worse, None)
                for better, worse in [
                    ("Air scatters it.", "Nobody knows."),
                    ("Air scatters it.", "Paint."),
                    ("Nobody knows.", "Paint."),
                ]
            ),
        ],
    ),
    (
        "ranked",
        {"prompt": SKY, "responses": [GREEN, BLUE, "Grey.", "?"], "ranks": [2, 1, 2, None], "split": "test"},
        [(SKY, BLUE, GREEN, None), (SKY, BLUE, "Grey.", None)],
    ),
    ("label-studio", TASK, ONE),
    ("argilla", RECORD, ONE),
    (
        "argilla",
        {
            "prompt": "What color is the sky?",
            "reply_1": GREEN,
            "reply_2": BLUE,
            "reply-ranking": [
                {"user_id": "u", "status": "submitted", "value": {"rank": [2, 1], "value": ["reply-1", "reply-2"]}}
            ],
        },
        ONE,
    ),
]


def pairs(rows: list[Row]) -> list[tuple[Any, str, str, float | None]]:
    return [(r.messages, r.answers[b], r.answers[w], strength) for r in rows for b, w, strength in r.pairs]


def one(folder: Path, name: str, value: Any) -> list[Row]:
    (record,) = parsed(file_of(folder, value), BY_NAME[name])
    assert not record.bad, record.bad
    return record.rows


@pytest.mark.parametrize(("name", "value", "expected"), CASES)
def test_a_published_format_is_recognised_and_says_what_its_card_says(
    tmp_path: Path, name: str, value: dict[str, Any], expected: list[Any]
) -> None:
    if name == "arena-columns":
        value = {**value, **{n: json.loads(value[n]) for n in ("prompt", "response_a", "response_b")}}
    found = recognise(file_of(tmp_path, value, value))
    assert found.format is not None
    assert (found.format.name, found.sure) == (name, 1.0)
    assert pairs(one(tmp_path, name, value)) == expected


def test_every_format_of_comparisons_has_a_case() -> None:
    single = {"trl-unpaired", "prompt-completion", "chat", "completions", "prompts"}
    assert {each.name for each in CATALOGUE} == {name for name, *_rest in CASES} | single


@pytest.mark.parametrize(
    ("value", "name", "use", "answers", "label"),
    [
        ({"prompt": SKY, "completion": ANSWERS[BLUE], "label": True}, "trl-unpaired", "label", (BLUE,), 1.0),
        (
            {"prompt": "What color is the sky?", "completion": GREEN, "label": "false"},
            "trl-unpaired",
            "label",
            (GREEN,),
            0.0,
        ),
        ({"prompt": "What color is the sky?", "completion": BLUE}, "prompt-completion", "demonstration", (BLUE,), None),
        ({"messages": SKY + ANSWERS[BLUE]}, "chat", "demonstration", (BLUE,), None),
        (
            {"conversations": [{"from": "human", "value": SKY[0]["content"]}, {"from": "gpt", "value": BLUE}]},
            "chat",
            "demonstration",
            (BLUE,),
            None,
        ),
        ({"prompt": "What color is the sky?"}, "prompts", "prompt", (), None),
        ({"messages": SKY, "reference": BLUE, "tags": ["sky"]}, "prompts", "prompt", (), None),
    ],
)
def test_single_answers_and_prompts_are_recognised(
    tmp_path: Path, value: dict[str, Any], name: str, use: str, answers: tuple[str, ...], label: float | None
) -> None:
    found = recognise(file_of(tmp_path, value))
    assert found.format is not None
    assert found.format.name == name
    (row,) = one(tmp_path, name, value)
    assert (row.messages, row.use, tuple(row.answers), row.label) == (SKY, use, answers, label)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("helpsteer", {"prompt": "x", "response_1": "a", "response_2": "b", "preference_strength": 0}, "a tie"),
        (
            "arena",
            {"conversation_a": SKY + ANSWERS[BLUE], "conversation_b": SKY + ANSWERS[GREEN], "winner": "tie (bothbad)"},
            "a tie",
        ),
        ("ranked", {"prompt": "x", "responses": ["a", "b"], "ranks": [1, None]}, "fewer than two"),
        (
            "hh",
            {
                "chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
                "rejected": "\n\nHuman: a\n\nAssistant: x\n\nHuman: c\n\nAssistant: y",
            },
            "differ before",
        ),
        (
            "hh",
            {"chosen": "\n\nHuman: a\n\nAssistant: ", "rejected": "\n\nHuman: a\n\nAssistant: y"},
            "chosen is empty",
        ),
        ("trl-preference", {"prompt": " ", "chosen": "a", "rejected": "b"}, "the prompt is empty"),
    ],
)
def test_what_says_nothing_of_two_answers_is_left_out_with_the_reason(
    tmp_path: Path, name: str, value: dict[str, Any], reason: str
) -> None:
    (record,) = parsed(file_of(tmp_path, value), BY_NAME[name])
    assert (record.rows, record.bad) == ([], "")
    assert reason in record.left_out


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"prompt": "x", "chosen": "a"}, "lacks rejected"),
        ({"prompt": "x", "chosen": "a", "rejected": "a"}, "the same"),
        ({"prompt": "x", "chosen": 3, "rejected": "a"}, "chosen is not text"),
        ({"prompt": "x", "chosen": "a\x00", "rejected": "b"}, "cannot be stored"),
        ({"prompt": "x", "chosen": "a\ud800", "rejected": "b"}, "cannot be stored"),
        ({"prompt": "x", "chosen": "a", "rejected": "b", "split": "holdout"}, "train, dev or test"),
        ({"prompt": "x", "chosen": "a", "rejected": "b", "weight": 0}, "above 0"),
        ({"prompt": "x", "chosen": "a", "rejected": "b", "strength": "much"}, "not a number"),
        ({"prompt": "x", "chosen": "a" * 1_000_001, "rejected": "b"}, "longer than 1000000"),
        ({"prompt": [{"role": "robot", "content": "x"}], "chosen": "a", "rejected": "b"}, "needs a role"),
        ({"prompt": "x", "chosen": SKY, "rejected": "b"}, "not a message of the assistant"),
        ([1, 2], "not an object"),
    ],
)
def test_a_bad_record_is_named_by_its_line(tmp_path: Path, value: Any, reason: str) -> None:
    good = {"prompt": "x", "chosen": "a", "rejected": "b"}
    found = list(parsed(file_of(tmp_path, good, value, good), BY_NAME["trl-preference"]))
    assert [bool(record.bad) for record in found] == [False, True, False]
    assert found[1].line == 2
    assert reason in found[1].bad


def test_columns_of_other_names_are_mapped_and_found_inside_of_objects(tmp_path: Path) -> None:
    value = {"question": "What color is the sky?", "good": BLUE, "meta": {"other": GREEN}, "source": {"not": "text"}}
    mapping = {"prompt": "question", "chosen": "good", "rejected": "meta.other", "source": ""}
    found = recognise(file_of(tmp_path, value), mapping)
    assert found.format is BY_NAME["trl-preference"]
    (record,) = parsed(file_of(tmp_path, value), found.format, mapping)
    assert pairs(record.rows) == ONE


def test_a_file_of_unknown_columns_is_not_guessed_at(tmp_path: Path) -> None:
    found = recognise(file_of(tmp_path, {"colour": "blue", "of": "sky"}))
    assert found.format is None
    assert "colour, of" in found.reason
    assert found.columns == ["colour", "of"]


def test_a_prompt_in_the_form_of_a_transcript_is_a_chat(tmp_path: Path) -> None:
    prompt = "\n\nSystem: Be brief.\n\nHuman: What color is the sky?\n\nAssistant:"
    (row,) = one(tmp_path, "trl-preference", {"prompt": prompt, "chosen": BLUE, "rejected": GREEN})
    assert row.messages == [{"role": "system", "content": "Be brief."}, *SKY]
