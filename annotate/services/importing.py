"""Bringing data into a project: all of a file's good rows in one transaction, or nothing.

A file is read once; as soon as one of its records is bad, nothing is written any more, and the rest is read for the
report alone. With ``skip_bad`` the good rows go in and the report says what did not.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import OperationalError, transaction
from django.utils import translation
from django.utils.translation import gettext as _
from psycopg.errors import DiskFull

from annotate.formats.reading.catalogue import AUTO, BY_NAME, Format, Parsed, Recognised, parsed, recognise
from annotate.formats.reading.opening import Progress
from annotate.formats.reading.problems import Unreadable, storable
from annotate.formats.reading.rows import COMPARISON, Row
from annotate.models import Project
from annotate.services import Refused
from annotate.services.loading import Loader

CHUNK_ROWS = 2000
CHUNK_CHARACTERS = 4_000_000
LISTED = 500
"""Problems that a report lists; it counts the others."""
SHOWN = 5
"""Rows of a preview."""
Chunk = list[tuple[int, Row]]
"""Rows with the numbers of their lines."""
OnProgress = Callable[[float], None]
"""Called with the share of the file that was read."""


@dataclass(frozen=True)
class Request:
    """What is to be read, and how."""

    path: Path
    format: Format
    source: str
    mapping: Mapping[str, str] = field(default_factory=dict)
    skip_bad: bool = False


@dataclass
class Report:
    """What became of a file's records, or would.

    ``counts`` has *records*, *bad* and *left_out* by record; *statements*, which are pairs and whatever else rows say;
    *ties*; and *new*, *known* and *changed* by what the
    rows say; where something was written, the new *prompts* and *completions* too.
    """

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[int, str, bool]] = field(default_factory=list)
    """Line, reason and whether it is bad, or only left out; the first of them."""
    preview: list[dict[str, Any]] = field(default_factory=list)
    written: bool = False

    def note(self, line: int, reason: str, *, bad: bool) -> None:
        """Count a record that does not go in, and list it where there is room."""
        self.counts["bad" if bad else "left_out"] += 1
        if len(self.problems) < LISTED:
            self.problems.append((line, storable(reason), bad))


class BadRows(Refused):
    """A file with bad records; nothing of it was written."""

    def __init__(self, report: Report) -> None:
        count = report.counts["bad"]
        first = [(line, reason) for line, reason, bad in report.problems if bad][:5]
        shown = "; ".join(_("line %(line)d: %(reason)s") % {"line": n, "reason": r} for n, r in first)
        more = _(" and %(count)d more") % {"count": count - len(first)} if count > len(first) else ""
        super().__init__(_("Nothing was imported. %(problems)s%(more)s.") % {"problems": shown, "more": more})
        self.report = report


class _Undone(Exception):
    """Takes back what a transaction did."""


def choose_format(
    path: Path, name: str = AUTO, mapping: Mapping[str, str] | None = None
) -> tuple[Format, Recognised | None]:
    """The format of that name, or the one that a file is recognised to have.

    :raises Refused: when there is none of that name, none is recognised, or the file cannot be read.
    """
    if name != AUTO:
        if name not in BY_NAME:
            names = ", ".join(BY_NAME)
            raise Refused(_("There is no format %(name)s; there are: %(names)s.") % {"name": name, "names": names})
        return BY_NAME[name], None
    try:
        found = recognise(path, mapping)
    except Unreadable as problem:
        raise Refused(str(problem)) from problem
    if found.format is None:
        raise Refused(found.reason)
    return found.format, found


def check(request: Request, on_progress: OnProgress | None = None) -> Report:
    """Read a file to its end and say what is in it, without the database."""
    report = Report()
    for _chunk in _chunks(request, report, on_progress):
        pass
    return report


def bring(
    *, project: Project, request: Request, batch: str, dry_run: bool = False, on_progress: OnProgress | None = None
) -> Report:
    """Write the rows of a file that the project does not have yet, all of them or nothing.

    :param batch: the name under which the rows remember their import.
    :param dry_run: only say what would become of them.
    :raises BadRows: when records are bad and bad ones are not to be skipped; nothing was written.
    :raises Refused: when the disk is full, here or of the database; nothing was written.
    """
    report = Report()
    loader = Loader(project, batch, request.source, writes=not dry_run)
    try:
        with transaction.atomic():
            Project.objects.select_for_update(no_key=True).get(pk=project.pk)
            loader.begin()
            for chunk in _ahead(_chunks(request, report, on_progress)):
                if request.skip_bad or not report.counts["bad"]:
                    loader.add(chunk)
            if report.counts["bad"] and not request.skip_bad and not dry_run:
                raise BadRows(report)
            report.counts += loader.counts
            for line in loader.changed[: LISTED - len(report.problems)]:
                report.problems.append(
                    (line, _("is here with another strength, weight or source; kept as it was"), False)
                )
            if dry_run:
                raise _Undone
            report.written = True
    except _Undone:
        pass
    except OperationalError as problem:
        if not isinstance(problem.__cause__, DiskFull):
            raise
        raise Refused(_("The database's disk is full; nothing was imported.")) from problem
    except OSError as problem:
        raise Refused(
            _("The file cannot be read on (%(problem)s); nothing was imported.") % {"problem": problem.strerror}
        ) from problem
    return report


def file_hash(path: Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits.

    :raises Refused: when it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise Refused(_("There is no file %(path)s.") % {"path": path}) from None
    except OSError as problem:
        raise Refused(
            _("%(path)s cannot be read: %(problem)s.") % {"path": path, "problem": problem.strerror}
        ) from problem


def _ahead(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """The same chunks, each read by a thread while the database is at work on the one before."""
    language = translation.get_language()

    def read() -> Chunk | None:
        with translation.override(language):
            return next(chunks, None)

    with ThreadPoolExecutor(1, thread_name_prefix="reading") as reader:
        coming = reader.submit(read)
        while (chunk := coming.result()) is not None:
            coming = reader.submit(read)
            yield chunk


def _chunks(request: Request, report: Report, on_progress: OnProgress | None) -> Iterator[Chunk]:
    """The rows of a file in chunks, while the report fills."""
    rows: list[tuple[int, Row]] = []
    characters = 0
    progress = Progress(request.path)
    for record in _records(request, progress):
        report.counts["records"] += 1
        if record.bad or record.left_out:
            report.note(record.line, record.bad or record.left_out, bad=bool(record.bad))
            continue
        for row in record.rows:
            if len(report.preview) < SHOWN:
                report.preview.append(_shown(record.line, row))
            report.counts["ties"] += row.ties
            report.counts["statements"] += len(row.pairs) if row.use == COMPARISON else 1
            rows.append((record.line, row))
            characters += sum(map(len, row.answers)) + sum(len(turn["content"]) for turn in row.messages)
        if len(rows) >= CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
            yield rows
            rows, characters = [], 0
            if on_progress:
                on_progress(progress.share)
    if rows:
        yield rows
    report.counts += Counter()  # drops zeros


def _records(request: Request, progress: Progress) -> Iterator[Parsed]:
    """The records of a file; where it cannot be read on, that is the last bad one."""
    line = 0
    try:
        for record in parsed(request.path, request.format, request.mapping, progress):
            line = record.line
            yield record
        if not line:
            yield Parsed(0, [], bad=_("the file holds no records"))
    except Unreadable as problem:
        yield Parsed(problem.line or line + 1, [], bad=str(problem).rstrip("."))


def _shown(line: int, row: Row) -> dict[str, Any]:
    """A row as a preview shows it: texts are cut."""
    better = [place for place, *_rest in row.pairs] or [0]
    worse = next((place for _better, place, _strength in row.pairs), None)
    return {
        "line": line,
        "use": row.use,
        "messages": [{"role": m["role"], "content": m["content"][:300]} for m in row.messages[-2:]],
        "turns": len(row.messages),
        "better": row.answers[better[0]][:400] if row.answers else "",
        "worse": row.answers[worse][:400] if worse is not None else "",
        "answers": len(row.answers),
        "pairs": len(row.pairs),
        "strength": row.pairs[0][2] if row.pairs else None,
        "label": row.label,
        "split": row.split,
        "source": row.source,
    }


def in_words(counts: Mapping[str, int]) -> Sequence[str]:
    """What became of a file's records, in a few phrases."""
    new, known, changed = (counts.get(name, 0) for name in ("new", "known", "changed"))
    left_out, bad, ties = (counts.get(name, 0) for name in ("left_out", "bad", "ties"))
    phrases = [
        _("%(count)d new") % {"count": new},
        _("%(count)d known already") % {"count": known},
    ]
    for count, phrase in (
        (changed, _("%(count)d here in another form, kept as they were")),
        (ties, _("%(count)d pairs of equally good answers")),
        (left_out, _("%(count)d left out")),
        (bad, _("%(count)d bad")),
    ):
        if count:
            phrases.append(phrase % {"count": count})
    return phrases
