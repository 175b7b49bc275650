"""A job's input: rows of a parquet file whose columns the contract names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rewardmodel.contract import JobError


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
