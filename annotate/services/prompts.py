"""Prompts: reading them from a file, telling which are new, and fixing each one's split."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from django.db import transaction
from django.utils.translation import gettext as _

from annotate.formats.reading import jsontext
from annotate.formats.reading.catalogue import BY_NAME, Parsed, parse, parsed
from annotate.formats.reading.problems import Unreadable
from annotate.formats.reading.rows import message_of
from annotate.models import Project, Prompt, Split, User
from annotate.services import Refused, audit

SPLIT_SHARES = ((Split.TRAIN, 0.7), (Split.DEV, 0.8), (Split.TEST, 1.0))
"""Upper ends of each split's share of the hash range, for prompts that name no split."""


@dataclass(frozen=True)
class PromptRow:
    """A prompt as a file gives it."""

    messages: list[dict[str, str]]
    reference: str | None = None
    tags: tuple[str, ...] = ()
    split: str = ""

    @property
    def dedup_hash(self) -> str:
        """SHA-256 of the messages, blind to differences of white space."""
        return dedup_hash(self.messages)


@dataclass(frozen=True)
class ImportReport:
    """What an import did."""

    new: int
    known: int


class BadLines(Refused):
    """A file with lines that cannot be read; nothing of it was stored.

    :param problems: pairs of line number, from 1, and reason.
    """

    def __init__(self, problems: list[tuple[int, str]]) -> None:
        shown = "; ".join(_("line %(line)d: %(reason)s") % {"line": n, "reason": r} for n, r in problems[:5])
        more = _(" and %(count)d more") % {"count": len(problems) - 5} if len(problems) > 5 else ""
        super().__init__(_("Nothing was imported. %(problems)s%(more)s.") % {"problems": shown, "more": more})
        self.problems = problems


def read_jsonl(lines: Iterable[str]) -> list[PromptRow]:
    """Read prompts from JSON lines: objects with ``messages`` (or ``prompt``), ``reference``, ``tags``, ``split``.

    :raises BadLines: naming every line that is wrong and why.
    """
    text = "\n".join(line.rstrip("\r\n") for line in lines).encode("utf-8", "surrogatepass")
    found = jsontext.objects(io.BufferedReader(io.BytesIO(text)))
    return _collected(parse(BY_NAME["prompts"], record, {}) for record in found)


def read_file(source: Path | BinaryIO) -> list[PromptRow]:
    """Read prompts from a file of any kind that :mod:`annotate.formats.reading.opening` knows.

    :raises BadLines: naming every line that is wrong and why.
    :raises Refused: when it cannot be read or holds no prompts.
    """
    return _collected(parsed(source, BY_NAME["prompts"]))


def _collected(records: Iterable[Parsed]) -> list[PromptRow]:
    rows: list[PromptRow] = []
    problems: list[tuple[int, str]] = []
    try:
        for record in records:
            if reason := record.bad or record.left_out:
                problems.append((record.line, reason))
            rows += [PromptRow(row.messages, row.reference, row.tags, row.split) for row in record.rows]
    except Unreadable as problem:
        if not problem.line:
            raise Refused(str(problem)) from problem
        problems.append((problem.line, str(problem).rstrip(".")))
    if problems:
        raise BadLines(problems)
    if not rows:
        raise Refused(_("The file holds no prompts."))
    return rows


def read_pasted(text: str) -> list[PromptRow]:
    """Read prompts from text: each line that is not blank is one message of a person.

    :raises BadLines: naming every line that is wrong and why.
    """
    rows: list[PromptRow] = []
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        if line.strip():
            try:
                rows.append(PromptRow([message_of({"role": "user", "content": line.strip()})]))
            except ValueError as problem:
                problems.append((number, str(problem)))
    if problems:
        raise BadLines(problems)
    return rows


def add_prompts(*, project: Project, rows: Iterable[PromptRow], actor: User | None) -> ImportReport:
    """Store those prompts that the project does not have yet; a known prompt keeps its split.

    A prompt that names no split gets one from its hash: 70 % train, 10 % dev, 20 % test.
    """
    unique = {row.dedup_hash: row for row in rows}
    with transaction.atomic():
        known = set(project.prompts.filter(dedup_hash__in=unique).values_list("dedup_hash", flat=True))
        new = [row for key, row in unique.items() if key not in known]
        Prompt.objects.bulk_create(
            Prompt(
                project=project,
                messages=row.messages,
                reference=row.reference,
                tags=list(row.tags),
                split=row.split or split_by_hash(row.dedup_hash),
                dedup_hash=row.dedup_hash,
            )
            for row in new
        )
        if new:
            audit.record("imported prompts", project, actor=actor, project=project, new=len(new), known=len(known))
    return ImportReport(new=len(new), known=len(known))


def dedup_hash(messages: Sequence[Mapping[str, str]]) -> str:
    """SHA-256 of a chat, blind to differences of white space: 64 hexadecimal digits."""
    turns = [[m["role"], " ".join(m["content"].split())] for m in messages]
    return hashlib.sha256(json.dumps(turns, ensure_ascii=False).encode()).hexdigest()


def split_by_hash(dedup_hash: str) -> str:
    """The split of a prompt that names none: 70 % train, 10 % dev, 20 % test."""
    share = int(dedup_hash[:12], 16) / 16**12
    return next(split for split, upper in SPLIT_SHARES if share < upper)
