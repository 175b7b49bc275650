"""Many rows into the database at once: COPY, keys taken before, and names for content."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, LiteralString

from django.db import connection

FORGET_SEEN = """
CREATE TEMPORARY TABLE IF NOT EXISTS import_seen (content uuid PRIMARY KEY, times integer NOT NULL);
TRUNCATE import_seen;
"""
"""Begins anew what :func:`times_seen` counts on this connection."""


def copy_in(statement: LiteralString, lines: Iterable[Sequence[Any]]) -> None:
    """Write rows by a COPY … FROM STDIN, in the caller's transaction."""
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for line in lines:
            copy.write_row(line)


def select(statement: LiteralString, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The rows that a statement returns."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall()


def next_numbers(table: str, count: int) -> list[int]:
    """Keys for so many new rows of a model's table."""
    sequence = f"annotate_{table}_id_seq"
    return [n for (n,) in select("SELECT nextval(%s::regclass) FROM generate_series(1, %s)", [sequence, count])]


def digest_of(text: str) -> uuid.UUID:
    """A short name for a text: its MD5."""
    return uuid.UUID(bytes=hashlib.md5(text.encode(), usedforsecurity=False).digest())


def times_seen(digests: Sequence[uuid.UUID]) -> list[int]:
    """The how-manieth each of some contents is among its equals on this connection, from 1."""
    here = Counter(digests)
    after = dict(
        select(
            "INSERT INTO import_seen SELECT * FROM unnest(%s::uuid[], %s::int[]) ON CONFLICT (content) "
            "DO UPDATE SET times = import_seen.times + excluded.times RETURNING content, times",
            [list(here), list(here.values())],
        )
    )
    numbers = []
    for digest in digests:
        numbers.append(after[digest] - here[digest] + 1)
        here[digest] -= 1
    return numbers
