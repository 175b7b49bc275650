"""The run directory: how a supervisor and a job agree through plain files.

A job is a process of its own. It reads ``spec.json`` and ``data/``, tells of itself in
``attempt-N/progress.jsonl``, publishes folders atomically with a manifest of hashes, and ends by
writing ``result.json``. The supervisor touches ``lease`` while it lives and creates ``stop`` to ask
for an orderly end. Run by hand on another machine, a job finds no ``lease`` and runs until done.

Nothing here imports torch or Django.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from rewardmodel.contract import JobError

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_RESUMABLE = 75
"""Stopped before the end in a state from which it can go on (EX_TEMPFAIL of sysexits.h)."""

LEASE_SECONDS = 30.0
LEASE_POLL_SECONDS = 5.0
CHECKPOINTS_KEPT = 2
MANIFEST = "MANIFEST.json"


class Stopped(Exception):
    """The job was asked to stop and has saved what it needs to go on."""


class BrokenFolder(JobError):
    """A published folder does not match its manifest."""


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the whole new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _fsync_folder(path.parent)


def _fsync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def publish(folder: Path, fill: Callable[[Path], None]) -> str:
    """Make a folder appear whole or not at all, with a manifest of its files' hashes.

    :param folder: the final path; it is replaced if it exists without a valid manifest.
    :param fill: called with a temporary folder to write the files into.
    :returns: the SHA-256 of the manifest, which names the folder's whole content.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        fill(temporary)
        files = sorted(p for p in temporary.rglob("*") if p.is_file())
        for path in files:
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        manifest = {str(p.relative_to(temporary)): {"sha256": file_sha256(p), "bytes": p.stat().st_size} for p in files}
        write_json(temporary / MANIFEST, manifest)
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _fsync_folder(folder.parent)
    return file_sha256(folder / MANIFEST)


def verify(folder: Path, manifest_sha256: str | None = None) -> str:
    """Check a published folder against its manifest.

    :param manifest_sha256: the hash that the manifest itself must have, where it is known.
    :returns: the hash of the manifest.
    :raises BrokenFolder: naming the first file that is missing or differs.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BrokenFolder(f"{folder} has no {MANIFEST}: it was not published whole.")
    found = file_sha256(path)
    if manifest_sha256 is not None and found != manifest_sha256:
        raise BrokenFolder(f"{path} is not the manifest that was recorded for it.")
    for name, entry in json.loads(path.read_text()).items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != entry["bytes"] or file_sha256(file) != entry["sha256"]:
            raise BrokenFolder(f"{file} is missing or differs from its manifest.")
    return found


class RunDir:
    """A job's view of its run directory, held under an exclusive lock by :func:`open_run`."""

    def __init__(self, path: Path, attempt: int) -> None:
        self.path = path
        self.attempt = attempt
        self.attempt_path = path / f"attempt-{attempt}"
        self.attempt_path.mkdir(parents=True, exist_ok=True)
        self._progress = open(self.attempt_path / "progress.jsonl", "a", encoding="utf-8")  # noqa: SIM115

    def progress(self, stage: str, done: float = 0, total: float = 0, message: str = "", **metrics: Any) -> None:
        """Append one line of progress.

        :param stage: a short word for what is being done, such as ``train``.
        :param done: units done of this stage.
        :param total: units in all, 0 where unknown.
        :param message: one sentence for people.
        :param metrics: plain values for charts and records, such as ``loss=0.6``.
        """
        line = {"at": time.time(), "stage": stage, "done": done, "total": total, "message": message, "metrics": metrics}
        self._progress.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._progress.flush()

    @property
    def stop_requested(self) -> bool:
        """Whether the supervisor asked for an orderly end."""
        return (self.path / "stop").exists()

    def publish_checkpoint(self, step: int, fill: Callable[[Path], None]) -> Path:
        """Publish ``checkpoints/step-N`` and delete all but the newest two."""
        folder = self.path / "checkpoints" / f"step-{step}"
        folder.parent.mkdir(exist_ok=True)
        publish(folder, fill)
        for old in self._checkpoints()[:-CHECKPOINTS_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return folder

    def latest_checkpoint(self) -> Path | None:
        """The newest checkpoint that matches its manifest, or None."""
        for folder in reversed(self._checkpoints()):
            with contextlib.suppress(BrokenFolder):
                verify(folder)
                return folder
        return None

    def _checkpoints(self) -> list[Path]:
        found = [p for p in (self.path / "checkpoints").glob("step-*") if p.name[5:].isdigit()]
        return sorted(found, key=lambda p: int(p.name[5:]))

    def finish(self, result: dict[str, Any]) -> None:
        """Write ``result.json``, the last act of a job that succeeded."""
        write_json(self.path / "result.json", result)

    def close(self) -> None:
        """Close the progress file."""
        self._progress.close()


@contextlib.contextmanager
def open_run(path: Path, attempt: int | None = None) -> Iterator[RunDir]:
    """Hold a run directory exclusively for the length of a job.

    :param attempt: the supervisor's number of this attempt; the next free one when None.
    :raises JobError: when there is no such directory, or another process holds it.
    """
    if not path.is_dir():
        raise JobError(f"{path} is not a run directory: there is no such folder.")
    if attempt is None:
        attempt = 1 + max((int(p.name[8:]) for p in path.glob("attempt-*") if p.name[8:].isdigit()), default=0)
    with open(path / "lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JobError(f"Another process is already working in {path}.") from None
        run = RunDir(path, attempt)
        watcher = threading.Thread(target=_watch_lease, args=(path / "lease",), daemon=True)
        watcher.start()
        try:
            yield run
        finally:
            run.close()


def is_held(path: Path) -> bool:
    """Whether a process is working in a run directory."""
    try:
        with open(path / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _watch_lease(lease: Path) -> None:
    """End this process and its children once a lease that existed is no longer renewed."""
    if not lease.exists():
        return
    while True:
        time.sleep(LEASE_POLL_SECONDS)
        try:
            age = time.time() - lease.stat().st_mtime
        except FileNotFoundError:
            age = float("inf")
        if age > LEASE_SECONDS:
            print(f"The supervisor has not renewed the lease for {age:.0f} s; stopping.", file=sys.stderr, flush=True)
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            os._exit(EXIT_RESUMABLE)


def run_job(main: Callable[[RunDir], None], path: Path, attempt: int | None) -> int:
    """Run a job's main function in its directory and translate how it ended into an exit status.

    A :class:`JobError` is a sentence for people and is printed without a traceback.

    :returns: 0 when done, 75 when stopped but resumable, 1 when failed.
    """
    try:
        with open_run(path, attempt) as run:
            main(run)
    except Stopped:
        return EXIT_RESUMABLE
    except JobError as problem:
        print(f"error: {problem}", file=sys.stderr, flush=True)
        return EXIT_FAILED
    except Exception:
        traceback.print_exc()
        return EXIT_FAILED
    return EXIT_DONE
