"""What a line of the log belongs to: the request that is answered, or the attempt of a run.

Kept in a context variable, which the threads that Django starts for a request inherit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_fields: ContextVar[dict[str, str | int] | None] = ContextVar("log fields", default=None)


def fields() -> dict[str, str | int]:
    """What every line written now is marked with."""
    return _fields.get() or {}


@contextmanager
def bound(**more: str | int) -> Iterator[None]:
    """Mark the lines written within."""
    token = _fields.set({**fields(), **more})
    try:
        yield
    finally:
        _fields.reset(token)


def bind(**more: str | int) -> None:
    """Mark the lines that follow, until the surrounding :func:`bound` or the task ends."""
    _fields.set({**fields(), **more})


def forget() -> None:
    """Mark the lines that follow with nothing."""
    _fields.set({})
