"""What changed between two texts, line by line and, within a line, word by word (Python's difflib)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

Mark = Literal["same", "old", "new"]

WORD = re.compile(r"\s+|[\u3400-\u9fff]|[^\W\u3400-\u9fff]+|.")
"""White space, a single Chinese character, a run of letters and digits, or any other character."""
ALIKE = 0.4
"""Share of common words from which a line counts as changed rather than replaced."""
LONGEST = 2000
"""Words of a line; comparing more takes time by the square."""


@dataclass(frozen=True)
class Line:
    """A line of the comparison: pieces of text, each the same in both, only in the old or only in the new."""

    pieces: list[tuple[Mark, str]]

    @property
    def changed(self) -> bool:
        """Whether anything in it is not the same in both."""
        return any(mark != "same" for mark, _text in self.pieces)


def compare(old: str, new: str) -> list[Line]:
    """Lines of the new text with what was taken out put back in its place; blank lines are left out."""
    before, after = ([line for line in text.splitlines() if line.strip()] for text in (old, new))
    lines: list[Line] = []
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "equal":
            lines += [Line([("same", line)]) for line in after[j1:j2]]
        else:
            lines += _block(before[i1:i2], after[j1:j2])
    return lines


def changes(old: str, new: str) -> list[Line | None]:
    """The changed lines, each run of them with one line around it; None stands for what is left out between."""
    lines = compare(old, new)
    near = {k for n, line in enumerate(lines) if line.changed for k in (n - 1, n, n + 1)}
    shown: list[Line | None] = []
    for number, line in enumerate(lines):
        if number in near:
            shown.append(line)
        elif shown and shown[-1] is not None:
            shown.append(None)
    return shown[:-1] if shown and shown[-1] is None else shown


def _block(old: list[str], new: list[str]) -> Iterator[Line]:
    """Lines that were replaced: where one stands for another, their words are compared."""
    for number in range(max(len(old), len(new))):
        before, after = old[number : number + 1], new[number : number + 1]
        if before and after and (pieces := _words(before[0], after[0])):
            yield Line(pieces)
            continue
        if before:
            yield Line([("old", before[0])])
        if after:
            yield Line([("new", after[0])])


def _words(old: str, new: str) -> list[tuple[Mark, str]]:
    """The words of two lines; nothing where they have too little in common to be read as one."""
    before, after = WORD.findall(old), WORD.findall(new)
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    if max(len(before), len(after)) > LONGEST or matcher.ratio() < ALIKE:
        return []
    pieces: list[tuple[Mark, str]] = []
    taken, put = "", ""
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        gone, come = "".join(before[i1:i2]), "".join(after[j1:j2])
        if tag == "equal" and (come.strip() or not (taken or put)):
            pieces += [*_marked(taken, put), ("same", come)]
            taken, put = "", ""
        else:
            # A mere space between two changes belongs to both, so that a phrase is struck out in one piece.
            taken, put = taken + gone, put + come
    return pieces + _marked(taken, put)


def _marked(taken: str, put: str) -> list[tuple[Mark, str]]:
    """What was taken out and what was put in its place."""
    pieces: list[tuple[Mark, str]] = [("old", taken), ("new", put)]
    return [(mark, text) for mark, text in pieces if text]
