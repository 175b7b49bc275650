"""A figure, and what it must not exceed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """One measured figure beside its bar."""

    name: str
    figure: float
    unit: str
    at_most: float

    @property
    def met(self) -> bool:
        """Whether the figure is within the bar."""
        return self.figure <= self.at_most


def table(bars: Sequence[Bar]) -> str:
    """The figures as a Markdown table."""
    rows = ["| figure | measured | bar | |", "| --- | --- | --- | --- |"]
    for bar in bars:
        verdict = "met" if bar.met else "**missed**"
        rows.append(f"| {bar.name} | {bar.figure:.1f} {bar.unit} | ≤ {bar.at_most:g} {bar.unit} | {verdict} |")
    return "\n".join(rows)
