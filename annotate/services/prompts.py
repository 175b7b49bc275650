"""Prompts: reading them from a file, telling which are new, and fixing each one's split."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from annotate.models import Project, Prompt, Split, User
from annotate.services import Refused, audit

ROLES = ("system", "user", "assistant", "tool")
MAX_PROMPT_CHARACTERS = 200_000
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
        turns = [[m["role"], " ".join(m["content"].split())] for m in self.messages]
        return hashlib.sha256(json.dumps(turns, ensure_ascii=False).encode()).hexdigest()


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
    rows: list[PromptRow] = []
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(_row(json.loads(line)))
        except json.JSONDecodeError as problem:
            problems.append((number, _("not JSON (%(problem)s)") % {"problem": problem.msg}))
        except RecursionError:
            problems.append((number, _("too deeply nested")))
        except ValueError as problem:
            problems.append((number, str(problem)))
    if problems:
        raise BadLines(problems)
    if not rows:
        raise Refused(_("The file holds no prompts."))
    return rows


def read_upload(content: bytes) -> list[PromptRow]:
    """Read prompts from an uploaded JSON Lines file.

    :raises BadLines: naming every line that is wrong and why.
    :raises Refused: when it is not UTF-8 text or holds no prompts.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise Refused(_("The file is not UTF-8 text.")) from problem
    return read_jsonl(io.StringIO(text))


def read_pasted(text: str) -> list[PromptRow]:
    """Read prompts from text: each line that is not blank is one message of a person.

    :raises BadLines: naming every line that is wrong and why.
    """
    rows: list[PromptRow] = []
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        if line.strip():
            try:
                rows.append(PromptRow([_turn({"role": "user", "content": line.strip()})]))
            except ValueError as problem:
                problems.append((number, str(problem)))
    if problems:
        raise BadLines(problems)
    return rows


def _row(value: Any) -> PromptRow:
    if not isinstance(value, dict):
        raise ValueError(_("not an object"))
    messages = value.get("messages")
    if messages is None and isinstance(value.get("prompt"), str):
        messages = [{"role": "user", "content": value["prompt"]}]
    if not isinstance(messages, list):
        raise ValueError(_("no messages and no prompt"))
    turns = [_turn(m) for m in messages]
    reference, tags, split = value.get("reference"), value.get("tags") or [], value.get("split") or ""
    if not (reference is None or isinstance(reference, str)):
        raise ValueError(_("the reference is not text"))
    if not _storable(reference or ""):
        raise ValueError(_("the reference holds characters that cannot be stored"))
    if not (isinstance(tags, list) and all(isinstance(t, str) and len(t) <= 50 and _storable(t) for t in tags)):
        raise ValueError(_("the tags are not a list of short words"))
    if split and split not in Split.values:
        raise ValueError(_("the split must be train, dev or test"))
    return PromptRow(turns, reference, tuple(tags), split)


def _turn(value: Any) -> dict[str, str]:
    if not (isinstance(value, dict) and value.get("role") in ROLES and isinstance(value.get("content"), str)):
        raise ValueError(_("a message needs a role (system, user, assistant, tool) and a content"))
    content = value["content"]
    if len(content) > MAX_PROMPT_CHARACTERS:
        raise ValueError(_("a message is longer than %(longest)d characters") % {"longest": MAX_PROMPT_CHARACTERS})
    if not _storable(content):
        raise ValueError(_("a message holds characters that cannot be stored"))
    return {"role": value["role"], "content": content}


def _storable(text: str) -> bool:
    return "\x00" not in text and not any(0xD800 <= ord(c) <= 0xDFFF for c in text)


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
                split=row.split or _split_by_hash(row.dedup_hash),
                dedup_hash=row.dedup_hash,
            )
            for row in new
        )
        if new:
            audit.record("imported prompts", project, actor=actor, project=project, new=len(new), known=len(known))
    return ImportReport(new=len(new), known=len(known))


def _split_by_hash(dedup_hash: str) -> str:
    share = int(dedup_hash[:12], 16) / 16**12
    return next(split for split, upper in SPLIT_SHARES if share < upper)
