"""What a drill reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """One figure of a drill beside what it must be."""

    name: str
    figure: str
    wanted: str
    met: bool


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as a Markdown table."""
    rows = ["| drill | figure | wanted | |", "| --- | --- | --- | --- |"]
    rows += [f"| {o.name} | {o.figure} | {o.wanted} | {'met' if o.met else '**missed**'} |" for o in outcomes]
    return "\n".join(rows)
