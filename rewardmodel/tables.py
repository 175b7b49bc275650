"""Rows in parquet files whose columns the contract names, each with its type and meaning."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rewardmodel.contract import JobError
from rewardmodel.publish import whole_file

SCALARS = {
    "string": pa.string(),
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "struct<role: string, content: string>": pa.struct([("role", pa.string()), ("content", pa.string())]),
}
TYPES = SCALARS | {f"list<{name}>": pa.list_(kind) for name, kind in SCALARS.items()}
"""By what the contract calls them."""

ROWS_AT_ONCE = 10_000
"""Rows that are held in memory while they are written."""


def schema_of(columns: Mapping[str, str]) -> pa.Schema:
    """The schema of a file.

    :param columns: by name "type" or "type: meaning", as the contract has them.
    """
    return pa.schema(
        [
            (name, next(kind for known, kind in TYPES.items() if f"{text}: ".startswith(f"{known}: ")))
            for name, text in columns.items()
        ]
    )


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Write a file, which is there when it is whole; what a row lacks is null.

    :param columns: all that the file has; see :func:`schema_of`.
    """
    schema, rest = schema_of(columns), iter(rows)
    with whole_file(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        while some := list(islice(rest, ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(some, schema=schema))


def read_rows(
    path: Path, columns: Mapping[str, str], *, optional: Collection[str] = (), without: str
) -> list[dict[str, Any]]:
    """Read a file's rows; columns that nobody asks for are left out.

    :param columns: names of those that it must have, with what each means.
    :param optional: names of those that are read where they are there.
    :param without: what its absence means, as the end of a sentence.
    :raises JobError: when the file is missing, is not parquet or lacks a column.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise JobError(f"{path} is missing; {without}.") from None
    except pa.ArrowInvalid as problem:
        raise JobError(f"{path} is not a parquet file: {problem}.") from None
    for name, meaning in columns.items():
        if name not in table.column_names:
            raise JobError(f"{path} lacks the column {name}: {meaning}.")
    wanted = [*columns, *(name for name in optional if name in table.column_names)]
    rows: list[dict[str, Any]] = table.select(wanted).to_pylist()
    return rows
