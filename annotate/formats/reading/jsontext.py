"""JSON lines, JSON arrays, and objects that hold a list of records.

Python's own parser takes what JSON does not have (NaN), keeps the last of two equal keys without a word, and lets half
of a surrogate pair through; here each is a reason.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from django.utils.translation import gettext as _

from annotate.formats.reading.opening import LONGEST_RECORD, Record
from annotate.formats.reading.problems import Unreadable, Wrong

PIECE = 2**16
SPACE = " \t\r\n"
MARK = b"\xef\xbb\xbf"
LISTED = re.compile(
    rb'\s*\{\s*("[^"]*"\s*:\s*("[^"]*"|[\w.+-]+)\s*,\s*)*"(data|rows|examples|records|items)"\s*:\s*\[\s*\{'
)
"""The beginning of an object that holds a list of records, after plain values perhaps."""


def _no_number(name: str) -> NoReturn:
    raise Wrong(_("%(name)s is no number of JSON") % {"name": name})


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _value in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Wrong(_("the key %(key)s stands twice in one object") % {"key": repr(twice)[:80]})
    return found


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)
_lenient = json.JSONDecoder()
"""Finds where a value ends that the strict one does not take."""


def parse(text: str) -> Any:
    """A value of JSON text.

    :raises Wrong: with the reason, when it is none.
    """
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as problem:
        raise Wrong(_("not JSON (%(problem)s)") % {"problem": problem.msg}) from None
    except RecursionError:
        raise Wrong(_("too deeply nested")) from None
    except Wrong:
        raise
    except ValueError:
        raise Wrong(_("a number has too many digits")) from None


def lines(file: io.BufferedReader) -> Iterator[tuple[int, str, str]]:
    """The lines of a text: number from 1, text without its end, and what is wrong with it."""
    number = 0
    while raw := file.readline(LONGEST_RECORD + 1):
        number += 1
        if len(raw) > LONGEST_RECORD:
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(LONGEST_RECORD)
            yield number, "", _("longer than %(most)d MiB") % {"most": LONGEST_RECORD >> 20}
            continue
        if number == 1:
            raw = raw.removeprefix(MARK)
        try:
            yield number, raw.decode(), ""
        except UnicodeDecodeError as problem:
            yield number, "", _("not UTF-8 text (byte %(byte)d of the line)") % {"byte": problem.start + 1}


def objects(file: io.BufferedReader) -> Iterator[Record]:
    """The records of a text that begins with an object: JSON lines, or one object that holds a list of records."""
    if _is_one_object(file):
        yield from array(file, inside=True)
        return
    for number, text, problem in lines(file):
        if problem:
            yield Record(number, None, problem)
        elif not text.isspace() and text:
            try:
                yield Record(number, parse(text))
            except Wrong as wrong:
                yield Record(number, None, str(wrong))


def _is_one_object(file: io.BufferedReader) -> bool:
    """Whether the text is one object whose records stand in a list under a name that says so."""
    return bool(LISTED.match(file.peek(PIECE).removeprefix(MARK)))


class _Text:
    """The text of a file of which only the part at hand is kept."""

    def __init__(self, file: io.BufferedReader) -> None:
        self.file, self.text, self.at, self.ended = file, "", 0, False
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.number = 0

    def more(self, least: int = PIECE) -> bool:
        """Read on; False at the end."""
        if self.ended:
            return False
        raw = self.file.read(least)
        self.ended = not raw
        try:
            piece = self.decoder.decode(raw, final=self.ended)
        except UnicodeDecodeError:
            raise Unreadable(_("It is not UTF-8 text."), line=self.number + 1) from None
        self.text, self.at = self.text[self.at :] + piece, 0
        return True

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in SPACE:
                    return self.text[self.at]
                self.at += 1
            if not self.more():
                return ""

    def expect(self, *characters: str) -> str:
        """Take one of these characters.

        :raises Unreadable: when another comes.
        """
        found = self.peek()
        if not found:
            raise Unreadable(_("The file is cut off."), line=self.number + 1)
        if found not in characters:
            raise Unreadable(_("It is not JSON."), line=self.number + 1)
        self.at += 1
        return found

    def value(self) -> tuple[Any, str]:
        """Take a value: the value and what is wrong with it.

        :raises Unreadable: when it cannot be told where it ends.
        """
        self.peek()
        while True:
            problem = ""
            try:
                try:
                    value, end = _decoder.raw_decode(self.text, self.at)
                except Wrong as wrong:
                    problem = str(wrong)
                    value, end = None, _lenient.raw_decode(self.text, self.at)[1]
            except RecursionError:
                raise Unreadable(_("A record is too deeply nested."), line=self.number) from None
            except ValueError:
                if len(self.text) - self.at > LONGEST_RECORD:
                    raise Unreadable(_("A record is too long, or is not JSON."), line=self.number) from None
                if not self.more(max(PIECE, len(self.text) - self.at)):
                    raise Unreadable(_("It is not JSON, or is cut off."), line=self.number) from None
                continue
            if end == len(self.text) and not isinstance(value, (dict, list, str)) and self.more():
                continue  # a number may go on
            self.at = end
            return value, problem


def array(file: io.BufferedReader, *, inside: bool = False) -> Iterator[Record]:
    """The elements of an array, numbered from 1.

    :param inside: whether the array stands in an object, after other keys perhaps.
    :raises Unreadable: where it is not JSON any more.
    """
    text = _Text(file)
    if inside:
        _find_list(text)
    text.expect("[")
    if text.peek() == "]":
        return
    while True:
        text.number += 1
        value, problem = text.value()
        yield Record(text.number, value, problem)
        if text.expect(",", "]") == "]":
            break
    if not inside and text.peek():
        raise Unreadable(_("Something follows after the end of the list."), line=text.number)


def _find_list(text: _Text) -> None:
    """Go to the list that :data:`LISTED` found."""
    text.expect("{")
    while True:
        text.value()
        text.expect(":")
        if text.peek() == "[":
            return
        text.value()
        text.expect(",")
