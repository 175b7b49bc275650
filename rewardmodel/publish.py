"""Files and folders that appear whole or not at all, and folders that can be checked years later.

What is written goes to a temporary name, is flushed to the disk, and is renamed; a folder carries a
manifest of its files' hashes. Nothing here imports torch or Django.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rewardmodel.contract import JobError

MANIFEST = "MANIFEST.json"


class BrokenFolder(JobError):
    """A published folder does not match its manifest."""


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Replace a file so that a reader, even after a power cut, sees the old one or the whole new one.

    :returns: the temporary path to write to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _fsync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _fsync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON as a whole file; see :func:`whole_file`."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def publish(folder: Path, fill: Callable[[Path], object]) -> str:
    """Make a folder appear whole or not at all, with a manifest of its files' hashes.

    :param folder: the final path; what is there is replaced.
    :param fill: called with a temporary folder to write the files into.
    :returns: the SHA-256 of the manifest, which names the folder's whole content.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    replaced = folder.with_name(f".{folder.name}.{os.getpid()}.old.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        fill(temporary)
        files = _files(temporary)
        for path in files:
            _fsync(path)
        manifest = {str(p.relative_to(temporary)): {"sha256": file_sha256(p), "bytes": p.stat().st_size} for p in files}
        write_json(temporary / MANIFEST, manifest)
        if folder.exists():
            os.rename(folder, replaced)  # at once: a folder that is being deleted may look whole for a while
        os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _fsync(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)
    return file_sha256(folder / MANIFEST)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def verify(folder: Path, manifest_sha256: str | None = None) -> str:
    """Check a published folder against its manifest.

    :param manifest_sha256: the hash that the manifest itself must have, where it is known.
    :returns: the hash of the manifest.
    :raises BrokenFolder: naming the first file that is missing, differs or was added.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BrokenFolder(f"{folder} has no {MANIFEST}: it was not published whole.")
    found = file_sha256(path)
    if manifest_sha256 is not None and found != manifest_sha256:
        raise BrokenFolder(f"{path} is not the manifest that was recorded for it.")
    try:
        entries = {
            folder / name: (entry["bytes"], entry["sha256"]) for name, entry in json.loads(path.read_text()).items()
        }
    except (ValueError, AttributeError, TypeError, KeyError):
        raise BrokenFolder(f"{path} is not a manifest.") from None
    for file, (size, sha256) in entries.items():
        if not file.is_file() or file.stat().st_size != size or file_sha256(file) != sha256:
            raise BrokenFolder(f"{file} is missing or differs from its manifest.")
    for file in _files(folder):
        if file not in entries and file != path:
            raise BrokenFolder(f"{file} is not in the manifest of its folder.")
    return found


def is_disk_full(problem: BaseException) -> bool:
    """Whether an error says that there is no room to write; safetensors and Arrow say so in words of their own."""
    return getattr(problem, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(problem)
