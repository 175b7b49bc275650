"""A column's value in an archive and in the database: numbers of rows are moved, everything else stays as it is.

What comes from an archive is checked for its type here and for everything else by the database.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, cast

import orjson
from django.contrib.postgres.fields import ArrayField
from django.db import models

from annotate.models import User
from annotate.services.archive.kinds import KINDS, Kind
from annotate.services.numbering import Numbering

Row = Mapping[str, Any]
Move = Callable[[str, Any], Any]
"""A row's number on the other side, by its kind."""
LABELS = {kind.label for kind in KINDS}
ADDRESSED = {"backgroundtask", "generation", "import", "snapshot"}
"""What the trail links to by number."""


class Wrong(ValueError):
    """A value that no archive of Hone has; the message is a part of a sentence."""


@dataclass(frozen=True)
class Arrival:
    """What numbers of an archive become here."""

    numbering: Numbering
    ranges: Mapping[str, tuple[int, int]]
    """Lowest and highest number of each kind in the archive."""
    users: Mapping[int, int]
    """Accounts here by their number in the archive."""

    def here(self, kind: str, number: Any) -> Any:
        """The number here of a row of the archive.

        :raises Wrong: when it is no number of one.
        """
        if kind == "user":
            if type(number) is not int or number not in self.users:
                raise Wrong(f"the archive has no account {number!r}")
            return self.users[number]
        if _is_named_by_uuid(kind):
            return self.numbering.here(kind, _uuid(number))
        lowest, highest = self.ranges.get(kind, (1, 0))
        if type(number) is not int or not lowest <= number <= highest:
            raise Wrong(f"the archive has no {kind} {number!r}")
        return self.numbering.here(kind, number)

    def loosely(self, kind: str, number: Any) -> Any:
        """The same of a number that is only told of: its row may be gone."""
        if kind == "user":
            return self.users.get(number, number)
        return self.numbering.here(kind, number)


There = Callable[[Any, Row, Numbering], Any]
Here = Callable[[Any, Row, Arrival], Any]


@dataclass(frozen=True)
class Column:
    """A column of a kind of row."""

    name: str
    """In the archive."""
    column: str
    """In the table."""
    read: str
    """What a query is asked for."""
    field: Any
    there: There | None
    """Its value for the archive; None where it is what the database says."""
    here: Here
    """What COPY is given for a value of the archive; raises :class:`Wrong`."""


def columns_of(kind: Kind) -> list[Column]:
    """The columns that an archive keeps of a kind of row."""
    fields = [f for f in _fields(kind.model) if f.name not in kind.left_out]
    return [_column(kind, field) for field in fields if kind.numbered or not field.primary_key]


def left_out_of(kind: Kind) -> list[Any]:
    """Fields that are not kept and get their default, because the database has none of its own."""
    return [f for f in _fields(kind.model) if f.name in kind.left_out and not f.null]


def _fields(model: type[models.Model]) -> Sequence[Any]:
    return model._meta.concrete_fields


def _column(kind: Kind, field: Any) -> Column:
    read = f"kept_{field.name}" if field.name in kind.instead else field.attname
    there: There | None = None
    here: Here
    inside = kind.numbers_in.get(field.name)
    if field.primary_key or field.is_relation:
        label = kind.label if field.primary_key else field.related_model._meta.model_name
        there, here = partial(_number_there, label), partial(_number_here, label)
    elif inside is not None:
        there, here = partial(_inside_there, inside, field), partial(_inside_here, inside, field)
    elif kind.label == "auditevent" and field.name == "object_id":
        there, here = _subject_there, _subject_here
    else:
        there, here = _PLAIN_THERE.get(type(field)), partial(_plain_here, field)
    if shape := kind.shapes.get(field.name):
        here = partial(_shaped_here, shape, field)
    checked = partial(_unless_null, here, field.null)
    return Column(field.name, field.column, read, field, there, checked)


def _unless_null(
    here: Callable[[Any, Row, Arrival], Any], may_be_null: bool, value: Any, row: Row, arrival: Arrival
) -> Any:
    if value is None:
        if not may_be_null:
            raise Wrong("it must not be empty")
        return None
    return here(value, row, arrival)


def _number_there(kind: str, value: Any, _row: Row, numbering: Numbering) -> Any:
    return None if value is None else numbering.there(kind, value)


def _number_here(kind: str, value: Any, _row: Row, arrival: Arrival) -> Any:
    return arrival.here(kind, value)


def _float_there(value: float | None, _row: Row, _numbering: Numbering) -> Any:
    return value if value is None or math.isfinite(value) else str(value)


def _subject_there(value: str, row: Row, numbering: Numbering) -> str:
    return _told(row["object_type"], value, numbering.there)


def _subject_here(value: Any, row: Row, arrival: Arrival) -> str:
    kind, text = row.get("object_type", ""), _typed(str, value)
    if kind in ADDRESSED and not (text.isascii() and text.isdecimal()):
        raise Wrong(f"{_short(text)} is no number")
    return _told(kind, text, arrival.loosely)


def _json_there(value: Any, _row: Row, _numbering: Numbering) -> Any:
    """JSON as it is: PostgreSQL writes large floats as whole numbers, which orjson does not."""
    return None if value is None else orjson.Fragment(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


_PLAIN_THERE: dict[type, There] = {models.FloatField: _float_there, models.JSONField: _json_there}


def _inside_there(kinds: Mapping[str, str], field: Any, value: Any, row: Row, numbering: Numbering) -> Any:
    moved = _inside(kinds, value, numbering.there)
    return _json_there(moved, row, numbering) if isinstance(field, models.JSONField) else moved


def _inside_here(kinds: Mapping[str, str], field: Any, value: Any, row: Row, arrival: Arrival) -> Any:
    return _plain_here(field, _inside(kinds, value, arrival.loosely), row, arrival)


def _inside(kinds: Mapping[str, str], value: Any, move: Move) -> Any:
    """Move the numbers that lie within a value: of a list, or of an object under the keys that hold some."""
    if isinstance(value, list) and "" in kinds:
        return [_told(kinds[""], number, move) for number in value]
    if not isinstance(value, dict):
        return value
    return {key: _deep(kinds[key].split(), part, move) if key in kinds else part for key, part in value.items()}


def _deep(kinds: list[str], value: Any, move: Move) -> Any:
    """Move a number, or the keys of an object of objects, a kind for each level."""
    if isinstance(value, dict):
        return {
            _told(kinds[0], key, move): _deep(kinds[1:], part, move) if kinds[1:] else part
            for key, part in value.items()
        }
    return _told(kinds[0], value, move)


def _told(kind: str, value: Any, move: Move) -> Any:
    """Move one number, written as a number or as text; what is none stays."""
    if kind not in LABELS and kind != User._meta.model_name:
        return value
    if type(value) is int:
        return move(kind, value)
    if isinstance(value, str) and _is_named_by_uuid(kind):
        return str(move(kind, _uuid(value)))
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        return str(move(kind, int(value)))
    return value


def _plain_here(field: Any, value: Any, _row: Row, _arrival: Arrival) -> Any:
    """A value of the archive as COPY takes it."""
    match field:
        case models.JSONField():
            default = field.get_default()
            if default is not None and type(value) is not type(default):
                raise Wrong(f"it must be {'an object' if isinstance(default, dict) else 'a list'}")
            return json.dumps(value)
        case ArrayField():
            return [_plain_here(field.base_field, each, _row, _arrival) for each in _typed(list, value)] or "{}"
        case models.BooleanField():
            return _typed(bool, value)
        case models.IntegerField():
            return _typed(int, value)
        case models.FloatField():
            return _float(value)
        case models.DateTimeField():
            return _time(value)
        case models.UUIDField():
            return _uuid(value)
        case models.CharField() | models.TextField():
            return _typed(str, value)
    raise TypeError(f"no archive keeps columns such as {field}")


def _shaped_here(shape: Callable[[Any], bool], field: Any, value: Any, row: Row, arrival: Arrival) -> Any:
    if not shape(value):
        raise Wrong(f"{_short(value)} has not the form of {field.name}")
    return _plain_here(field, value, row, arrival)


def _typed(wanted: type, value: Any) -> Any:
    if type(value) is not wanted:
        raise Wrong(f"{_short(value)} is not {_WORDS[wanted]}")
    return value


_WORDS = {str: "text", int: "a whole number", bool: "true or false", list: "a list"}


def _float(value: Any) -> float:
    if type(value) in (int, float) or value in ("nan", "inf", "-inf"):
        return float(value)
    raise Wrong(f"{_short(value)} is not a number")


def _time(value: Any) -> str:
    try:
        datetime.fromisoformat(_typed(str, value))
    except ValueError:
        raise Wrong(f"{_short(value)} is not a time") from None
    return cast(str, value)


def _uuid(value: Any) -> uuid.UUID:
    try:
        return uuid.UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise Wrong(f"{_short(value)} is not a UUID") from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _is_named_by_uuid(kind: str) -> bool:
    return kind in _NAMED_BY_UUID


_NAMED_BY_UUID = {kind.label for kind in KINDS if isinstance(kind.model._meta.pk, models.UUIDField)}
