"""What a statistic comes to: a number with its interval and its n, or the reason why there is none."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from math import inf
from typing import Any

Bounds = tuple[float, float]
"""The least and the greatest that a figure can be."""
ANYTHING: Bounds = (-inf, inf)
NOT_NEGATIVE: Bounds = (0.0, inf)
SHARE: Bounds = (0.0, 1.0)
CHANGE_OF_SHARE: Bounds = (-1.0, 1.0)
ROUNDING = 1e-9
"""Of a figure of 1 or less, and in proportion of greater ones: what varies by less does not vary."""


class Reason(StrEnum):
    """Why a statistic is undefined: a sentence that pages translate."""

    NO_DATA = "There is nothing to compute it from."
    NO_OVERLAP = "No two raters judged the same."
    NO_THREE = "No three raters judged the same: where two differ, nothing says who is right."
    BY_CHANCE = "The raters do not agree more than by chance, so that nothing says who is right."
    ONE_RATER = "There is only one rater."
    ONE_MODEL = "There is only one model."
    TOO_FEW = "There are too few judgements to tell."
    NO_VARIATION = "All answers are the same, so that chance alone explains the agreement."
    NOT_CONNECTED = "Some models are not compared with the others, or never lose to them or never beat them."
    ONE_SIDED = "The comparisons go one way: some strengths would be without bound."
    CONFOUNDED = "Style and models always go together, so that what each does cannot be told apart."
    ALL_TIES = "All comparisons are ties."
    NO_REFERENCES = "There are no reference answers."


@dataclass(frozen=True)
class Estimate:
    """A number and its interval, over n observations; too few clusters, or clusters that are all alike, have none."""

    value: float
    low: float | None
    high: float | None
    n: int

    @property
    def interval(self) -> list[float] | None:
        """Lower and upper end, or None."""
        return None if self.low is None or self.high is None else [self.low, self.high]


def around(value: float, reach: float, n: int, *, bounds: Bounds = ANYTHING) -> Estimate:
    """A figure with the interval that reaches so far to either side of it, as far as the figure itself can.

    :param reach: 0 where nothing varies: data that are all alike do not say how much others would differ, so that there
        is no interval.
    """
    if reach <= ROUNDING * max(1.0, abs(value)):
        return Estimate(value, None, None, n)
    lowest, highest = bounds
    return Estimate(value, max(value - reach, min(lowest, value)), min(value + reach, max(highest, value)), n)


@dataclass(frozen=True)
class Undefined:
    """No number, and why."""

    reason: Reason
    n: int = 0
    groups: tuple[tuple[int, ...], ...] = ()
    """Where models are not connected: their groups, by number; within one, every strength is comparable."""

    value: None = None
    low: None = None
    high: None = None
    interval: None = None


def to_plain(found: Estimate | Undefined) -> dict[str, Any]:
    """As values that JSON has."""
    if isinstance(found, Estimate):
        return asdict(found)
    return {"reason": found.reason.value, "n": found.n, "groups": found.groups}


def from_plain(plain: dict[str, Any]) -> Estimate | Undefined:
    """What :func:`to_plain` was given."""
    if "reason" in plain:
        groups = tuple(tuple(group) for group in plain["groups"])
        return Undefined(Reason(plain["reason"]), plain["n"], groups)
    return Estimate(**plain)
