"""What a snapshot is made of: a recipe, as a lead edits it and as it is kept with the snapshot."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal

from django.utils.translation import gettext as _

from annotate.models import Split, User
from annotate.services import Refused
from rewardmodel.contract import JobError, parse_job

Aggregation = Literal["every rater", "majority", "reliability"]
PARTS = ("order", "edits", "norms", "both bad")
LAST_DAY = date(9000, 12, 31)
FORM = 3
"""Version of what a snapshot's hash is taken over: snapshots without one are of the first, which knew no norms, and the
second had no scores."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Sources, filters, aggregation and mix."""

    kinds: list[str] = field(default_factory=lambda: [str(User.Kind.HUMAN)])
    """Judgements by raters of which kinds: human, simulated, ai."""
    parts: list[str] = field(default_factory=lambda: list(PARTS))
    """What of a judgement becomes rows: its order, its edits, its verdicts on norms, its answer that all are bad."""
    sources: list[str] | None = None
    """Imported data by source; None for all, an empty list for none."""
    demonstrations: bool = True
    """Whether imported answers to imitate go in."""
    splits: list[str] = field(default_factory=lambda: [str(split) for split in Split])
    """Prompts of which splits."""
    tags: list[str] = field(default_factory=list)
    """Prompts with any of these tags, a language for example; none given means all."""
    raters: list[str] = field(default_factory=list)
    """Judgements by these raters; none given means all."""
    min_raters: int = 1
    """Least number of raters whose judgements of an item count."""
    guideline_from: int = 0
    """Judgements under this version of the instructions or a later one; 0 for all."""
    since: str = ""
    """First day, as 2026-01-31, of judgements and imports; empty for all."""
    until: str = ""
    """Last day."""
    min_strength: float | None = None
    """Least strength of a preference; what states none is then left out. None for all."""
    leave_out_flagged: bool = False
    """Whether answers that the rater flagged are left out of the rater's order."""
    shortest: int = 0
    """Characters that an answer has at least."""
    longest: int | None = None
    """Characters that an answer has at most; None for any."""
    aggregation: Aggregation = "every rater"
    """How several raters' judgements of one item become rows; see :mod:`annotate.services.aggregation`."""
    norm_weight: float = 0.5
    """Weight of a row that verdicts on a norm make; an order and an edit weigh 1."""
    most: dict[str, Any] = field(default_factory=dict)
    """Most entries by source, drawn at random: of judgements under human, simulated or ai, of imported data under their
    source's name."""
    shares: dict[str, Any] = field(default_factory=dict)
    """Share of each source in the snapshot's entries, instead of caps; all sources that are wanted must be named."""
    seed: int = 0
    """Seed of the draw."""
    licence: str = ""
    """Licence that the data set's card states, as cc-by-4.0; empty for unknown."""

    def __post_init__(self) -> None:
        _one_of("kinds", self.kinds, User.Kind.values)
        _one_of("parts", self.parts, PARTS)
        _one_of("splits", self.splits, Split.values)
        _require(bool(self.splits), "splits", "must name at least one of train, dev and test")
        for name in ("min_raters", "guideline_from", "shortest", "norm_weight", "seed"):
            value = getattr(self, name)
            _require(0 <= value <= 2**31 - 1, name, "must lie between 0 and 2147483647")
        _require(self.longest is None or self.longest >= self.shortest, "longest", "must not be below shortest")
        _require(self.min_strength is None or math.isfinite(self.min_strength), "min_strength", "must be a number")
        for name in ("since", "until"):
            _require(_is_day(getattr(self, name)), name, "must be a day, as 2026-01-31")
        for cap in self.most.values():
            _require(type(cap) is int and 0 <= cap <= 2**31 - 1, "most", "must hold whole numbers of at least 0")
        for share in self.shares.values():
            fits = isinstance(share, (int, float)) and not isinstance(share, bool) and 0 < share <= 1
            _require(fits, "shares", "must hold numbers above 0 and at most 1")
        _require(not self.shares or abs(sum(self.shares.values()) - 1) < 1e-6, "shares", "must add up to 1")
        _require(not (self.shares and self.most), "shares", "cannot be given together with most")
        texts = [self.licence, *self.tags, *self.raters, *(self.sources or []), *self.most, *self.shares]
        _require(all(map(_storable, texts)), "recipe", "must hold no NUL and no lone surrogate")


def parse_recipe(values: Any) -> Recipe:
    """A recipe out of plain values, names and types checked.

    :raises Refused: naming the first field that will not do.
    """
    if not isinstance(values, dict):
        raise Refused(_("A recipe is a JSON object."))
    try:
        return parse_job(Recipe, values)
    except JobError as problem:
        raise Refused(_("The recipe will not do: %(problem)s") % {"problem": problem}) from problem


def read_recipe(path: Path) -> Recipe:
    """A recipe out of a JSON file.

    :raises Refused: when it cannot be read.
    """
    try:
        return parse_recipe(json.loads(path.read_bytes()))
    except (OSError, ValueError) as problem:
        raise Refused(_("%(path)s cannot be read: %(problem)s.") % {"path": path, "problem": problem}) from problem


def stored_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as a snapshot keeps it."""
    return {"form": FORM, **dataclasses.asdict(recipe)}


def recipe_of(stored: Mapping[str, Any]) -> tuple[Recipe, int]:
    """The recipe that a snapshot keeps, and the form of its rows.

    :returns: for snapshots of the first form, whose rows were orders and edits alone, what made the same rows.
    """
    if "form" not in stored:
        return Recipe(kinds=list(stored.get("kinds", ["human"])), parts=["order", "edits"]), 1
    return parse_job(Recipe, {name: value for name, value in stored.items() if name != "form"}), stored["form"]


def _require(condition: bool, name: str, problem: str) -> None:
    if not condition:
        raise JobError(f"{name} {problem}.")


def _one_of(name: str, values: list[str], known: Any) -> None:
    for value in values:
        _require(value in known, name, f"cannot have {value!r}; there are {', '.join(known)}")


def _storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def _is_day(text: str) -> bool:
    try:
        return not text or date.fromisoformat(text) <= LAST_DAY
    except ValueError:
        return False
