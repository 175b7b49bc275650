"""A backup: the database at one moment, and every file that its rows refer to.

Each backup is a folder that is whole by itself and appears whole or not at all, with a manifest of hashes::

    FOLDER/backup-20261122T093000Z/MANIFEST.json   sha256 and size of everything below
                                   BACKUP.json     when, of which version, which folders were outside or missing
                                   database.dump   PostgreSQL's custom format
                                   files/…         model folders and runs, by their path under the data folder
                                   outside/N/…     model folders that lie elsewhere
                                   secrets/…       the demo's key and passwords, where there are any

Files that an earlier backup in FOLDER has with the same content are linked, not copied, so that each further
backup takes the room of what is new, and any may be deleted. Not in it: the default model, which set-up unpacks
again; a run that is still under way, which starts again from its beginning; checkpoints; the site's own logs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings
from django.db import connection, transaction

from annotate import pgtools
from annotate.models import Generation, RewardModel, Run
from annotate.services import Conflict, Refused
from annotate.services.files import located, run_folder, stored
from annotate.services.projects import default_model
from rewardmodel.publish import MANIFEST, BrokenFolder, file_sha256, is_disk_full, publish, verify, write_json

FORMAT = 1
PREFIX = "backup-"
SECRETS = ("secret_key", "demo_sign_ins.json")
OF_A_RUN = ("spec.json", "result.json", "data/**/*", "output/**/*", "attempt-*/*")
ROOM_BESIDE = 64 << 20
"""Bytes that must stay free."""


@dataclass(frozen=True)
class Source:
    """A file to be backed up."""

    path: Path
    sha256: str
    bytes: int


@dataclass
class Contents:
    """What belongs into a backup beside the database."""

    files: dict[str, Source] = field(default_factory=dict)
    """By name within the backup."""
    outside: dict[str, str] = field(default_factory=dict)
    """Number below ``outside/`` of each model folder that lies elsewhere: where that is."""
    missing: list[str] = field(default_factory=list)
    """A sentence for each folder that is missing or damaged."""


@dataclass(frozen=True)
class Backup:
    """A backup that was made."""

    path: Path
    copied_bytes: int
    linked_bytes: int
    missing: list[str]


def make_backup(*, folder: Path, despite_damage: bool = False) -> Backup:
    """Add a backup to a folder. The site may go on working meanwhile.

    :param folder: where backups are kept, made if need be; readable by its owner only.
    :param despite_damage: whether to go on without model folders that are missing or damaged.
    :raises Refused: when a model folder is missing or damaged, there is no room, or PostgreSQL's programs fail.
    :raises Conflict: when another backup is being added.
    """
    with _private(), _alone(folder), _disk_full_said(folder), transaction.atomic(durable=True):
        snapshot = _snapshot()
        contents = _contents()
        if contents.missing and not despite_damage:
            raise Refused(
                f"{contents.missing[0]} Bring it back, or say --despite-damage to make a backup without "
                f"{'it' if len(contents.missing) == 1 else f'these {len(contents.missing)} folders'}."
            )
        earlier = _earlier(folder)
        old = {name: earlier[file.sha256] for name, file in contents.files.items() if file.sha256 in earlier}
        copied = sum(file.bytes for name, file in contents.files.items() if name not in old)
        _check_room(folder, copied + _database_bytes())

        def fill(target: Path) -> None:
            pgtools.dump(target / "database.dump", snapshot=snapshot)
            for name, source in contents.files.items():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                _put(source, target / name, old.get(name))
            _copy_secrets(target / "secrets")
            write_json(target / "BACKUP.json", _about(contents))

        path = folder / f"{PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        if path.exists():
            raise Conflict(f"{path} was made within this second: try again.")
        try:
            publish(path, fill)
        except pgtools.ToolFailed as failed:
            raise Refused(str(failed)) from failed
    linked = sum(contents.files[name].bytes for name in old)
    return Backup(path, copied, linked, contents.missing)


@contextlib.contextmanager
def _private() -> Iterator[None]:
    """Make files that only their owner reads."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder, free of what a killed backup left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "a")  # noqa: SIM115
    except OSError as problem:
        raise Refused(f"Backups cannot be kept in {folder}: {problem.strerror}.") from problem
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"Another backup is being added to {folder}: wait for it.") from None
        for leftover in folder.glob(f".{PREFIX}*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


@contextlib.contextmanager
def _disk_full_said(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        if not is_disk_full(problem):
            raise
        raise Refused(f"The disk became full; nothing was added to {folder}.") from problem


def _snapshot() -> str:
    """Fix the state that this transaction sees, and name it for pg_dump."""
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        cursor.execute("SELECT pg_export_snapshot()")
        return str(cursor.fetchone()[0])


def _database_bytes() -> int:
    """Size of the database on its server: more than the dump's, which is compressed and has no indexes."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        return int(cursor.fetchone()[0])


def _contents() -> Contents:
    contents = Contents()
    models = [(str(model), model.weights_path, model.manifest_sha256) for model in _models()]
    for name, path, manifest in {path: (name, path, manifest) for name, path, manifest in models}.values():
        folder = located(path)
        if folder == default_model():
            continue
        try:
            found = model_files(folder, manifest)
        except (BrokenFolder, OSError) as problem:
            contents.missing.append(f"{name} cannot be backed up: {str(problem).rstrip('.')}.")
            continue
        within = _place(folder, contents)
        contents.files |= {f"{within}/{file.path.relative_to(folder)}": file for file in found}
    for run in Run.objects.filter(finished_at__isnull=False):
        for file in _run_files(run_folder(run)):
            name = f"files/{stored(file)}"
            if name not in contents.files:
                contents.files[name] = _source(file)
    return contents


def _run_files(folder: Path) -> list[Path]:
    found = [path for pattern in OF_A_RUN for path in sorted(folder.glob(pattern)) if path.is_file()]
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _models() -> Iterator[Generation | RewardModel]:
    yield from Generation.objects.select_related("project").order_by("pk")
    yield from RewardModel.objects.select_related("project").order_by("pk")


def model_files(folder: Path, manifest_sha256: str) -> list[Source]:
    """The files of a model folder, checked against its manifest where it has one of ours.

    :raises BrokenFolder: when it is missing or damaged.
    """
    if not manifest_sha256:
        if not (folder / "config.json").is_file():
            raise BrokenFolder(f"there is no model in {folder}.")
        return [_source(path) for path in sorted(folder.rglob("*")) if path.is_file()]
    verify(folder, manifest_sha256)
    listed = json.loads((folder / MANIFEST).read_text())
    files = [Source(folder / name, entry["sha256"], entry["bytes"]) for name, entry in listed.items()]
    return [*files, _source(folder / MANIFEST)]


def _source(path: Path) -> Source:
    return Source(path, file_sha256(path), path.stat().st_size)


def _place(folder: Path, contents: Contents) -> str:
    """Where in the backup a model folder goes."""
    path = stored(folder)
    if not Path(path).is_absolute():
        return f"files/{path}"
    number = str(len(contents.outside))
    contents.outside[number] = path
    return f"outside/{number}"


def _earlier(folder: Path) -> dict[str, Path]:
    """Files of the backups that are there, by hash; the newest of equal ones."""
    found = {}
    for manifest in sorted(folder.glob(f"{PREFIX}*/{MANIFEST}")):
        with contextlib.suppress(ValueError, AttributeError, KeyError, TypeError):
            for name, entry in json.loads(manifest.read_text()).items():
                found[entry["sha256"]] = manifest.parent / name
    return found


def _put(source: Source, target: Path, earlier: Path | None) -> None:
    """Link a file to an earlier copy of it if that is still good, else copy it, and see that it arrived."""
    if earlier is not None and earlier.is_file() and file_sha256(earlier) == source.sha256:
        with contextlib.suppress(OSError):  # a file system without links
            os.link(earlier, target)
            return
    shutil.copyfile(source.path, target)
    if file_sha256(target) != source.sha256:
        raise Refused(f"{source.path} changed while it was copied: try again.")


def _copy_secrets(target: Path) -> None:
    for name in SECRETS:
        if (settings.HONE_DATA_DIR / name).is_file():
            target.mkdir(exist_ok=True)
            shutil.copyfile(settings.HONE_DATA_DIR / name, target / name)


def _about(contents: Contents) -> dict[str, object]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT app, name FROM django_migrations ORDER BY app, name")
        migrations = [list(row) for row in cursor.fetchall()]
    return {
        "format": FORMAT,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "migrations": migrations,
        "outside": contents.outside,
        "missing": contents.missing,
    }


def _check_room(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted + ROOM_BESIDE:
        raise Refused(
            f"{folder} has {free / 1e9:.1f} GB free; this backup may take {(wanted + ROOM_BESIDE) / 1e9:.1f} GB."
        )
