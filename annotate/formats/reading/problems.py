"""What can be wrong with a file, a record, or a record's meaning."""

from __future__ import annotations


def storable(text: str) -> str:
    """A text of a file as a report may keep it: what no database takes is replaced."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")


class Unreadable(Exception):
    """The file cannot be read, or not beyond a place in it; the message is one sentence.

    :param line: of the place, from 1; 0 where it is the whole file.
    """

    def __init__(self, message: str, *, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


class Wrong(ValueError):
    """A record that does not keep to its format; the message is the reason."""


class LeftOut(Exception):
    """A record in order that says nothing of one answer against another; the message is the reason."""
