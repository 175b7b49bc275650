"""Imports as a lead decides on them: uploaded, read another way, confirmed, discarded or undone.

What is short is done in the request that asks for it; the rest is a worker's (:mod:`annotate.services.import_stages`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.formats.reading.catalogue import BY_NAME
from annotate.formats.reading.opening import GZIP, PARQUET
from annotate.models import Import, Project, User
from annotate.services import Conflict, Refused, audit
from annotate.services.import_stages import call_worker, carry_on, project_has_made_something_of, record, store
from annotate.services.importing import OnProgress, Report, Request, bring, file_hash
from annotate.services.uploaded import forget_file, keep_file, path_of

AT_ONCE_BYTES = 2 * 2**20
"""Of a file that the request which brings it also checks; larger ones are a worker's."""
PACKED = 20
"""Times that a packed file may grow."""
AT_ONCE_RECORDS = 5000
"""That the request which asks for it also writes or takes back."""
LONGEST_NAME = 80


def source_name(file_name: str) -> str:
    """What data are called that nobody named: the file's name without its endings."""
    return (
        re.sub(r"(\.(jsonl|ndjson|json|csv|parquet|txt|gz))+$", "", Path(file_name).name, flags=re.I)[:LONGEST_NAME]
        or "file"
    )


def bring_file(
    *,
    project: Project,
    request: Request,
    licence: str,
    actor: User | None,
    on_progress: OnProgress | None = None,
) -> Report:
    """Import a file that lies on this machine, and keep in the history what it was.

    :raises Refused: as :func:`~annotate.services.importing.bring` does; then nothing was written.
    """
    _check_words(request.source, licence)
    sha256 = file_hash(request.path)
    with transaction.atomic():
        made = Import.objects.create(
            project=project,
            state=Import.State.WRITING,
            file_name=_file_name(request.path.name),
            size=request.path.stat().st_size,
            sha256=sha256,
            format=request.format.name,
            mapping=dict(request.mapping),
            skip_bad=request.skip_bad,
            source=request.source,
            licence=licence,
            created_by=actor,
        )
        report = bring(project=project, request=request, batch=made.batch, on_progress=on_progress)
        store(made, report)
        made.state, made.progress = Import.State.DONE, 1
        made.save()
        Import.objects.filter(pk=made.pk).update(finished_at=Now())
        record(made, actor)
    return report


def receive(*, project: Project, upload: UploadedFile, source: str, licence: str, actor: User) -> Import:
    """Keep an uploaded file and have it checked.

    :raises Refused: when it is empty or too large, a word is too long, or the disk is full.
    """
    name = _file_name(upload.name or "")
    source = source or source_name(name)
    _check_words(source, licence)
    if not upload.size:
        raise Refused(_("The file is empty."), place="file")
    if upload.size > settings.MAX_DATA_BYTES:
        raise Refused(
            _("The file is larger than %(most)d MiB: bring it with manage.py import_comparisons.")
            % {"most": settings.MAX_DATA_BYTES >> 20},
            place="file",
        )
    with transaction.atomic():
        made = Import.objects.create(
            project=project, file_name=name, size=upload.size, source=source, licence=licence, created_by=actor
        )
        keep_file(made, upload)
        made.sha256 = file_hash(path_of(made))
        made.save(update_fields=["sha256"])
        audit.record("uploaded data", made, actor=actor, project=project, file=name, sha256=made.sha256)
    _go_on(made)
    return made


def change(*, of: Import, actor: User, format: str, mapping: Mapping[str, str], skip_bad: bool) -> None:
    """Read a file another way than it was recognised, and have it checked again.

    :raises Refused: when there is no such format, or the import does not wait for anybody.
    """
    if format not in BY_NAME:
        raise Refused(_("Choose a format."), place="format")
    columns = set(BY_NAME[format].columns)
    kept = {name: column for name, column in mapping.items() if name in columns and column}
    fields = {"format": format, "mapping": kept, "skip_bad": skip_bad}
    with transaction.atomic():
        _move(of, [Import.State.READY, Import.State.FAILED], Import.State.CHECKING, **fields)
        audit.record("changed import", of, actor=actor, project=of.project, **fields)
    _go_on(of)


def confirm(*, of: Import, actor: User) -> None:
    """Write what was checked.

    :raises Refused: when it holds bad rows that are not to be skipped, or nothing, or does not wait for anybody.
    """
    if of.counts.get("bad") and not of.skip_bad:
        raise Refused(_("Bad rows stand in the way: put them right, or leave them out."))
    if not of.counts.get("statements"):
        raise Refused(_("There is nothing to import."))
    with transaction.atomic():
        _move(of, [Import.State.READY], Import.State.WRITING)
        audit.record("confirmed import", of, actor=actor, project=of.project)
    _go_on(of)


def take_back(*, of: Import, actor: User) -> None:
    """Discard a file that was not imported, or undo an import of whose rows nothing was made.

    :raises Refused: when a snapshot holds rows of it, or somebody is at work on it.
    """
    with transaction.atomic():
        if of.state == Import.State.DONE:
            if project_has_made_something_of(of):
                raise Refused(_("A snapshot holds rows of this import, so it can be undone no more."))
            _move(of, [Import.State.DONE], Import.State.UNDOING)
            audit.record("undid import", of, actor=actor, project=of.project)
        else:
            _move(of, [Import.State.READY, Import.State.FAILED], Import.State.DISCARDED)
            audit.record("discarded import", of, actor=actor, project=of.project)
    if of.state == Import.State.DISCARDED:
        forget_file(of)
    else:
        _go_on(of)


def _go_on(of: Import) -> None:
    """Do the next stage at once where there is little to do, and by a worker where there is more."""
    if _is_short(of):
        carry_on(of.pk)
    of.refresh_from_db()
    if of.active:
        call_worker(of)


def _is_short(of: Import) -> bool:
    if of.state != Import.State.CHECKING:
        return of.counts.get("records", 0) <= AT_ONCE_RECORDS
    if not path_of(of).exists():
        return True  # a restored site has no uploads; the check will say so
    with open(path_of(of), "rb") as file:
        packed = file.read(4).startswith((GZIP, PARQUET))
    return of.size * (PACKED if packed else 1) <= AT_ONCE_BYTES


def _move(of: Import, allowed: list[Import.State], state: Import.State, **fields: Any) -> None:
    moved = Import.objects.filter(pk=of.pk, state__in=allowed).update(
        state=state, attempt=0, heartbeat_at=None, error="", finished_at=None, **fields
    )
    if not moved:
        raise Conflict(_("Somebody was faster: reload the page to see how it stands."))
    of.refresh_from_db()


def _file_name(name: str) -> str:
    kept = "".join(c for c in Path(name.replace("\\", "/")).name if c.isprintable() and not 0xD800 <= ord(c) <= 0xDFFF)
    return kept[:200] or "file"


def _check_words(source: str, licence: str) -> None:
    for place, text in (("source", source), ("licence", licence)):
        if len(text) > LONGEST_NAME or not text.isprintable():
            raise Refused(_("At most %(most)d characters in one line.") % {"most": LONGEST_NAME}, place=place)
