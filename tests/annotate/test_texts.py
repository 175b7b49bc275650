"""Metrics against references: by hand, Lin's examples of ROUGE-L, and sacrebleu's own corpus BLEU."""

from __future__ import annotations

import pytest
from sacrebleu.metrics.bleu import BLEU

from annotate.stats.estimate import Reason, Undefined
from annotate.stats.texts import rouge_l, text_metrics, token_f1, words

ANSWERS = [
    "The quick brown fox jumps over the lazy dog today.",
    "Water the tomatoes early in the morning, not at noon.",
    "Prune roses in late winter before the buds open.",
]
REFERENCES = [
    "A quick brown fox jumps over the lazy dog.",
    "Water tomatoes early in the morning and never at noon.",
    "Prune your roses in late winter, before new buds open.",
]


@pytest.mark.parametrize(("answer", "expected"), [("police kill the gunman", 0.75), ("the gunman kill police", 0.5)])
def test_rouge_l_is_as_in_lin_s_paper(answer, expected):
    # Lin (2004), section 3.1: of "police killed the gunman", three and two of four words in order.
    assert rouge_l(words(answer), words("police killed the gunman")) == expected


def test_words_are_letters_digits_and_single_chinese_characters():
    assert words("3 Äpfel, 你好!") == ["3", "äpfel", "你", "好"]


def test_token_f1_counts_words_as_often_as_they_occur():
    # Common: a, b; 2·2 / (3 + 4).
    assert token_f1(["a", "a", "b"], ["a", "b", "b", "c"]) == pytest.approx(4 / 7)
    assert token_f1([], []) == 1
    assert token_f1(["a"], []) == 0


def test_exact_match_does_not_mind_case_and_punctuation():
    found = text_metrics(["Yes!", "no", "nothing"], ["yes", "yes", None], rounds=10)
    assert (found["exact match"].value, found["exact match"].n) == (0.5, 2)
    assert found["token F1"].value == 0.5


def test_bleu_is_sacrebleu_s():
    found = text_metrics(ANSWERS, REFERENCES)["BLEU"]
    assert found.value == pytest.approx(BLEU().corpus_score(ANSWERS, [REFERENCES]).score, abs=1e-9)
    assert found.low < found.value < found.high


@pytest.mark.parametrize(
    ("answers", "references", "score"),
    [
        (["the cat sat on a mat", "a dog ran"], ["the cat is on the mat", "the dog ran off"], 17.86),
        (["the cat sat on a mat"], ["the cat is on the mat"], 19.30),
        (["it rained", "all day long there"], ["it poured", "the whole day long"], 29.73),
        (["yes it is", "no"], ["yes it was", "never"], 0.0),  # too short for a run of four, which the formula needs
    ],
)
def test_bleu_without_a_matching_run_of_four_words_is_sacrebleu_s_too(answers, references, score):
    found = text_metrics(answers, references, rounds=50)["BLEU"]
    assert found.value == pytest.approx(BLEU().corpus_score(answers, [references]).score, abs=1e-9)
    assert found.value == pytest.approx(score, abs=0.01)
    assert found.interval is None or found.low < found.value < found.high


def test_bleu_of_chinese_counts_characters():
    answers, references = ["今天天气很好，我们去公园散步。"], ["今天天气很好，我们去公园走走。"]
    expected = BLEU(tokenize="zh").corpus_score(answers, [references]).score
    assert text_metrics(answers, references, rounds=10)["BLEU"].value == pytest.approx(expected, abs=1e-9)
    assert expected > 50


def test_answers_without_anything_in_common_have_nothing():
    found = text_metrics(["", "xyz"], ["one two three four five", "six seven eight nine ten"], rounds=10)
    assert [found[name].value for name in ("exact match", "token F1", "ROUGE-L", "BLEU")] == [0, 0, 0, 0]


def test_intervals_keep_to_what_the_metrics_can_be():
    long = "one two three four five six"
    found = text_metrics([long, "xyz", "one"], [long, "seven", "eight nine ten"], rounds=200)
    for name, highest in {"token F1": 1, "ROUGE-L": 1, "chrF": 100, "BLEU": 100}.items():
        assert 0 <= found[name].low < found[name].value < found[name].high <= highest, name


def test_without_references_nothing_is_said():
    found = text_metrics(["one"], [None])
    assert set(found.values()) == {Undefined(Reason.NO_REFERENCES)}
    assert set(found) == {"exact match", "token F1", "ROUGE-L", "chrF", "BLEU"}
