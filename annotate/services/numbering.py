"""The numbers of a project's rows where the project was made.

A restored project has other numbers than it had, where those were taken: the numbers of each kind of row were moved by
a constant, UUIDs by an exclusive or with a constant, and accounts are told by name. So the old numbers can always be
computed, and what is named by a hash over them, or exported with them, stays the same byte by byte.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from annotate.formats.writing.ranking import Ranking
from annotate.models import Origin, Project

Number = TypeVar("Number", int, uuid.UUID)
UNMOVED = uuid.UUID(int=0)
"""What leaves UUIDs as they are."""
ROW_WORDS = {
    "revision": "judgementrevision",
    "edit": "completion",
    "pair": "completion",
    "norm": "normversion",
    "item": "item",
    "comparison": "comparison",
    "ranking": "rankedlist",
    "demonstration": "demonstration",
}
"""Words of a ranking's row id, with the kind of row whose numbers follow."""
PROVENANCE = {
    "revisions": "judgementrevision",
    "raters": "user",
    "completions": "completion",
    "comparison": "comparison",
    "ranking": "rankedlist",
    "demonstration": "demonstration",
    "norm": "normversion",
}
"""Parts of a ranking's provenance that are numbers of rows, with their kind."""


@dataclass(frozen=True)
class Numbering:
    """How numbers here and those where the project was made belong together; kinds go by their model's name."""

    shifts: Mapping[str, int] = field(default_factory=dict)
    mask: uuid.UUID = UNMOVED
    users: Mapping[int, int] = field(default_factory=dict)
    """The first number of each account that came with the archive, by its number here."""

    def there(self, kind: str, number: Number) -> Number:
        """A row's number where the project was made; what was added since goes on from there."""
        if isinstance(number, uuid.UUID):
            return uuid.UUID(int=number.int ^ self.mask.int)
        if kind == "user":
            return self.users.get(number, number + self._beyond)
        return number - self.shifts.get(kind, 0)

    def here(self, kind: str, number: Number) -> Number:
        """The inverse of :meth:`there` for rows that are no accounts."""
        if isinstance(number, uuid.UUID):
            return uuid.UUID(int=number.int ^ self.mask.int)
        return number + self.shifts.get(kind, 0)

    @cached_property
    def _beyond(self) -> int:
        """What is added to the numbers of accounts that came later."""
        return max(self.users.values(), default=0)

    def ranking(self, made: Ranking) -> Ranking:
        """A ranking as it would have been made there."""
        return dataclasses.replace(
            made,
            row_id="-".join(self._row_id(made.row_id)),
            prompt_id=str(self.there("prompt", int(made.prompt_id))),
            provenance={name: self._provenance(name, value) for name, value in made.provenance.items()},
        )

    def _row_id(self, row_id: str) -> Iterator[str]:
        kind = ""
        for part in row_id.split("-"):
            if not part.isdecimal():
                # Pairs of an imported ranking are named by the places of its answers.
                kind = "" if part == "pair" and row_id.startswith("ranking-") else ROW_WORDS.get(part, "")
            yield str(self.there(kind, int(part))) if part.isdecimal() else part

    def _provenance(self, name: str, value: Any) -> Any:
        kind = PROVENANCE.get(name)
        if kind is None:
            return value
        if isinstance(value, list):
            return [self.there(kind, number) for number in value]
        return type(value)(self.there(kind, int(value)))


def numbering_of(project: Project) -> Numbering | None:
    """How a project's rows were numbered elsewhere; None for a project that was made here."""
    origin = Origin.objects.filter(project=project).first()
    if origin is None:
        return None
    users = {int(here): there for here, there in origin.users.items()}
    return Numbering(origin.shifts, origin.mask, users)
