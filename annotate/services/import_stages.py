"""What is done with an import, stage by stage: it is checked, written or undone by whoever claims it.

Whoever works on an import shows a heartbeat; one that stops is begun again by the sweep, three times at most. Since
every stage is one transaction, or writes nothing but the import's own row, nothing is ever half done.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict
from typing import Any

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.formats.reading.catalogue import BY_NAME, recognise
from annotate.formats.reading.problems import Unreadable
from annotate.models import Import, Project, User
from annotate.services import Refused, audit
from annotate.services.heartbeat import beating, unattended
from annotate.services.importing import OnProgress, Report, Request, bring, check
from annotate.services.undoing import remove
from annotate.services.uploaded import forget_file, path_of

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3


def project_has_made_something_of(of: Import) -> bool:
    """Whether a snapshot holds a pair, a ranking or a demonstration of an import."""
    held = {"batch": of.batch, "snapshots__isnull": False}
    return (
        of.project.comparisons.filter(**held).exists()
        or of.project.ranked_lists.filter(**held).exists()
        or of.project.demonstrations.filter(**held).exists()
    )


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


class _TakenOver(Exception):
    """Somebody else has claimed the import meanwhile."""


_ACTIVE = [Import.State.CHECKING, Import.State.WRITING, Import.State.UNDOING]


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
    store(of, report)
    _end(of, Import.State.READY, format=of.format, recognised=of.recognised, **_stored(report))


def _write(of: Import, on_progress: OnProgress) -> None:
    with transaction.atomic():
        report = bring(project=of.project, request=_request(of), batch=of.batch, on_progress=on_progress)
        store(of, report)
        _end(of, Import.State.DONE, **_stored(report))
        record(of, of.created_by)
    forget_file(of)


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


def store(of: Import, report: Report) -> None:
    """Put what was found into the record, which is not saved."""
    of.counts, of.problems, of.preview = dict(report.counts), report.problems, report.preview


def record(of: Import, actor: User | None) -> None:
    """Write the import into the audit trail, with its counts and the file's digest."""
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
