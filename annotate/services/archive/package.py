"""An archive as a file that somebody brings: nothing in it is believed before it was checked."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import orjson

from annotate.services import Refused

FORM = 1
"""Version of what archives look like; a newer one is refused."""
MANIFEST = "manifest.json"
MOST_MANIFEST_BYTES = 16 * 2**20
LONGEST_LINE = 64 * 2**20
"""Bytes."""
MOST_RATIO = 200
"""Times that a member may be larger than it is packed; rows pack 5 to 40 times."""
RATIO_FROM_BYTES = 64 * 2**20
"""Bytes of a member from which the ratio counts."""
BLOCK = 1 << 20
"""Bytes that are read at once."""
SHA256 = re.compile(r"[0-9a-f]{64}")


class Package:
    """An open archive whose manifest was read; :meth:`check` looks at all the rest."""

    def __init__(self, path: Path) -> None:
        """Open an archive.

        :raises Refused: when it is none, or one of a newer form.
        """
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        # zipfile raises NotImplementedError where a damaged byte names a way of packing that there is not.
        except (OSError, zipfile.BadZipFile, NotImplementedError) as problem:
            if isinstance(problem, OSError):
                said = problem.strerror or str(problem)
                raise Refused(f"{path} cannot be read: {said}.") from problem
            raise Refused(f"{path} is not an archive of Hone, or it is cut off.") from problem
        try:
            self._entries = self._entries_by_name()
            content = self._manifest()
            self.sha256 = hashlib.sha256(content).hexdigest()
            self.members, self.weights, self.slug = self._parsed(content)
            self._compare()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Package:
        return self

    def __exit__(self, *_problem: object) -> None:
        self._zip.close()

    def check(self, on_bytes: Callable[[int], None]) -> None:
        """Compare every member with its hash.

        :param on_bytes: told how many bytes were read.
        :raises Refused: naming the first member that differs.
        """
        for name, entry in self.members.items():
            digest = hashlib.sha256()
            with self.open(name) as member:
                while block := member.read(BLOCK):
                    digest.update(block)
                    on_bytes(len(block))
            if digest.hexdigest() != entry["sha256"]:
                raise Refused(f"{name} is not what the archive's manifest says.")

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """The content of a member.

        :raises Refused: when its packed data is broken.
        """
        try:
            with self._zip.open(self._entries[name]) as member:
                yield member
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as problem:
            raise Refused(f"{name} is damaged: its packed data is broken.") from problem

    def rows(self, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """The rows of a member, each with the number of its line.

        :raises Refused: naming the line that is no JSON object.
        """
        with self.open(name) as member:
            lines, number = io.BufferedReader(cast(io.RawIOBase, member), BLOCK), 0
            while line := lines.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise wrong(name, number, f"it is longer than {LONGEST_LINE >> 20} MiB")
                try:
                    row = orjson.loads(line)
                except orjson.JSONDecodeError as problem:
                    raise wrong(name, number, str(problem)) from problem
                if not isinstance(row, dict):
                    raise wrong(name, number, "it is not a JSON object")
                yield number, row

    def _entries_by_name(self) -> dict[str, zipfile.ZipInfo]:
        entries: dict[str, zipfile.ZipInfo] = {}
        for entry in self._zip.infolist():
            name = entry.filename
            # zipfile cuts a name at its first NUL
            if name in entries or name != entry.orig_filename or not is_plain(name):
                raise Refused(f"The archive has a member that none of Hone's has: {name!r}.")
            if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Refused(f"{name} is packed in a way that Hone does not.")
            if entry.file_size > max(RATIO_FROM_BYTES, MOST_RATIO * entry.compress_size):
                raise Refused(f"{name} unpacks to more than {MOST_RATIO} times its size.")
            entries[name] = entry
        if sum(entry.compress_size for entry in entries.values()) > self.path.stat().st_size:
            raise Refused(f"{self.path} is not an archive of Hone: its members overlap.")
        return entries

    def _manifest(self) -> bytes:
        entry = self._entries.get(MANIFEST)
        if entry is None or entry.file_size > MOST_MANIFEST_BYTES:
            raise Refused(f"{self.path} is not an archive of Hone: it has no manifest.")
        with self.open(MANIFEST) as member:
            return member.read()

    def _parsed(self, content: bytes) -> tuple[dict[str, Any], list[dict[str, str]], str]:
        try:
            manifest = json.loads(content)
            form = manifest["form"]
            if type(form) is int and form > FORM:
                raise Refused(
                    f"The archive was made by a newer version of Hone (form {form}): restore it with that version."
                )
            members, weights, slug = manifest["members"], manifest["weights"], manifest["project"]
            fits = form == FORM and isinstance(slug, str) and all(map(_is_entry, members.values()))
            names = {folder["name"]: folder["path"] for folder in weights}
            fits &= all(isinstance(text, str) and "\x00" not in text for pair in names.items() for text in pair)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
            raise Refused("The archive's manifest cannot be read.") from problem
        if not fits:
            raise Refused("The archive's manifest is none of Hone's.")
        return members, weights, slug

    def _compare(self) -> None:
        """Compare what the manifest lists with what is there."""
        for name in {MANIFEST, *self.members} ^ set(self._entries):
            raise Refused(
                f"The archive lacks {name}."
                if name in self.members
                else f"The archive has a member that its manifest does not list: {name}."
            )
        for name, entry in self.members.items():
            if self._entries[name].file_size != entry["bytes"]:
                raise Refused(f"{name} is not what the archive's manifest says.")


def wrong(member: str, line: int, reason: str) -> Refused:
    """The refusal of a line of an archive.

    :param reason: as part of a sentence.
    """
    return Refused(f"{member}, line {line}: {reason.rstrip('.')}. Nothing was restored.")


def is_plain(name: str) -> bool:
    """Whether a member's name is a path that stays where it is unpacked, and of a kind that archives have."""
    parts = PurePosixPath(name).parts
    if name != str(PurePosixPath(name)) or ".." in parts or not name.isprintable() or "\\" in name:
        return False
    return name == MANIFEST or (len(parts) == 2 and parts[0] == "rows") or (len(parts) > 2 and parts[0] == "weights")


def _is_entry(entry: Any) -> bool:
    """Whether an entry of a manifest has what each has."""
    numbers = entry.get("numbers", [1, 1])
    return (
        all(
            type(entry[name]) is int and entry[name] >= 0
            for name in ("bytes", "rows")
            if name in entry or name == "bytes"
        )
        and SHA256.fullmatch(entry["sha256"]) is not None
        and isinstance(numbers, list)
        and len(numbers) == 2
        and all(type(number) is int for number in numbers)
        and 1 <= numbers[0] <= numbers[1] < 2**53
    )
