"""Every change of state: check, change in one transaction, record who did it.

Pages, commands and tasks all come here, so they agree. Services raise :class:`Refused` with one
sentence for the person who asked.
"""

from __future__ import annotations


class Refused(Exception):
    """What was asked cannot be done; the message is one sentence for the person who asked.

    :param place: name of the form field or part of the data that the sentence is about.
    """

    def __init__(self, message: str, *, place: str = "") -> None:
        super().__init__(message)
        self.place = place


class Conflict(Refused):
    """What was asked contradicts what somebody, perhaps the same person, did meanwhile."""


class NoRoom(Refused):
    """There is no room on a disk to keep what was asked for."""
