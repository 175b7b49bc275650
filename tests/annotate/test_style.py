"""What is counted of how an answer looks."""

from __future__ import annotations

import pytest

from annotate.stats.style import Style, count_words, style_of


@pytest.mark.parametrize(
    ("text", "words"),
    [("", 0), ("one two three", 3), ("it's 3.5 km", 5), ("你好，世界", 4), ("用 Python 写", 3), ("snake_case", 2)],
)
def test_words_are_runs_of_letters_or_digits_or_single_chinese_characters(text: str, words: int) -> None:
    assert count_words(text) == words


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("", (0, 0, 0)),
        ("# Roses\n\nPrune:\n\n- in winter\n  * old wood\n2. the rest\n## After", (10, 3, 2)),
        ("#rose is no header, nor is 1 - 2", (8, 0, 0)),
        ("Run\n```sh\n# fetch\n- a\n```\n### Then\n1、看", (7, 1, 1)),
        ("\n\n \n- a\n\n\n\n  - b", (2, 2, 0)),
        ("~~~\n# never closed\n- a", (3, 0, 0)),
        ("####### seven are none\n    # code by indentation", (6, 0, 0)),
    ],
)
def test_list_lines_and_headers_are_counted_outside_of_code(text: str, style: tuple[int, int, int]) -> None:
    assert style_of(text) == Style(*style)
