"""Bringing a site back from a backup: all of it, or nothing.

Every hash is checked before anything is touched. Files come first, each by rename; then the database in one
transaction, which is the moment from which the site is restored. What fails before takes its files back; what
is killed before leaves files that no row refers to, and the same command goes on from them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from psycopg import sql

from annotate import pgtools
from annotate.models import Generation, Project, RewardModel
from annotate.services import Refused
from annotate.services.backup import FORMAT, PREFIX, ROOM_BESIDE, SECRETS
from rewardmodel.publish import MANIFEST, BrokenFolder, file_sha256, is_disk_full, verify

REFERRING = [(Project, "base_model"), (Generation, "weights_path"), (RewardModel, "weights_path")]
"""Columns that hold the path of a model folder."""

Entries = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Restored:
    """What came back."""

    backup: Path
    files: int
    moved: dict[str, str]
    """Model folders that lay outside the data folder: from where to where."""
    missing: list[str]
    """What was missing when the backup was made."""


def restore(*, source: Path) -> Restored:
    """Bring a backup back into an empty database and the data folder.

    :param source: a backup, or a folder of backups, of which the newest is taken.
    :raises Refused: when it is no backup, damaged or too new, or would meet data that is there already.
    """
    backup = _find(source)
    entries = _checked(backup)
    about = json.loads((backup / "BACKUP.json").read_text())
    _check_version(about, backup)
    _check_empty()
    moved = _moved(about, entries)
    targets = _targets(about, entries, moved)
    _check_room(targets, backup, entries)
    statements = [statement for old, new in moved.items() for statement in _follow(old, new)]
    with _put_back(targets, backup, entries):
        try:
            pgtools.load(backup / "database.dump", then=statements)
        except pgtools.ToolFailed as failed:
            raise Refused(f"The database could not be restored and is empty still: {failed}") from failed
    return Restored(backup, len(targets), moved, about["missing"])


def _find(source: Path) -> Path:
    if (source / "BACKUP.json").is_file():
        return source
    backups = sorted(path.parent for path in source.glob(f"{PREFIX}*/BACKUP.json"))
    if not backups:
        raise Refused(f"There is no backup of Hone in {source}.")
    return backups[-1]


def _checked(backup: Path) -> Entries:
    """A backup's entries, every file as the manifest says and none where a backup of ours has none."""
    try:
        entries: Entries = json.loads((backup / MANIFEST).read_text())
        foreign = [name for name in entries if not _ours(name) or (backup / name).is_symlink()]
        if foreign:
            raise Refused(f"{backup} was not made by Hone: it lists {foreign[0]}.")
        verify(backup)
        if not {"BACKUP.json", "database.dump"} <= set(entries):
            raise BrokenFolder(f"{backup} lacks its database or what it says of itself.")
    except BrokenFolder as problem:
        raise Refused(f"This backup is damaged: {problem}") from problem
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise Refused(f"This backup is damaged: {backup / MANIFEST} cannot be read.") from problem
    return entries


def _ours(name: str) -> bool:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or name != str(PurePosixPath(name)):
        return False
    return (
        name in ("BACKUP.json", "database.dump")
        or (len(parts) > 2 and parts[0] in ("files", "outside"))
        or (len(parts) == 2 and parts[0] == "secrets" and parts[1] in SECRETS)
    )


def _check_version(about: dict[str, Any], backup: Path) -> None:
    known = set(MigrationLoader(None).disk_migrations)
    newer = [f"{app}.{name}" for app, name in about.get("migrations", []) if (app, name) not in known]
    if about.get("format") != FORMAT or newer:
        what = newer[0] if newer else f"format {about.get('format')}"
        raise Refused(f"{backup} was made by a newer version of Hone ({what}): restore it with that version.")


def _check_empty() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM information_schema.tables "
            "WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
        )
        (tables,) = cursor.fetchone()
    if tables:
        where = "make clean-data" if settings.HONE_EMBEDDED_POSTGRES else "createdb, and DATABASE_URL"
        raise Refused(f"The database has {tables} tables already: a backup is restored into an empty one ({where}).")


def _moved(about: dict[str, Any], entries: Entries) -> dict[str, str]:
    """Model folders that were outside the data folder and are not where they were: they come into ours."""
    moved = {}
    for number, old in about["outside"].items():
        prefix = f"outside/{number}/"
        files = {name.removeprefix(prefix): entry for name, entry in entries.items() if name.startswith(prefix)}
        if not all(_same(Path(old) / name, entry) for name, entry in files.items()):
            moved[old] = f"models/{Path(old).name}"
    return moved


def _targets(about: dict[str, Any], entries: Entries, moved: dict[str, str]) -> dict[Path, str]:
    """Where each file goes that is not there yet.

    :raises Refused: when another file is there.
    """
    places = {f"outside/{number}/": moved.get(old) for number, old in about["outside"].items()}
    targets = {}
    for name, entry in entries.items():
        place: str | None
        if name.startswith(("files/", "secrets/")):
            place = name.split("/", 1)[1]
        elif name.startswith("outside/"):
            prefix = "/".join(name.split("/")[:2]) + "/"
            folder = places[prefix]
            place = None if folder is None else f"{folder}/{name.removeprefix(prefix)}"
        else:
            place = None
        if place is None:
            continue
        target = Path(settings.HONE_DATA_DIR) / place
        if not target.exists():
            targets[target] = name
        elif not _same(target, entry):
            raise Refused(f"{target} is there already, with other content: restore into an empty data folder.")
    return targets


def _same(path: Path, entry: dict[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == entry["bytes"] and file_sha256(path) == entry["sha256"]


def _check_room(targets: dict[Path, str], backup: Path, entries: Entries) -> None:
    wanted = sum(entries[name]["bytes"] for name in targets.values()) + ROOM_BESIDE
    Path(settings.HONE_DATA_DIR).mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.HONE_DATA_DIR).free
    if free < wanted:
        raise Refused(f"{settings.HONE_DATA_DIR} has {free / 1e9:.1f} GB free; {backup} needs {wanted / 1e9:.1f} GB.")


@contextlib.contextmanager
def _put_back(targets: dict[Path, str], backup: Path, entries: Entries) -> Iterator[None]:
    """Copy files to their places, and take them away again if what is done within fails."""
    staging = Path(settings.HONE_DATA_DIR) / ".restore.tmp"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(mode=0o700)
    made: list[Path] = []
    try:
        for number, name in enumerate(targets.values()):
            _copy(backup / name, staging / str(number), entries[name]["sha256"])
        for number, target in enumerate(targets):
            made += _make_folders(target.parent)
            os.rename(staging / str(number), target)
            made.append(target)
        yield
    except BaseException as problem:
        for path in reversed(made):
            path.rmdir() if path.is_dir() else path.unlink()
        if isinstance(problem, OSError) and is_disk_full(problem):
            raise Refused(f"The disk of {settings.HONE_DATA_DIR} became full; nothing was restored.") from problem
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _copy(source: Path, target: Path, sha256: str) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o600 if source.parent.name == "secrets" else 0o644)
    with open(target, "rb") as file:
        os.fsync(file.fileno())
    if file_sha256(target) != sha256:
        raise Refused(f"{source} changed while it was copied: try again.")


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and those above it that are missing; the new ones, outermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()][::-1]
    for path in missing:
        path.mkdir()
    return missing


def _follow(old: str, new: str) -> Iterator[str]:
    """Statements that make rows follow a model folder to its new place."""
    for model, column in REFERRING:
        yield (
            sql.SQL("UPDATE public.{table} SET {column} = {new} WHERE {column} = {old}")
            .format(
                table=sql.Identifier(model._meta.db_table),
                column=sql.Identifier(column),
                new=sql.Literal(new),
                old=sql.Literal(old),
            )
            .as_string()
        )
