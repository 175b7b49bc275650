"""Numbers for the rows of an archive: those that they had where these are free, and else all moved by a constant."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.db import connection, models, transaction
from django.db.models import Max

from annotate.models import Project
from annotate.services import Refused
from annotate.services.archive.kinds import KINDS, Kind
from annotate.services.archive.package import Package
from annotate.services.numbering import UNMOVED

LARGEST = 2**62
"""Number that no row may come near."""
TRIED = 500
"""Names that are looked for at once."""


def ranges_of(package: Package) -> dict[str, tuple[int, int]]:
    """Lowest and highest number of each kind that an archive has numbered rows of."""
    ranges = {}
    for kind in KINDS:
        numbers = package.members.get(kind.member, {}).get("numbers")
        if kind.numbered and numbers:
            ranges[kind.label] = (numbers[0], numbers[1])
    return ranges


def reserve(ranges: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Take numbers for all rows of an archive, so that nobody else is given them.

    :returns: what is added to the numbers of each kind; 0 where its numbers were never given out here.
    """
    labels = {kind.label: kind for kind in KINDS}
    return {label: _reserve(labels[label], *numbers) for label, numbers in ranges.items()}


def _reserve(kind: Kind, lowest: int, highest: int) -> int:
    table = kind.model._meta.db_table
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_serial_sequence(%s, 'id')", [table])
        (sequence,) = cursor.fetchone()
        # Changing a sequence, be it to what it is, holds off all who would take its next number.
        cursor.execute(f"ALTER SEQUENCE {sequence} CACHE 1")
        cursor.execute(f"SELECT last_value, is_called FROM {sequence}")
        last, is_called = cursor.fetchone()
        free = last + 1 if is_called else last
        shift = 0 if lowest >= free else free - lowest
        if highest + shift >= LARGEST:
            raise Refused(f"{kind.member} needs more numbers than {table} has left.")
        cursor.execute("SELECT setval(%s, %s)", [sequence, max(highest + shift, last)])
    return shift


def reserve_batches(project: Project) -> None:
    """See to it that no later import is called as one of a restored project is.

    :raises Refused: when one has a number that none can have.
    """
    latest = project.imports.aggregate(latest=Max("first_number"))["latest"] or 0
    if latest >= LARGEST:
        raise Refused(f"An import of the archive has the number {latest}, which none can have.")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_serial_sequence('annotate_import', 'id')")
        (sequence,) = cursor.fetchone()
        cursor.execute("SELECT setval(%s, greatest(%s, nextval(%s)))", [sequence, latest, sequence])


def free_mask(package: Package) -> uuid.UUID:
    """What the UUIDs of an archive are combined with: nothing where none of them is taken here."""
    for kind in KINDS:
        if isinstance(kind.model._meta.pk, models.UUIDField) and _is_taken(package, kind):
            return uuid.uuid4()
    return UNMOVED


def _is_taken(package: Package, kind: Kind) -> bool:
    wanted: list[Any] = []
    name = kind.model._meta.pk.name
    taken = kind.model._default_manager.filter
    for _line, row in package.rows(kind.member):
        try:
            wanted.append(uuid.UUID(row[name]))
        except (KeyError, ValueError, TypeError, AttributeError):
            return False  # the row will be refused
        if len(wanted) == TRIED:
            if taken(pk__in=wanted).exists():
                return True
            wanted.clear()
    return taken(pk__in=wanted).exists()
