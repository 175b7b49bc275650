"""Model folders in an archive: which there are, and how they come back to where rows look for them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from django.conf import settings
from django.utils.translation import gettext as _

from annotate.models import Generation, Project, RewardModel
from annotate.services import Refused
from annotate.services.archive.package import Package
from annotate.services.backup import ROOM_BESIDE, model_files
from annotate.services.files import located
from annotate.services.projects import default_model
from rewardmodel.publish import BrokenFolder, file_sha256, is_disk_full

BLOCK = 1 << 20
"""Bytes of a file that are copied at once."""
PLACES = ("runs", "models")
"""Folders of the data folder that hold model folders."""


@dataclass(frozen=True)
class Folder:
    """A model folder that goes into an archive."""

    name: str
    """Its number in the archive."""
    path: str
    """As rows name it."""
    location: Path
    files: dict[str, int]
    """Bytes by path below the folder."""


def folders_of(project: Project) -> list[Folder]:
    """The model folders that a project's rows name, checked, without the model that comes with Hone.

    :raises Refused: when one is missing or damaged.
    """
    models: list[Generation | RewardModel] = [
        *project.generations.order_by("number"),
        *project.reward_models.order_by("number"),
    ]
    folders: dict[str, Folder] = {}
    for model in models:
        path, location = model.weights_path, located(model.weights_path)
        if path in folders or location == default_model():
            continue
        try:
            found = model_files(location, model.manifest_sha256)
        except (BrokenFolder, OSError) as problem:
            raise Refused(
                _("%(model)s cannot come along: %(problem)s.") % {"model": model, "problem": str(problem).rstrip(".")}
            ) from problem
        files = {str(file.path.relative_to(location)): file.bytes for file in found}
        folders[path] = Folder(str(len(folders)), path, location, dict(sorted(files.items())))
    return list(folders.values())


@contextlib.contextmanager
def put_back(package: Package) -> Iterator[dict[str, str]]:
    """Bring an archive's model folders to their places, and take them away again if what is done within fails.

    :returns: paths of folders that had to go to another place: from what rows name to where they are.
    :raises Refused: when other files are in their places, or there is no room.
    """
    moved, targets = _targets(package)
    root = Path(settings.HONE_DATA_DIR)
    wanted = sum(package.members[name]["bytes"] for name in targets.values()) + ROOM_BESIDE
    if targets and shutil.disk_usage(root).free < wanted:
        raise Refused(f"{root} has no room: the weights need {wanted >> 20} MiB.")
    made: list[Path] = []
    try:
        for target, name in targets.items():
            for folder in [path for path in target.parents if not path.exists()][::-1]:
                folder.mkdir()
                made.append(folder)
            made.append(target)
            with package.open(name) as source, open(target, "xb") as file:
                _copy(source, file)
        yield moved
    except BaseException as problem:
        for path in reversed(made):
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        if isinstance(problem, OSError) and is_disk_full(problem):
            raise Refused(f"The disk of {root} became full; nothing was restored.") from problem
        raise


def _targets(package: Package) -> tuple[dict[str, str], dict[Path, str]]:
    """Where each file goes that is not there yet."""
    moved: dict[str, str] = {}
    targets: dict[Path, str] = {}
    for folder in package.weights:
        prefix = f"weights/{folder['name']}/"
        files = {name.removeprefix(prefix): name for name in package.members if name.startswith(prefix)}
        path = folder["path"]
        if not _may_go_to(path) and not _is_there(located(path), files, package):
            digest = hashlib.sha256("".join(package.members[name]["sha256"] for name in files.values()).encode())
            moved[path] = path = f"models/{PurePosixPath(path).name or 'model'}-{digest.hexdigest()[:12]}"
        for file, name in files.items():
            target = located(path) / file
            if not target.exists():
                targets[target] = name
            elif not _same(target, package.members[name]):
                raise Refused(f"{target} is there already, with other content.")
    return moved, targets


def _may_go_to(path: str) -> bool:
    """Whether an archive may write where a row says that weights lie: in the data folder, where such folders are."""
    parts = PurePosixPath(path).parts
    return len(parts) > 1 and parts[0] in PLACES and ".." not in parts and path == str(PurePosixPath(path))


def _is_there(folder: Path, files: dict[str, str], package: Package) -> bool:
    """Whether a folder elsewhere has all of the files."""
    roots = [Path(root).resolve() for root in settings.HONE_MODEL_ROOTS]
    allowed = any(folder.resolve().is_relative_to(root) for root in roots)
    return allowed and all(_same(folder / file, package.members[name]) for file, name in files.items())


def _same(path: Path, entry: dict[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == entry["bytes"] and file_sha256(path) == entry["sha256"]


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    while block := source.read(BLOCK):
        target.write(block)
    target.flush()
    os.fsync(target.fileno())
