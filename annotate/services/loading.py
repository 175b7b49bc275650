"""Writing rows of imported data by COPY, some thousand at a time, in the caller's transaction.

Equal data are told by content: a prompt by its hash, an answer by its text beside its prompt, a pair by its two answers
and its number among equal pairs of the file, a ranking by its answers with their places and its number. What is there
already is left as it is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, LiteralString

from django.db import connection
from django.utils import timezone

from annotate.formats.reading.rows import COMPARISON, DEMONSTRATION, LABEL, PROMPT, RANKING, Row
from annotate.models import Project
from annotate.services.copying import FORGET_SEEN, copy_in, digest_of, next_numbers, select, times_seen
from annotate.services.prompts import dedup_hash, split_by_hash

ANALYSED_AFTER = (4, 40)
"""Chunks after which the planner is told how large the tables have become; else it reads them whole."""
LABEL_SOURCE = "label"
"""The name under which good and bad answers are signals."""
Key = tuple[int, str]
"""A prompt's number and an answer's text."""


@dataclass(slots=True)
class _Prompt:
    """A prompt at hand: its number, and whether it was here before these rows."""

    pk: int
    known: bool


@dataclass(frozen=True, slots=True)
class _Placed:
    """A row with its prompt's hash and number."""

    line: int
    row: Row
    key: str
    prompt: int


@dataclass
class Loader:
    """Writes rows into a project, or only counts what would become of them.

    :param batch: the name under which the rows remember their import.
    :param source: of rows that name none.
    :param writes: whether anything is written.
    """

    project: Project
    batch: str
    source: str
    writes: bool = True
    counts: Counter[str] = field(default_factory=Counter)
    changed: list[int] = field(default_factory=list)
    """Lines whose pair is here with another strength, weight or source."""
    _chunks: int = 0
    _new: set[int] = field(default_factory=set)
    """Numbers of the answers that the rows at hand brought; nothing can refer to them yet."""

    def begin(self) -> None:
        """Make ready; foreign keys are checked as the rows come, so that no queue of checks grows."""
        with connection.cursor() as cursor:
            cursor.execute(FORGET_SEEN)
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")

    def add(self, rows: Sequence[tuple[int, Row]]) -> None:
        """Write some rows, or count them.

        :param rows: each with the number of its line.
        """
        self._chunks += 1
        if self.writes and self._chunks in ANALYSED_AFTER:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE annotate_prompt, annotate_completion, annotate_comparison, annotate_rankedlist")
        hashes = [dedup_hash(row.messages) for _line, row in rows]
        prompts = self._prompts([row for _line, row in rows], hashes)
        completions = self._completions(rows, hashes, prompts)
        placed = [_Placed(line, row, key, prompts[key].pk) for (line, row), key in zip(rows, hashes, strict=True)]
        self._comparisons([p for p in placed if p.row.use == COMPARISON], completions)
        self._rankings([p for p in placed if p.row.use == RANKING], completions)
        self._demonstrations([p for p in placed if p.row.use == DEMONSTRATION], completions)
        self._labels([p for p in placed if p.row.use == LABEL], completions)

    def _prompts(self, rows: Sequence[Row], hashes: Sequence[str]) -> dict[str, _Prompt]:
        found = {
            key: _Prompt(pk, True)
            for pk, key in select(
                "SELECT id, dedup_hash FROM annotate_prompt WHERE project_id = %s AND dedup_hash = ANY(%s)",
                [self.project.pk, list(set(hashes))],
            )
        }
        first = {key: row for row, key in zip(reversed(rows), reversed(hashes), strict=True)}
        new = [key for key in dict.fromkeys(hashes) if key not in found]
        for row, key in zip(rows, hashes, strict=True):
            if row.use == PROMPT:
                self.counts["known" if key in found else "new"] += first[key] is row
        self.counts["prompts"] += len(new)
        found |= {key: _Prompt(pk, False) for pk, key in zip(self._numbers("prompt", len(new)), new, strict=True)}
        now = str(timezone.now())
        self._copy(
            "COPY annotate_prompt (id, project_id, messages, reference, tags, split, dedup_hash, batch, created_at) "
            "FROM STDIN",
            (
                (
                    found[key].pk,
                    self.project.pk,
                    json.dumps(first[key].messages, ensure_ascii=False),
                    first[key].reference,
                    list(first[key].tags) or "{}",
                    first[key].split or split_by_hash(key),
                    key,
                    self.batch,
                    now,
                )
                for key in new
            ),
        )
        return found

    def _completions(
        self, rows: Sequence[tuple[int, Row]], hashes: Sequence[str], prompts: dict[str, _Prompt]
    ) -> dict[Key, int]:
        wanted = {
            (prompts[key].pk, text): None
            for (_line, row), key in zip(rows, hashes, strict=True)
            for text in row.answers
        }
        known_prompts = [prompt.pk for prompt in prompts.values() if prompt.known]
        found: dict[Key, int] = {}
        if known_prompts:
            by_digest = {(prompt, digest_of(text)): (prompt, text) for prompt, text in wanted}
            there = select(
                "SELECT min(id), prompt_id, md5(text)::uuid FROM annotate_completion "
                "WHERE prompt_id = ANY(%s) AND generation_id IS NULL AND edit_of_id IS NULL GROUP BY prompt_id, 3",
                [known_prompts],
            )
            for pk, prompt, digest in there:
                if key := by_digest.get((prompt, digest)):
                    found[key] = pk
        new = [key for key in wanted if key not in found]
        self.counts["completions"] += len(new)
        numbers = dict(zip(new, self._numbers("completion", len(new)), strict=True))
        self._new = set(numbers.values())
        now = str(timezone.now())
        self._copy(
            "COPY annotate_completion (id, prompt_id, text, finish_reason, sampling, engine, engine_version, batch, "
            "created_at) FROM STDIN",
            ((numbers[key], key[0], key[1], "", "{}", "", "", self.batch, now) for key in new),
        )
        return found | numbers

    def _comparisons(self, placed: Sequence[_Placed], completions: dict[Key, int]) -> None:
        pairs = [(each, *pair) for each in placed for pair in each.row.pairs]
        if not pairs:
            return
        texts = [(each.row.answers[better], each.row.answers[worse]) for each, better, worse, _strength in pairs]
        ends = [
            (completions[each.prompt, chosen], completions[each.prompt, rejected])
            for (each, *_rest), (chosen, rejected) in zip(pairs, texts, strict=True)
        ]
        numbers = times_seen(
            [
                digest_of(f"{each.key} {len(one)} {one}{two}")
                for (each, *_r), (one, two) in zip(pairs, texts, strict=True)
            ]
        )
        there = {
            (chosen, rejected, number): said
            for chosen, rejected, number, *said in select(
                "SELECT chosen_id, rejected_id, number, strength, weight, source FROM annotate_comparison "
                "WHERE chosen_id = ANY(%s)",
                [[chosen for chosen, rejected in ends if not {chosen, rejected} & self._new]],
            )
        }
        now, lines = str(timezone.now()), []
        for (each, _better, _worse, strength), (chosen, rejected), number in zip(pairs, ends, numbers, strict=True):
            said = [strength, each.row.weight or 1.0, each.row.source or self.source]
            if self._is_known(there.get((chosen, rejected, number)), said, each.line):
                continue
            lines.append((self.project.pk, each.prompt, chosen, rejected, *said, number, self.batch, now))
        self._copy(
            "COPY annotate_comparison (project_id, prompt_id, chosen_id, rejected_id, strength, weight, source, "
            "number, batch, created_at) FROM STDIN",
            lines,
        )

    def _rankings(self, placed: Sequence[_Placed], completions: dict[Key, int]) -> None:
        if not placed:
            return
        digests = [digest_of(json.dumps([p.key, p.row.answers, p.row.ranks, p.row.scores])) for p in placed]
        numbers = times_seen(digests)
        there = {
            (prompt, digest, number): said
            for prompt, digest, number, *said in select(
                "SELECT prompt_id, digest, number, strength, weight, source FROM annotate_rankedlist "
                "WHERE prompt_id = ANY(%s)",
                [list({each.prompt for each in placed})],
            )
        }
        new: list[tuple[_Placed, list[Any]]] = []
        for each, digest, number in zip(placed, digests, numbers, strict=True):
            said = [each.row.strength, each.row.weight or 1.0, each.row.source or self.source]
            if not self._is_known(there.get((each.prompt, digest, number)), said, each.line):
                new.append((each, [*said, digest, number]))
        keys, now = self._numbers("rankedlist", len(new)), str(timezone.now())
        self._copy(
            "COPY annotate_rankedlist (id, project_id, prompt_id, strength, weight, source, digest, number, batch, "
            "created_at) FROM STDIN",
            (
                (key, self.project.pk, each.prompt, *rest, self.batch, now)
                for key, (each, rest) in zip(keys, new, strict=True)
            ),
        )
        self._copy(
            "COPY annotate_rankedanswer (ranked_list_id, position, completion_id, rank, score) FROM STDIN",
            (
                (key, position, completions[each.prompt, text], rank, score)
                for key, (each, _rest) in zip(keys, new, strict=True)
                for position, (text, rank, score) in enumerate(
                    zip_longest(each.row.answers, each.row.ranks, each.row.scores)
                )
            ),
        )

    def _demonstrations(self, placed: Sequence[_Placed], completions: dict[Key, int]) -> None:
        numbers = {completions[each.prompt, each.row.answers[0]]: each for each in placed}
        there = {
            pk: said
            for pk, *said in select(
                "SELECT completion_id, weight, source FROM annotate_demonstration WHERE completion_id = ANY(%s)",
                [list(numbers)],
            )
        }
        self.counts["known"] += len(placed) - len(numbers)
        now, lines = str(timezone.now()), []
        for pk, each in numbers.items():
            said = [each.row.weight or 1.0, each.row.source or self.source]
            if not self._is_known(there.get(pk), said, each.line):
                lines.append((self.project.pk, pk, *said, self.batch, now))
        self._copy(
            "COPY annotate_demonstration (project_id, completion_id, weight, source, batch, created_at) FROM STDIN",
            lines,
        )

    def _labels(self, placed: Sequence[_Placed], completions: dict[Key, int]) -> None:
        numbers = {completions[each.prompt, each.row.answers[0]]: each for each in placed}
        there = {
            pk: [value]
            for pk, value in select(
                "SELECT completion_id, value FROM annotate_signal WHERE source = %s AND completion_id = ANY(%s)",
                [LABEL_SOURCE, list(numbers)],
            )
        }
        self.counts["known"] += len(placed) - len(numbers)
        now, lines = str(timezone.now()), []
        for pk, each in numbers.items():
            if not self._is_known(there.get(pk), [each.row.label], each.line):
                lines.append((self.project.pk, pk, LABEL_SOURCE, self.batch, each.row.label, now))
        self._copy(
            "COPY annotate_signal (project_id, completion_id, source, version, value, created_at) FROM STDIN", lines
        )

    def _is_known(self, before: list[Any] | None, said: list[Any], line: int) -> bool:
        """Whether something is here already, counted as new, known or changed."""
        if before is None:
            self.counts["new"] += 1
            return False
        self.counts["known" if before == said else "changed"] += 1
        if before != said:
            self.changed.append(line)
        return True

    def _numbers(self, table: str, count: int) -> list[int]:
        """Numbers for new rows of a table; below 0 where nothing is written."""
        if not self.writes:
            return list(range(-1, -count - 1, -1))
        return next_numbers(table, count)

    def _copy(self, statement: LiteralString, lines: Iterable[Sequence[Any]]) -> None:
        if self.writes:
            copy_in(statement, lines)
