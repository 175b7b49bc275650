"""How an answer looks, whatever it says: what raters may prefer it for without meaning to."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

CHINESE = "\u3400-\u4dbf\u4e00-\u9fff"
WORD = re.compile(f"[{CHINESE}]|[^\\W_{CHINESE}]+")
LIST_LINE = re.compile(r"^[^\S\n]*(?:[-*•‣·]|\d{1,3}[.)、])\s*\S", re.MULTILINE)
HEADER = re.compile(r"^ {0,3}#{1,6}[ \t]+\S", re.MULTILINE)
CODE = re.compile(r"^ {0,3}(```|~~~).*?(?:^ {0,3}\1|\Z)", re.MULTILINE | re.DOTALL)
"""A fenced block: a comment in it is no header, and a difference no list."""


class Style(NamedTuple):
    """Counts of an answer."""

    words: int
    list_lines: int
    headers: int


@lru_cache(maxsize=4096)
def style_of(text: str) -> Style:
    """Words of a text, and its list lines and headers outside of code.

    Covariates of Li, Angelopoulos and Chiang (2024), "Does style matter? Disentangling style and substance in Chatbot
    Arena", who count bold text as well, and lists and headers of Markdown alone.
    """
    prose = CODE.sub("", text)
    return Style(count_words(text), len(LIST_LINE.findall(prose)), len(HEADER.findall(prose)))


def count_words(text: str) -> int:
    """Words of a text: runs of letters or digits, or single Chinese characters."""
    return len(WORD.findall(text))
