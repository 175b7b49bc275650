"""Files of rows: JSON Lines as they are made, and from those Parquet and CSV, in constant memory."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

FILE_TYPES = ("jsonl", "parquet", "csv")
BATCH_BYTES = 2 << 20
"""JSON of the rows that become one row group of Parquet."""
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that spreadsheets take for a formula (OWASP, "CSV Injection")."""


def line(row: dict[str, Any]) -> bytes:
    """A row as a line of JSON, keys in the order in which the form has them."""
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def read_batches(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The rows of a file of JSON Lines, some megabytes at a time."""
    with open(path, "rb") as file:
        while lines := file.readlines(BATCH_BYTES):
            yield [orjson.loads(each) for each in lines]


OnRows = Callable[[int], None]
"""Called with how many more rows were written."""


def to_parquet(source: Path, target: Path, schema: pa.Schema, on_rows: OnRows) -> None:
    """Write a file of JSON Lines as Parquet."""
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for batch in read_batches(source):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            on_rows(len(batch))


def to_csv(source: Path, target: Path, columns: list[str], on_rows: OnRows) -> None:
    """Write a file of JSON Lines as CSV (RFC 4180); lists are JSON, and no cell is a formula."""
    with open(target, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for batch in read_batches(source):
            writer.writerows([cell(row[name]) for name in columns] for row in batch)
            on_rows(len(batch))


def cell(value: Any) -> Any:
    """A value as a spreadsheet may have it: what would be a formula begins with an apostrophe."""
    if isinstance(value, str):
        return "'" + value if value.startswith(FORMULA_SIGNS) else value
    if isinstance(value, (list, dict)):
        return orjson.dumps(value).decode()
    return "" if value is None else value
