"""Outcomes from 0 to 1, gathered by what they are about, as shares with an interval over prompts."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from annotate.stats.estimate import Estimate, Undefined
from annotate.stats.intervals import clustered_share

Key = str | int
Plain = dict[str, Any]
"""An estimate as JSON: ``value``, ``low``, ``high`` and ``n``, or ``reason`` and ``n``."""


class Outcomes:
    """Outcomes by dimension, such as *rater*, and place in it, such as a rater's number."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, Key], tuple[list[float], list[str]]] = defaultdict(lambda: ([], []))

    def add(self, by: str, key: Key, outcome: float, prompt: str) -> None:
        """Count an outcome."""
        outcomes, prompts = self._found[by, key]
        outcomes.append(outcome)
        prompts.append(prompt)

    def share(self, by: str, key: Key) -> Plain:
        """The share of one place, undefined where nothing was counted."""
        return plain(clustered_share(*self._found.get((by, key), ([], []))))

    def of(self, by: str) -> list[Plain]:
        """All places of a dimension, those with most outcomes first."""
        found = [{"key": key, **self.share(by, key)} for dimension, key in self._found if dimension == by]
        return sorted(found, key=lambda entry: -entry["n"])


def plain(figure: Estimate | Undefined) -> Plain:
    """A figure as JSON."""
    if isinstance(figure, Undefined):
        return {"reason": figure.reason.name, "n": figure.n}
    return {"value": figure.value, "low": figure.low, "high": figure.high, "n": figure.n}
