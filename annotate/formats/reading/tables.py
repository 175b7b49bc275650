"""Tables: CSV after RFC 4180, and Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any, BinaryIO

from django.utils.translation import gettext as _

from annotate.formats.reading.jsontext import lines, parse
from annotate.formats.reading.opening import LONGEST_RECORD, MOST_BYTES, Record
from annotate.formats.reading.problems import Unreadable, Wrong

MOST_COLUMNS = 1000
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that spreadsheets take for a formula."""
BATCH = 200
"""Rows of Parquet held at once."""


def csv_rows(file: io.BufferedReader) -> Iterator[Record]:
    """The rows of a CSV file under the names of its first; a field that holds JSON objects or lists becomes them.

    :raises Unreadable: where quotes are not closed or the text is not UTF-8, because no row after it can be trusted.
    """
    at = 0

    def texts() -> Iterator[str]:
        nonlocal at
        for number, text, problem in lines(file):
            at = number
            if problem:
                raise Wrong(problem)
            yield text

    csv.field_size_limit(LONGEST_RECORD)
    rows = csv.reader(texts(), strict=True)
    names: list[str] = []
    while True:
        first = at + 1
        try:
            fields = next(rows)
        except StopIteration:
            break
        except csv.Error as problem:
            raise Unreadable(_("It is not CSV: %(problem)s.") % {"problem": problem}, line=first) from None
        except Wrong as wrong:
            raise Unreadable(_("It cannot be read: %(reason)s.") % {"reason": wrong}, line=at) from None
        if not fields:
            continue
        if not names:
            names = [name.strip() for name in fields]
            if len(set(names)) != len(names) or not all(names) or len(names) > MOST_COLUMNS:
                raise Unreadable(_("The first line does not name each column once."), line=first)
        elif len(fields) != len(names):
            counts = {"have": len(fields), "want": len(names)}
            yield Record(first, None, _("%(have)d fields where the first line has %(want)d") % counts)
        else:
            yield _csv_record(first, dict(zip(names, fields, strict=True)))


def _csv_record(line: int, fields: dict[str, str]) -> Record:
    value: dict[str, Any] = {}
    for name, text in fields.items():
        if text == "":
            continue
        if text[0] == "'" and text[1:2] in FORMULA_SIGNS:
            text = text[1:]  # an apostrophe that keeps spreadsheets from calculating
        elif text[0] in "[{":
            try:
                value[name] = parse(text)
                continue
            except Wrong as wrong:
                if text.lstrip("[ \n").startswith('{"role"'):
                    return Record(line, None, str(wrong))
        value[name] = text
    return Record(line, value)


def parquet(file: BinaryIO) -> Iterator[Record]:
    """The rows of a Parquet file, numbered from 1.

    :raises Unreadable: when it is broken, cut off, or unpacks to too much.
    """
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        source = pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=2**20)
        metadata = source.metadata
        size = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
        if size > MOST_BYTES:
            raise Unreadable(_("The file unpacks to more than %(most)d GiB.") % {"most": MOST_BYTES >> 30})
        if metadata.num_columns > MOST_COLUMNS:
            raise Unreadable(_("The file has more than %(most)d columns.") % {"most": MOST_COLUMNS})
        for batch in source.iter_batches(batch_size=BATCH, use_threads=False):
            if batch.nbytes > 8 * LONGEST_RECORD:
                raise Unreadable(_("A record is too long or too deeply nested."), line=number + 1)
            for value in batch.to_pylist():
                number += 1
                yield Record(number, {name: entry for name, entry in value.items() if entry is not None})
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, KeyError) as problem:
        if isinstance(problem, OSError) and problem.errno:
            raise
        raise Unreadable(_("The Parquet file is broken or cut off."), line=number and number + 1) from None
