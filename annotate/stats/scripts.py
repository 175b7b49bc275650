"""In which script a text is written: what tells most languages apart without a model that knows them."""

from __future__ import annotations

import unicodedata
from collections import Counter

READ = 2000
"""Characters of a text that are looked at."""
KANA = ("HIRAGANA", "KATAKANA")
MIXED = 0.1
"""Share of kana among a text's letters from which on its Chinese characters are Japanese."""


def script_of(text: str) -> str:
    """The script of most of a text's letters: as Latin, Cyrillic, Arabic, Devanagari, Hangul, Chinese or Japanese.

    The first word of a letter's name in Unicode is its script. Chinese characters beside kana are Japanese.

    :returns: empty for a text without letters.
    """
    counted: Counter[str] = Counter()
    for letter in text[:READ]:
        if letter.isalpha():
            counted[unicodedata.name(letter, "").split(" ")[0]] += 1
    if not counted:
        return ""
    kana = sum(counted[name] for name in KANA)
    if kana and (kana + counted["CJK"]) * 2 > counted.total() and kana >= MIXED * (kana + counted["CJK"]):
        return "Japanese"
    script = counted.most_common(1)[0][0]
    return "Chinese" if script == "CJK" else script.capitalize()
