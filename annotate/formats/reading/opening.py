"""Opening a file of any supported kind and giving its records one by one, in constant memory.

What is inside decides the kind, not the name: a gzip file, a Parquet file, JSON or JSON lines by their first bytes,
and CSV where it is none of them.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from django.utils.translation import gettext as _

from annotate.formats.reading.problems import Unreadable

GZIP, PARQUET, ZIP, UTF16, ZSTD = b"\x1f\x8b", b"PAR1", b"PK\x03\x04", (b"\xff\xfe", b"\xfe\xff"), b"\x28\xb5\x2f\xfd"
MOST_BYTES = 64 * 2**30
"""Of a file when it is unpacked."""
MOST_RATIO = 100
"""Times that an unpacked file may be larger than the packed one; text packs 3 to 20 times."""
RATIO_FROM_BYTES = 64 * 2**20
"""Unpacked bytes from which the ratio counts."""
LONGEST_RECORD = 32 * 2**20
"""Bytes of a line, an element or a field."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file: its value, or what is wrong with it."""

    line: int
    """Number of its first line, from 1; in Parquet files and JSON arrays its own number."""
    value: Any
    problem: str = ""


class Progress:
    """How far a file was read."""

    def __init__(self, path: Path) -> None:
        self._size = max(path.stat().st_size, 1) if path.is_file() else 1
        self._file: BinaryIO | None = None

    def follow(self, file: BinaryIO) -> None:
        """Take the place in a file for how far it was read."""
        self._file = file

    @property
    def share(self) -> float:
        """Of the file's bytes, between 0 and 1."""
        return min(self._file.tell() / self._size, 1.0) if self._file and not self._file.closed else 0.0


class Counted(io.RawIOBase):
    """A file that knows how much of it was read, and stops a packed one that unpacks to too much.

    :param packed: the packed file underneath, where there is one.
    """

    def __init__(self, source: BinaryIO, packed: BinaryIO | None = None) -> None:
        self.source, self.packed, self.came = source, packed, 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer.

        :raises Unreadable: when the packed data is broken, cut off, or unpacks to too much.
        """
        try:
            data = self.source.read(len(buffer))
        except EOFError:
            raise Unreadable(_("The file is cut off: its packed data ends early.")) from None
        except (gzip.BadGzipFile, zlib.error):
            raise Unreadable(_("The packed data of the file is broken.")) from None
        self.came += len(data)
        if self.came > MOST_BYTES:
            raise Unreadable(_("The file unpacks to more than %(most)d GiB.") % {"most": MOST_BYTES >> 30})
        if self.packed and self.came > RATIO_FROM_BYTES and self.came > MOST_RATIO * max(self.packed.tell(), 1):
            raise Unreadable(
                _("The file unpacks to more than %(most)d times its size, as no text does.") % {"most": MOST_RATIO}
            )
        buffer[: len(data)] = data
        return len(data)


@contextlib.contextmanager
def opened(source: Path | BinaryIO, progress: Progress | None = None) -> Iterator[io.BufferedReader]:
    """A file's content, unpacked where it is packed.

    :param source: its path, or an open file that can be rewound.
    :param progress: told which file is read.

    :raises Unreadable: when there is no such file, or it is of a kind that cannot be read.
    """
    with contextlib.ExitStack() as stack:
        try:
            raw: BinaryIO = stack.enter_context(open(source, "rb")) if isinstance(source, Path) else source
            packed = raw.read(2) == GZIP
            raw.seek(0)
            if progress:
                progress.follow(raw)
        except FileNotFoundError:
            raise Unreadable(_("There is no file %(path)s.") % {"path": source}) from None
        except OSError as problem:
            raise Unreadable(
                _("%(path)s cannot be read: %(problem)s.") % {"path": source, "problem": problem.strerror}
            ) from None
        if packed:
            unpacked = stack.enter_context(gzip.GzipFile(fileobj=raw))
            yield io.BufferedReader(Counted(cast(BinaryIO, unpacked), raw), 2**18)
        else:
            yield io.BufferedReader(Counted(raw), 2**18)


def records(source: Path | BinaryIO, progress: Progress | None = None) -> Iterator[Record]:
    """The records of a file, JSON lines, JSON, CSV or Parquet, each packed by gzip or not.

    :raises Unreadable: when the file cannot be read, or not to its end.
    """
    from annotate.formats.reading import jsontext, tables

    with opened(source, progress) as file:
        head = file.peek(2**16)
        if head.startswith((ZIP, ZSTD)):
            raise Unreadable(_("The file is packed by something other than gzip: unpack it, or pack it with gzip."))
        if head.startswith(PARQUET):
            with _on_disk(file) as seekable:
                yield from tables.parquet(seekable)
            return
        if head.startswith(UTF16):
            raise Unreadable(_("The file is not UTF-8 text but UTF-16: save it as UTF-8."))
        first = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        if first == b"[":
            yield from jsontext.array(file)
        elif first == b"{":
            yield from jsontext.objects(file)
        else:
            yield from tables.csv_rows(file)


@contextlib.contextmanager
def _on_disk(file: io.BufferedReader) -> Iterator[BinaryIO]:
    """The content as a file in which one can seek, as Parquet's footer asks for."""
    counted = cast(Counted, file.raw)
    if counted.packed is None:
        counted.source.seek(0)
        yield counted.source
        return
    with tempfile.TemporaryFile() as unpacked:
        while piece := file.read(2**20):
            unpacked.write(piece)
        unpacked.seek(0)
        yield unpacked
