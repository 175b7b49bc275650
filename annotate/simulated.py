"""The simulated rater: a stated hidden preference, so that the loop can be verified end to end.

For an answer y with n words (runs of letters or digits, or single Chinese characters)::

    h(y) = 1.0·[y has two or more list lines] + 1.0·[y ends with a sentence end] − 0.5·|ln(n / 40)|

The rater ranks so that P(a ≻ b) = σ((h_a − h_b) / 0.25) for every pair, and scores by quintiles of h.
Everything is deterministic given a seed. Nothing of this is known to the training packages.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from annotate.stats.style import LIST_LINE, count_words

IDEAL_WORDS = 40
NOISE = 0.25
CLEAR_DIFFERENCE = 0.5
"""Pairs whose h differs by at least this are *clear*."""

SENTENCE_END = re.compile(r"[.!?。！？…][\"'”’)\]）」』*_]*\s*$")


def hidden_preference(text: str) -> float:
    """The simulated rater's liking h of an answer; an answer without words counts as one word long."""
    has_list = len(LIST_LINE.findall(text)) >= 2
    ends_well = SENTENCE_END.search(text) is not None
    return has_list + ends_well - 0.5 * abs(math.log(max(count_words(text), 1) / IDEAL_WORDS))


def rank(texts: Sequence[str], *, seed: int) -> list[int]:
    """Rank answers to one prompt: 1 is best, equal texts share a rank.

    Sorting h/0.25 plus standard Gumbel noise draws from a Plackett–Luce model, in which every
    pair is ordered with probability σ((h_a − h_b)/0.25) (Yellott 1977).

    :param seed: with the texts, decides the draw; their order does not.
    """
    utility = {text: hidden_preference(text) / NOISE + _gumbel(text, texts, seed) for text in set(texts)}
    order = sorted(utility, key=lambda text: -utility[text])
    return [order.index(text) + 1 for text in texts]


def _gumbel(text: str, texts: Sequence[str], seed: int) -> float:
    key = "\x1f".join([str(seed), text, *sorted(set(texts))])
    state = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return float(np.random.default_rng(state).gumbel())


def score(texts: Sequence[str], edges: NDArray[np.float64]) -> list[int]:
    """Scores 1 to 5 by the quintile of h that each answer falls in.

    :param edges: float64 [4], the quintiles' inner edges, from :func:`quintile_edges`.
    """
    h = np.array([hidden_preference(text) for text in texts])
    return [int(place) + 1 for place in np.searchsorted(edges, h, side="right")]


def quintile_edges(texts: Sequence[str]) -> NDArray[np.float64]:
    """Inner edges of the quintiles of h over a set of answers, float64 [4]."""
    return np.quantile([hidden_preference(text) for text in texts], [0.2, 0.4, 0.6, 0.8]).astype(np.float64)
