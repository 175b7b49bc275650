"""Bringing a project back from an archive: all of it in one transaction, or nothing.

The manifest and every hash are checked first. Rows are written by COPY, some thousand at a time; whatever the database
refuses is told with the member and the line. In the end every snapshot is made again and must have its hash.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from django.core.exceptions import ValidationError
from django.db import transaction

from annotate.models import Generation, Origin, Project, RewardModel, User
from annotate.services import Refused, audit
from annotate.services.archive.arriving import free_mask, ranges_of, reserve, reserve_batches
from annotate.services.archive.columns import Arrival
from annotate.services.archive.copying import Loader
from annotate.services.archive.kinds import KINDS, PEOPLE, PROJECT
from annotate.services.archive.package import Package
from annotate.services.archive.people import bring_people
from annotate.services.archive.weights import put_back
from annotate.services.heartbeat import OnProgress
from annotate.services.numbering import Numbering
from annotate.services.snapshots import content_sha256
from rewardmodel.contract import JobError


@dataclass(frozen=True)
class Restored:
    """A project that came back."""

    project: Project
    rows: Counter[str]
    """By kind."""
    people: list[str]
    """Names of the accounts that were made."""
    moved: dict[str, str]
    """Model folders that went to another place than the one that rows named: from where to where."""


def restore_project(
    *, path: Path, slug: str = "", actor: User | None = None, on_progress: OnProgress | None = None
) -> Restored:
    """Bring a project back from an archive.

    :param slug: another one than it had.
    :param on_progress: told the kind of row, and how much is done of how much.
    :raises Refused: when the archive is damaged, newer than this version or no archive, or meets what is here already.
    """
    tell = on_progress or (lambda _stage, _done, _total: None)
    with Package(path) as package:
        slug = slug or package.slug
        _check_slug(slug)
        _check_members(package)
        _check_content(package, tell)
        ranges = ranges_of(package)
        numbering = Numbering(reserve(ranges), free_mask(package))
        with put_back(package) as moved, transaction.atomic():
            users, people = bring_people(package)
            loader = Loader(package, Arrival(numbering, ranges, users), slug, tell)
            rows = loader.load()
            project = Project.objects.get(slug=slug)
            _follow(project, moved)
            _finish(project, package, numbering, users)
            _check_snapshots(project, tell)
            audit.record("restored", project, actor=actor, project=project, sha256=package.sha256)
    return Restored(project, rows, people, moved)


def _check_slug(slug: str) -> None:
    try:
        Project._meta.get_field("slug").clean(slug, None)
    except ValidationError as problem:
        raise Refused(f"The name {slug} will not do: {problem.messages[0]}", place="slug") from problem
    if Project.objects.filter(slug=slug).exists():
        raise Refused(f"There is a project {slug} already.", place="slug")


def _check_members(package: Package) -> None:
    """Find out whether this version knows all that is in an archive."""
    known = {PEOPLE, *(kind.member for kind in KINDS)}
    folders = tuple(f"weights/{folder['name']}/" for folder in package.weights)
    for name in package.members:
        if name not in known and not name.startswith(folders):
            raise Refused(f"The archive was made by a newer version of Hone: this one does not know {name}.")
    for name in (PEOPLE, PROJECT.member):
        if name not in package.members:
            raise Refused(f"The archive lacks {name}.")


def _check_content(package: Package, tell: OnProgress) -> None:
    done, total = 0, sum(entry["bytes"] for entry in package.members.values())

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        tell("check", done, total)

    package.check(on_bytes)


def _follow(project: Project, moved: dict[str, str]) -> None:
    """Have rows name model folders where they are now."""
    for old, new in moved.items():
        Project.objects.filter(pk=project.pk, base_model=old).update(base_model=new)
        for model in (Generation, RewardModel):
            model._default_manager.filter(project=project, weights_path=old).update(weights_path=new)


def _finish(project: Project, package: Package, numbering: Numbering, users: dict[int, int]) -> None:
    """Keep how the rows were numbered, and the names of imports from being given out again."""
    Origin.objects.create(
        project=project,
        archive_sha256=package.sha256,
        shifts={kind: shift for kind, shift in numbering.shifts.items() if shift},
        mask=numbering.mask,
        users={str(here): there for there, here in users.items()},
    )
    reserve_batches(project)


def _check_snapshots(project: Project, tell: OnProgress) -> None:
    """Make every snapshot again and compare its hash."""
    snapshots = list(project.snapshots.order_by("pk"))
    for number, snapshot in enumerate(snapshots, start=1):
        try:
            found = content_sha256(snapshot)
        except (JobError, KeyError, TypeError, ValueError) as problem:
            raise Refused(f"The snapshot {snapshot.name} cannot be made again.") from problem
        if found != snapshot.sha256:
            raise Refused(f"The snapshot {snapshot.name} would not have its hash again; nothing was restored.")
        tell("snapshots", number, len(snapshots))
