"""Writing the rows of an archive by COPY, some thousand at a time, in the caller's transaction."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import DataError, IntegrityError, connection
from psycopg import errors, sql

from annotate.services import Refused
from annotate.services.archive.columns import Arrival, Column, Wrong, columns_of, left_out_of
from annotate.services.archive.kinds import CYCLE_ENDS, KINDS, PROJECT, Kind
from annotate.services.archive.package import Package, wrong
from annotate.services.archive.writing import CHUNK
from annotate.services.heartbeat import OnProgress
from annotate.services.loading import ANALYSED_AFTER

COPIED_LINE = re.compile(r"COPY \w+, line (\d+)")
NAMED_KEY = re.compile(r"Key \(([\w, ]+)\)=\((.*)\) ")
Line = tuple[int, list[Any]]
"""Number of a line, and its values in the order of the table's columns."""


class Loader:
    """Writes all rows of an archive.

    :param slug: of the project, whatever the archive calls it.
    """

    def __init__(self, package: Package, arrival: Arrival, slug: str, on_progress: OnProgress) -> None:
        self.package, self.arrival, self.slug, self.on_progress = package, arrival, slug, on_progress
        self.rows: Counter[str] = Counter()
        self.total = sum(entry.get("rows", 0) for entry in package.members.values())

    def load(self) -> Counter[str]:
        """Write all rows.

        :returns: how many of each kind.
        :raises Refused: naming the member and line of the first row that will not do.
        """
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        for kind in KINDS:
            if kind.member in self.package.members:
                self._load(kind)
            if kind.name == CYCLE_ENDS:
                self._check_from_now_on()
        if self.rows[PROJECT.name] != 1:
            raise Refused(f"The archive is of {self.rows[PROJECT.name]} projects.")
        return self.rows

    def _load(self, kind: Kind) -> None:
        columns, defaults = columns_of(kind), left_out_of(kind)
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
            sql.Identifier(kind.model._meta.db_table),
            sql.SQL(", ").join(sql.Identifier(each.column) for each in [*columns, *defaults]),
        )
        for number, chunk in enumerate(self._chunks(kind, columns, [field.get_default() for field in defaults])):
            try:
                with connection.cursor() as cursor, connection.wrap_database_errors, cursor.copy(statement) as copy:
                    for _line, values in chunk:
                        copy.write_row(values)
            except (DataError, IntegrityError) as problem:
                raise self._refused(kind, columns, chunk, problem) from problem
            self.rows[kind.name] += len(chunk)
            self.on_progress(kind.name, self.rows.total(), self.total)
            if number in ANALYSED_AFTER:
                self._analyse(kind)
        self._analyse(kind)

    def _analyse(self, kind: Kind) -> None:
        """Tell the planner how large a table has become, or foreign keys would be looked up by reading all of it."""
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(kind.model._meta.db_table)))

    def _chunks(self, kind: Kind, columns: Sequence[Column], defaults: list[Any]) -> Iterator[list[Line]]:
        chunk: list[Line] = []
        for line, values in self._lines(kind, columns):
            chunk.append((line, values + defaults))
            if len(chunk) == CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def _lines(self, kind: Kind, columns: Sequence[Column]) -> Iterator[Line]:
        names = {column.name for column in columns}
        for line, row in self.package.rows(kind.member):
            if kind is PROJECT:
                row["slug"] = self.slug
            if row.keys() != names:
                self._check_columns(kind, line, columns, row)
            values = []
            for column in columns:
                try:
                    values.append(column.here(row[column.name], row, self.arrival))
                except Wrong as problem:
                    raise wrong(kind.member, line, f"{column.name}: {problem}") from problem
            yield line, values

    def _check_columns(self, kind: Kind, line: int, columns: Sequence[Column], row: dict[str, Any]) -> None:
        """Give columns that an older version did not have their default."""
        if unknown := sorted(row.keys() - {column.name for column in columns}):
            raise wrong(kind.member, line, f"this version of Hone does not know its {unknown[0]}")
        for column in columns:
            if column.name not in row:
                if not (column.field.null or column.field.has_default()):
                    raise wrong(kind.member, line, f"it lacks {column.name}")
                row[column.name] = column.field.get_default()

    def _check_from_now_on(self) -> None:
        """Have foreign keys checked as rows come, so that no queue of checks grows."""
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        except IntegrityError as problem:
            cause = problem.__cause__
            assert isinstance(cause, errors.Error)
            table = cause.diag.table_name
            kind = next(kind for kind in KINDS if kind.model._meta.db_table == table)
            columns = columns_of(kind)
            raise self._refused(kind, columns, list(self._lines(kind, columns)), problem) from problem

    def _refused(self, kind: Kind, columns: Sequence[Column], chunk: list[Line], problem: Exception) -> Refused:
        """The sentence for what the database refused, with the line that it was."""
        cause = problem.__cause__
        assert isinstance(cause, errors.Error)
        said = cause.diag
        if found := COPIED_LINE.search(said.context or ""):
            line = chunk[min(int(found[1]), len(chunk)) - 1][0]
        else:
            line = self._line_of(said.message_detail or "", columns, chunk)
        match cause:
            case errors.ForeignKeyViolation():
                reason = "it refers to a row that the archive does not have"
            case errors.UniqueViolation():
                reason = "it says what another line has said"
            case errors.CheckViolation():
                reason = f"it breaks the rule {said.constraint_name}"
            case _other:
                reason = said.message_primary or str(cause)
        return wrong(kind.member, line, reason)

    def _line_of(self, detail: str, columns: Sequence[Column], chunk: list[Line]) -> int:
        """The line whose key the database names."""
        if found := NAMED_KEY.search(detail):
            wanted = found[1].split(", ")
            places = [place for place, column in enumerate(columns) if column.column in wanted]
            for line, values in chunk:
                if ", ".join(str(values[place]) for place in places) == found[2]:
                    return line
        return chunk[0][0]
