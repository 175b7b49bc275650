"""What tells that a policy exploits its reward instead of getting better: a measure that needs no model."""

from __future__ import annotations

import re
from collections.abc import Sequence

CHINESE = "\u3400-\u4dbf\u4e00-\u9fff"
WORD = re.compile(f"[{CHINESE}]|[^\\W_{CHINESE}]+")
GRAM = 4


def repetition(texts: Sequence[str]) -> float:
    """Share of an answer's sequences of four words that occurred before in it, mean over the answers.

    A word is a run of letters or digits, or one Chinese character. An answer of fewer than four words repeats nothing.

    :returns: from 0 to 1; 0 for no answers.

    Source: Welleck et al. 2020, "Neural text generation with unlikelihood training", section 6 (seq-rep-4).
    """
    shares = [_repetition(text) for text in texts]
    return sum(shares) / len(shares) if shares else 0.0


def _repetition(text: str) -> float:
    words = [word.lower() for word in WORD.findall(text)]
    grams = [tuple(words[start : start + GRAM]) for start in range(len(words) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
