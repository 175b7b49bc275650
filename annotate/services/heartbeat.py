"""Showing that somebody works on a record, so that what a lost worker left is begun again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connection
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

BEAT_SECONDS = 2.0

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done and how many rows of it of how many are done; may raise, so that it is given up."""


def unattended() -> Q:
    """Records whose heartbeat stopped so long ago that their worker is lost, or never began."""
    lost = Now() - timedelta(seconds=settings.HONE_RUN_LOST_SECONDS)
    return Q(heartbeat_at=None) | Q(heartbeat_at__lte=lost)


@contextmanager
def beating(mine: QuerySet[Any], fields: dict[str, Any]) -> Iterator[threading.Event]:
    """Write a record's heartbeat while a block works on it, over a connection of its own.

    Where the whole lies in one transaction, as in tests and nested calls, nobody else could see the record, and
    nobody is told.

    :param mine: the record, as long as the block is to go on with it.
    :param fields: values of it that are written too; the block sets them as it goes.
    :returns: for the block: set once the record is not to be gone on with.
    """
    gone, ended = threading.Event(), threading.Event()
    if connection.in_atomic_block:
        yield gone
        return

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            close_old_connections()
            if not mine.update(heartbeat_at=Now(), **fields):
                gone.set()
        connection.close()

    beater = threading.Thread(target=beat, daemon=True)
    beater.start()
    try:
        yield gone
    finally:
        ended.set()
        beater.join()
