"""Writing an archive: every row once, in constant memory, as the database was at one moment."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from annotate.models import AuditEvent, Project, User
from annotate.services import Refused, audit
from annotate.services.archive.columns import columns_of
from annotate.services.archive.kinds import KINDS, OF_PEOPLE, PEOPLE, Kind
from annotate.services.archive.package import FORM, MANIFEST
from annotate.services.archive.weights import Folder, folders_of
from annotate.services.heartbeat import OnProgress
from annotate.services.numbering import Numbering, numbering_of
from rewardmodel.publish import is_disk_full, whole_file

CHUNK = 2000
"""Rows that are read at once."""
BLOCK = 1 << 20
"""Bytes of a file that are copied at once."""
THE_SAME_DAY = (1980, 1, 1, 0, 0, 0)
"""All members' time, so that equal content makes equal archives."""


@dataclass(frozen=True)
class Archived:
    """An archive that was made."""

    path: Path
    rows: int
    sha256: str
    """Of its manifest, which names its whole content."""


def make_archive(
    *, project: Project, path: Path, actor: User | None, weights: bool = False, on_progress: OnProgress | None = None
) -> Archived:
    """Write all that is known of how a project's data came to be into one file, whole or not at all.

    The site may go on working meanwhile: what is written is the state at one moment.

    :param weights: whether the model folders of its generations and reward models come along.
    :param on_progress: told of rows done of rows in all, then of bytes of weights.
    :raises Refused: when a model folder is missing or damaged, or the file cannot be written.
    """
    try:
        with _at_one_moment(), whole_file(path) as temporary, open(temporary, "wb") as file:
            made = _Writer(project, file, on_progress or (lambda _stage, _done, _total: None)).write(weights)
    except OSError as problem:
        if is_disk_full(problem):
            raise Refused(_("The disk became full; no archive was made.")) from problem
        raise Refused(
            _("%(path)s cannot be written: %(problem)s.") % {"path": path, "problem": problem.strerror or problem}
        ) from problem
    audit.record("archived", project, actor=actor, project=project, sha256=made[1], weights=weights)
    return Archived(path, *made)


@contextmanager
def _at_one_moment() -> Iterator[None]:
    """Have all queries see the same state of the database.

    Within somebody else's transaction, it is for them to see to it.
    """
    if connection.in_atomic_block:
        yield
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor.execute("SET LOCAL cursor_tuple_fraction = 1")  # all rows are wanted, not the first few soon
        yield


class _Writer:
    """An archive on its way to the disk."""

    def __init__(self, project: Project, file: IO[bytes], on_progress: OnProgress) -> None:
        self.project, self.on_progress = project, on_progress
        self.zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)
        self.numbering = numbering_of(project) or Numbering()
        self.members: dict[str, dict[str, Any]] = {}
        self.done = 0
        self.total = 0

    def write(self, weights: bool) -> tuple[int, str]:
        """Write all members and the manifest.

        :returns: rows, and the SHA-256 of the manifest.
        """
        with self.zip:
            folders = folders_of(self.project) if weights else []
            self.total = sum(kind.rows(self.project).count() for kind in KINDS)
            people = list(_people(self.project, self.numbering))
            self._lines(PEOPLE, iter(people), "user")
            for kind in KINDS:
                self._lines(kind.member, self._rows(kind), kind.label if kind.numbered else "")
            self._folders(folders)
            manifest = {
                "form": FORM,
                "project": self.project.slug,
                "members": self.members,
                "weights": [{"path": folder.path, "name": folder.name} for folder in folders],
            }
            content = json.dumps(manifest, indent=1, sort_keys=True).encode()
            with self._member(MANIFEST) as member:
                member.write(content)
        return self.done, hashlib.sha256(content).hexdigest()

    def _rows(self, kind: Kind) -> Iterator[dict[str, Any]]:
        columns = columns_of(kind)
        names = [column.name for column in columns]
        moved = [(column.name, column.there) for column in columns if column.there]
        found = _kept(kind, self.project).values_list(*(column.read for column in columns))
        for values in found.iterator(chunk_size=CHUNK):
            row = dict(zip(names, values, strict=True))
            for name, there in moved:
                row[name] = there(row[name], row, self.numbering)
            yield row
            self.done += 1
            if self.done % CHUNK == 0:
                self.on_progress("rows", self.done, self.total)

    def _lines(self, name: str, rows: Iterator[dict[str, Any]], label: str) -> None:
        """Write rows as a member, and its entry of the manifest.

        :param label: of the rows' kind where they keep their numbers.
        """
        digest, size, count = hashlib.sha256(), 0, 0
        numbers: list[int] = []
        with self._member(name) as member:
            for row in rows:
                line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
                member.write(line)
                digest.update(line)
                size, count = size + len(line), count + 1
                if label and type(row.get("id")) is int:
                    numbers = [min(numbers[0], row["id"]), max(numbers[1], row["id"])] if numbers else [row["id"]] * 2
        self.members[name] = {"rows": count, "bytes": size, "sha256": digest.hexdigest()}
        if numbers:
            self.members[name]["numbers"] = numbers

    def _folders(self, folders: list[Folder]) -> None:
        copied, total = 0, sum(sum(folder.files.values()) for folder in folders)
        for folder in folders:
            for name, size in folder.files.items():
                self._file(folder, name, copied, total)
                copied += size

    def _file(self, folder: Folder, name: str, copied: int, total: int) -> None:
        digest, size = hashlib.sha256(), 0
        member_name = f"weights/{folder.name}/{name}"
        with open(folder.location / name, "rb") as source, self._member(member_name, packed=False) as member:
            while block := source.read(BLOCK):
                member.write(block)
                digest.update(block)
                size += len(block)
                self.on_progress("weights", copied + size, total)
        self.members[member_name] = {"bytes": size, "sha256": digest.hexdigest()}

    @contextmanager
    def _member(self, name: str, *, packed: bool = True) -> Iterator[IO[bytes]]:
        entry = zipfile.ZipInfo(name, THE_SAME_DAY)
        entry.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
        entry.external_attr = 0o600 << 16
        with self.zip.open(entry, "w", force_zip64=True) as member:
            yield member


def _kept(kind: Kind, project: Project) -> QuerySet[Any]:
    """A project's rows of a kind, with what is kept in place of some columns."""
    return kind.rows(project).annotate(**{f"kept_{name}": value for name, value in kind.instead.items()})


def _people(project: Project, numbering: Numbering) -> Iterator[dict[str, Any]]:
    """The accounts that a project's rows refer to, by their first number."""
    found: set[int] = set()
    for kind in KINDS:
        for column in columns_of(kind):
            if column.field.is_relation and column.field.related_model is User:
                found.update(_kept(kind, project).order_by().values_list(column.read, flat=True).distinct())
    told = AuditEvent.objects.filter(project=project, object_type="user").values_list("object_id", flat=True)
    found.update(int(number) for number in told if number.isdecimal())
    rows = User.objects.filter(pk__in=found - {None}).values("id", *OF_PEOPLE)
    yield from sorted(({**row, "id": numbering.there("user", row["id"])} for row in rows), key=lambda row: row["id"])
