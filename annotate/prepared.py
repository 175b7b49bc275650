"""Querysets whose SQL is made once.

Django builds the SQL of a queryset anew each time it is asked: for a small query that takes several times longer
than sending it and reading the answer (0.31 ms of 0.36 for a project's criteria). The queries that every answer
of a rater needs are prepared; all others had better stay querysets.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import Model, QuerySet

Record = TypeVar("Record", bound=Model)
STAND_IN = 2_147_000_000
"""The numbers from here on stand in for values while the SQL is made; Django drops comparisons with larger ones."""


class Prepared(Generic[Record]):
    """A queryset of one model, without joined records, as a function of numbers and words.

        held = Prepared(lambda user, project: Slot.objects.filter(rater=user, project=project))
        held(user=3, project=7)

    The values take no part in building the query: they are put where their parameters stand in its SQL.

    :param build: makes the queryset.
    :param words: names of those of its parameters that are text; the others are numbers.
    """

    def __init__(self, build: Callable[..., QuerySet[Record, Any]], *, words: tuple[str, ...] = ()) -> None:
        self._build = build
        self._words = words

    def __call__(self, **values: Any) -> list[Record]:
        """Run the query.

        :param values: of every parameter.
        """
        return [self._made.record(row) for row in self.rows(**values)]

    def rows(self, **values: Any) -> list[Any]:
        """Run the query and leave its rows as they are, as for a queryset that asks for values rather than records."""
        made = self._made
        with connection.cursor() as cursor:
            cursor.execute(made.sql, [values[made.names[n]] if n in made.names else v for n, v in made.parameters])
            return list(made.converted(cursor.fetchall()))

    def first(self, **values: Any) -> Record | None:
        """The first record that the query finds; it had better be limited to one."""
        return next(iter(self(**values)), None)

    @cached_property
    def _made(self) -> _Made[Record]:
        names = inspect.signature(self._build).parameters
        stand_ins: dict[int | str, str] = {
            f"\N{OBJECT REPLACEMENT CHARACTER}{name}" if name in self._words else STAND_IN + number: name
            for number, name in enumerate(names)
        }
        return _Made(self._build(**{name: value for value, name in stand_ins.items()}), stand_ins)


class _Made(Generic[Record]):
    """A queryset's SQL, and how its rows become records.

    :param stand_ins: names of parameters by the values that stand in for them.
    """

    def __init__(self, queryset: QuerySet[Record, Any], stand_ins: dict[int | str, str]) -> None:
        self._compiler = queryset.query.get_compiler(DEFAULT_DB_ALIAS)
        self.sql, parameters = self._compiler.as_sql()
        self.parameters = list(enumerate(parameters))
        self.names = {n: stand_ins[value] for n, value in self.parameters if value in stand_ins}
        if missing := set(stand_ins.values()) - set(self.names.values()):
            raise TypeError(f"The query does not depend on {', '.join(sorted(missing))}.")
        self._model = queryset.model
        self._converters = self._compiler.get_converters([column for column, _sql, _alias in self._compiler.select])
        if self._compiler.klass_info is not None:  # a query for records
            fields = self._compiler.klass_info["select_fields"]
            self._columns = [self._compiler.select[n][0].target.attname for n in fields]
            self._first, self._last = fields[0], fields[-1] + 1
            self._annotations = list(self._compiler.annotation_col_map.items())

    def converted(self, rows: list[Any]) -> Any:
        """The rows with values as the model's fields have them."""
        return self._compiler.apply_converters(rows, self._converters) if self._converters else rows

    def record(self, row: Any) -> Record:
        """One row as a record, annotations included."""
        record = self._model.from_db(DEFAULT_DB_ALIAS, self._columns, row[self._first : self._last])
        for name, place in self._annotations:
            setattr(record, name, row[place])
        return record
