"""Comparing two texts by lines and words."""

from __future__ import annotations

import time

from annotate.worddiff import changes, compare


def marked(lines: list) -> list[str | None]:
    """Lines with [-what was taken out-] and [+what came in+], worked out by hand in the tests."""
    signs = {"same": "{}", "old": "[-{}-]", "new": "[+{}+]"}
    return [None if line is None else "".join(signs[mark].format(text) for mark, text in line.pieces) for line in lines]


def test_a_changed_word_is_marked_within_its_line() -> None:
    old, new = "Read the prompt.\nScore each answer.", "Read the prompt.\nScore every answer."
    assert marked(compare(old, new)) == ["Read the prompt.", "Score [-each-][+every+] answer."]


def test_a_changed_phrase_is_marked_in_one_piece() -> None:
    old, new = "Read all. A quick look is fine.", "Read all. Look closely at facts."
    assert marked(compare(old, new)) == ["Read all. [-A quick look is fine-][+Look closely at facts+]."]


def test_lines_that_have_little_in_common_are_struck_out_and_put_in_whole() -> None:
    assert marked(compare("Be kind.", "Longer answers win nothing")) == [
        "[-Be kind.-]",
        "[+Longer answers win nothing+]",
    ]


def test_chinese_is_compared_by_characters() -> None:
    assert marked(compare("请先读提示。", "请先读完提示。")) == ["请先读[+完+]提示。"]


def test_only_what_changed_is_shown_with_a_line_around_it() -> None:
    old = "\n\n".join("abcdefgh")
    new = old.replace("b", "b\n\nnew").replace("\n\ng", "")
    assert marked(changes(old, new)) == ["b", "[+new+]", "c", None, "f", "[-g-]", "h"]


def test_equal_texts_have_no_changes() -> None:
    assert changes("a\nb", "a\n\nb\n") == []


def test_a_long_line_takes_no_long_time() -> None:
    begin = time.monotonic()
    compare("a b " * 25_000, "b a " * 25_000)
    assert time.monotonic() - begin < 2
