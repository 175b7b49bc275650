"""Archives that leads asked for on a page: written by a light worker, kept for a week, then deleted."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from annotate.models import BackgroundTask, Project, User
from annotate.services.archive.writing import make_archive
from annotate.services.heartbeat import OnProgress

KIND = "archive"
KEPT_DAYS = 7


@dataclass(frozen=True)
class Kept:
    """An archive that can be fetched."""

    task: BackgroundTask
    path: Path
    bytes: int


def write(project: Project, asked: dict[str, Any], actor: User | None, on_progress: OnProgress) -> dict[str, Any]:
    """Write an archive: asked for by ``weights``, it comes as ``file``, ``sha256`` and ``rows``."""
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{secrets.token_hex(16)}.zip"
    made = make_archive(project=project, path=path, actor=actor, weights=asked["weights"], on_progress=on_progress)
    return {"file": path.name, "sha256": made.sha256, "rows": made.rows}


def kept(project: Project) -> list[Kept]:
    """A project's archives that can be fetched, the newest first."""
    done = project.background_tasks.filter(kind=KIND, state=BackgroundTask.State.DONE).select_related("created_by")
    return [found for task in done if (found := kept_of(task))]


def kept_of(task: BackgroundTask) -> Kept | None:
    """The archive that a task made; None where there is none, or none any more."""
    if task.kind != KIND or task.state != BackgroundTask.State.DONE:
        return None
    path = _folder() / task.result["file"]
    return Kept(task, path, path.stat().st_size) if path.is_file() else None


def sweep() -> None:
    """Delete archives whose time is over, and what lost workers left of others."""
    for path in _folder().glob("*"):
        if path.stat().st_mtime < time.time() - KEPT_DAYS * 86_400:
            path.unlink(missing_ok=True)


def _folder() -> Path:
    return Path(settings.HONE_DATA_DIR) / "archives"
