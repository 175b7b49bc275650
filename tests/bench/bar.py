"""A figure, and what it must not exceed or fall short of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """One measured figure beside its bar."""

    name: str
    figure: float | None
    """None where it cannot be measured here."""
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    missing: str = ""
    """Why it was not measured, where it was not."""

    @property
    def met(self) -> bool:
        """Whether the figure is within the bar; one that cannot be measured is not missed."""
        if self.figure is None:
            return True
        enough = self.at_least is None or self.figure >= self.at_least
        return enough and (self.at_most is None or self.figure <= self.at_most)

    @property
    def wanted(self) -> str:
        """The bar in signs; a figure without one is only reported."""
        if self.at_least is not None and self.at_most is not None:
            return f"{self.at_least:g} to {self.at_most:g}"
        if self.at_least is None and self.at_most is None:
            return "–"
        return f"≥ {self.at_least:g}" if self.at_most is None else f"≤ {self.at_most:g}"


def table(bars: Sequence[Bar]) -> str:
    """The figures as a Markdown table."""
    rows = ["| figure | measured | bar | |", "| --- | --- | --- | --- |"]
    for bar in bars:
        wanted = bar.wanted if bar.wanted == "–" else f"{bar.wanted} {bar.unit}"
        if bar.figure is None:
            rows.append(f"| {bar.name} | {bar.missing} | {wanted} | – |")
            continue
        verdict = "reported" if bar.wanted == "–" else "met" if bar.met else "**missed**"
        rows.append(f"| {bar.name} | {bar.figure:.1f} {bar.unit} | {wanted} | {verdict} |")
    return "\n".join(rows)
