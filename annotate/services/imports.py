"""Imports from upload to history: checked, confirmed by a lead, written, and perhaps undone.

Whoever works on an import claims it and shows a heartbeat; one that stops is begun again by the sweep, three times at
most. Since every stage is one transaction, or writes nothing but the import's own row, nothing is ever half done.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.formats.reading.catalogue import BY_NAME, recognise
from annotate.formats.reading.opening import GZIP, PARQUET
from annotate.formats.reading.problems import Unreadable
from annotate.models import Import, Project, User
from annotate.services import Conflict, Refused, audit
from annotate.services.heartbeat import beating, unattended
from annotate.services.importing import OnProgress, Report, Request, bring, check, file_hash
from annotate.services.undoing import remove

log = logging.getLogger(__name__)

AT_ONCE_BYTES = 2 * 2**20
"""Of a file that the request which brings it also checks; larger ones are a worker's."""
PACKED = 20
"""Times that a packed file may grow."""
AT_ONCE_RECORDS = 5000
"""That the request which asks for it also writes or takes back."""
MAX_ATTEMPTS = 3
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
        _store(made, report)
        made.state, made.progress = Import.State.DONE, 1
        made.save()
        Import.objects.filter(pk=made.pk).update(finished_at=Now())
        _record(made, actor)
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
        path = path_of(made)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as file:
                for piece in upload.chunks():
                    file.write(piece)
        except OSError as problem:
            path.unlink(missing_ok=True)
            raise Refused(
                _("The file cannot be kept (%(problem)s).") % {"problem": problem.strerror}, place="file"
            ) from problem
        made.sha256 = file_hash(path)
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
        _forget_file(of)
    else:
        _go_on(of)


def project_has_made_something_of(of: Import) -> bool:
    """Whether a snapshot holds a pair of an import."""
    return of.project.comparisons.filter(batch=of.batch, snapshots__isnull=False).exists()


def carry_on(pk: int) -> None:
    """Do what an import waits for, unless somebody is at it, or at another one."""
    if Import.objects.filter(state__in=_ACTIVE).exclude(unattended()).exists():
        return  # the sweep rings again
    claimed = Import.objects.filter(unattended(), pk=pk, state__in=_ACTIVE)
    if not claimed.update(attempt=F("attempt") + 1, heartbeat_at=Now(), progress=0):
        return
    of = Import.objects.select_related("project", "created_by").get(pk=pk)
    try:
        with beating(_mine(of), told := {"progress": 0.0}):
            _STAGES[Import.State(of.state)](of, lambda share: told.update(progress=share))
    except Refused as refusal:
        _end(of, Import.State.FAILED, error=str(refusal))
    except _TakenOver:
        log.warning("import %s attempt %d was taken over", of.pk, of.attempt)
    except Exception as problem:
        log.exception("import %s failed", of.pk)
        _end(
            of,
            Import.State.FAILED,
            error=_("Hone failed to carry out this import: %(problem)s.") % {"problem": problem},
        )


def sweep() -> list[Import]:
    """Find imports that nobody works on; one that was lost three times has failed.

    :returns: the imports to ring for.
    """
    waiting = Import.objects.filter(unattended(), state__in=_ACTIVE)
    waiting.filter(attempt__gte=MAX_ATTEMPTS).exclude(state=Import.State.UNDOING).update(
        state=Import.State.FAILED,
        heartbeat_at=None,
        finished_at=Now(),
        error=_("The import lost its worker %(count)d times and was given up.") % {"count": MAX_ATTEMPTS},
    )
    return list(waiting.order_by("created_at")[:1])


def call_worker(of: Import) -> None:
    """Tell the workers that an import waits, once the current transaction is committed."""
    from annotate.tasks import carry_on_import

    def ring() -> None:
        try:
            carry_on_import.delay(of.pk)
        except carry_on_import.OperationalError:
            log.warning("The broker cannot be reached; import %s waits for the next sweep.", of.pk)

    transaction.on_commit(lambda: threading.Thread(target=ring, daemon=True).start())


def path_of(of: Import) -> Path:
    """Where an uploaded file lies."""
    return Path(settings.IMPORTS_DIR) / str(of.pk)


class _TakenOver(Exception):
    """Somebody else has claimed the import meanwhile."""


_ACTIVE = [Import.State.CHECKING, Import.State.WRITING, Import.State.UNDOING]


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


def _request(of: Import) -> Request:
    return Request(path_of(of), BY_NAME[of.format], of.source, of.mapping, of.skip_bad)


def _check(of: Import, on_progress: OnProgress) -> None:
    if not of.format:
        try:
            found = recognise(path_of(of))
        except Unreadable as problem:
            raise Refused(str(problem)) from problem
        of.format = found.format.name if found.format else ""
        of.recognised = {**asdict(found), "format": of.format}
    report = check(_request(of), on_progress) if of.format else Report()
    _store(of, report)
    _end(of, Import.State.READY, format=of.format, recognised=of.recognised, **_stored(report))


def _write(of: Import, on_progress: OnProgress) -> None:
    with transaction.atomic():
        report = bring(project=of.project, request=_request(of), batch=of.batch, on_progress=on_progress)
        _store(of, report)
        _end(of, Import.State.DONE, **_stored(report))
        _record(of, of.created_by)
    _forget_file(of)


def _undo(of: Import, on_progress: OnProgress) -> None:
    with transaction.atomic():
        Project.objects.select_for_update(no_key=True).get(pk=of.project_id)
        if project_has_made_something_of(of):
            _end(of, Import.State.DONE, error=_("A snapshot was taken of it meanwhile, so it was not undone."))
            return
        remove(of)
        _end(of, Import.State.UNDONE)


_STAGES = {Import.State.CHECKING: _check, Import.State.WRITING: _write, Import.State.UNDOING: _undo}


def _mine(of: Import) -> QuerySet[Import]:
    """The import's row, as long as this attempt is the one that works on it."""
    return Import.objects.filter(pk=of.pk, attempt=of.attempt, state=of.state)


def _end(of: Import, state: str, **fields: Any) -> None:
    """End a stage, if it is still this attempt's."""
    defaults = {"error": "", "heartbeat_at": None, "attempt": 0, "progress": 1.0, "finished_at": Now()}
    if not _mine(of).update(**{**defaults, **fields, "state": state}):
        raise _TakenOver


def _stored(report: Report) -> dict[str, Any]:
    return {"counts": dict(report.counts), "problems": report.problems, "preview": report.preview}


def _store(of: Import, report: Report) -> None:
    of.counts, of.problems, of.preview = dict(report.counts), report.problems, report.preview


def _record(of: Import, actor: User | None) -> None:
    facts = {name: of.counts[name] for name in ("new", "known", "changed", "left_out", "bad") if of.counts.get(name)}
    audit.record(
        "imported data",
        of,
        actor=actor,
        project=of.project,
        file=of.file_name,
        sha256=of.sha256,
        source=of.source,
        **facts,
    )


def _move(of: Import, allowed: list[Import.State], state: Import.State, **fields: Any) -> None:
    moved = Import.objects.filter(pk=of.pk, state__in=allowed).update(
        state=state, attempt=0, heartbeat_at=None, error="", finished_at=None, **fields
    )
    if not moved:
        raise Conflict(_("Somebody was faster: reload the page to see how it stands."))
    of.refresh_from_db()


def _forget_file(of: Import) -> None:
    path_of(of).unlink(missing_ok=True)


def _file_name(name: str) -> str:
    kept = "".join(c for c in Path(name.replace("\\", "/")).name if c.isprintable() and not 0xD800 <= ord(c) <= 0xDFFF)
    return kept[:200] or "file"


def _check_words(source: str, licence: str) -> None:
    for place, text in (("source", source), ("licence", licence)):
        if len(text) > LONGEST_NAME or not text.isprintable():
            raise Refused(_("At most %(most)d characters in one line.") % {"most": LONGEST_NAME}, place=place)
