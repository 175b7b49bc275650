"""Files as they come: every kind, packed or not, and every way in which they can be broken."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from annotate.formats.reading import opening
from annotate.formats.reading.opening import Record, records
from annotate.formats.reading.problems import Unreadable

ROWS = [{"a": "x", "b": '1, "2"\n3'}, {"a": "ß", "b": "y"}]
CSV = b'a,b\r\nx,"1, ""2""\n3"\r\n\xc3\x9f,y\r\n'
JSONL = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


def parquet() -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), sink)
    return sink.getvalue().to_pybytes()


def read(folder: Path, content: bytes) -> list[Record]:
    path = folder / "file"
    path.write_bytes(content)
    return list(records(path))


KINDS = {
    "lines": JSONL,
    "lines without an end": JSONL.rstrip(),
    "lines with a mark": b"\xef\xbb\xbf" + JSONL,
    "array": json.dumps(ROWS).encode(),
    "pretty array": json.dumps(ROWS, indent=2).encode(),
    "object with a list": json.dumps({"version": "1.0", "data": ROWS, "more": 1}).encode(),
    "pretty object": json.dumps({"rows": ROWS}, indent=1).encode(),
    "csv": CSV,
    "parquet": parquet(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [False, True])
def test_the_same_records_come_out_of_every_kind_of_file(tmp_path: Path, kind: str, packed: bool) -> None:
    content = gzip.compress(KINDS[kind]) if packed else KINDS[kind]
    assert [record.value for record in read(tmp_path, content)] == ROWS


def test_lines_are_numbered_as_an_editor_does(tmp_path: Path) -> None:
    assert [r.line for r in read(tmp_path, b"\n" + JSONL + b"\n" + JSONL)] == [2, 3, 5, 6]
    assert [r.line for r in read(tmp_path, CSV)] == [2, 4]
    assert [r.line for r in read(tmp_path, KINDS["pretty array"])] == [1, 2]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{broken", "not JSON"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
        (b'{"a": {"b": 1, "b": 2}}', "'b' stands twice"),
        (b'{"a": "\xff"}', "not UTF-8 text (byte 8"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too deeply nested"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too many digits"),
    ],
)
def test_a_broken_line_is_named_and_the_next_is_read(tmp_path: Path, line: bytes, reason: str) -> None:
    first, broken, last = read(tmp_path, b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    assert (first.value, broken.line, last.value) == ({"a": 1}, 2, {"a": 3})
    assert reason in broken.problem


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (gzip.compress(JSONL * 1000, mtime=0)[:-20], 0, "cut off"),
        (gzip.compress(JSONL, mtime=0)[:12] + b"\x00" * 40, 0, "packed data"),
        ("a,b\nü,1".encode("utf-16"), 0, "UTF-16"),
        (b"PK\x03\x04 and so on", 0, "other than gzip"),
        (b'a,b\nx,"never closed\n', 2, "not CSV"),
        (b"a,a\n1,2\n", 1, "does not name each column once"),
        (b"a,b\n\xff,2\n", 2, "not UTF-8"),
        (b'[{"a": 1}, {"a": 2', 2, "cut off"),
        (b'[{"a": 1} {"a": 2}]', 2, "not JSON"),
        (b"PAR1 but nothing like it PAR1", 0, "Parquet file is broken"),
        (parquet()[:-30], 0, "Parquet file is broken"),
    ],
)
def test_a_file_that_cannot_be_read_on_says_where_and_why(
    tmp_path: Path, content: bytes, line: int, reason: str
) -> None:
    with pytest.raises(Unreadable) as caught:
        read(tmp_path, content)
    assert reason in str(caught.value)
    assert caught.value.line == line


def test_a_row_of_csv_with_too_few_fields_is_bad_alone(tmp_path: Path) -> None:
    bad, good = read(tmp_path, b"a,b\n1\n1,2\n")
    assert (bad.line, bad.problem) == (2, "1 fields where the first line has 2")
    assert good.value == {"a": "1", "b": "2"}


def test_chats_and_cells_made_harmless_come_back_out_of_csv(tmp_path: Path) -> None:
    (record,) = read(tmp_path, b'prompt,chosen\n"[{""role"": ""user"", ""content"": ""x""}]",\'=1+1\n')
    assert record.value == {"prompt": [{"role": "user", "content": "x"}], "chosen": "=1+1"}


def test_a_cell_of_a_hundred_megabytes_is_a_reason_not_memory(tmp_path: Path) -> None:
    first, huge, last = read(tmp_path, b'{"a": 1}\n{"a": "' + b"x" * 10**8 + b'"}\n{"a": 3}\n')
    assert (first.value, huge.value, last.value) == ({"a": 1}, None, {"a": 3})
    assert (huge.line, huge.problem) == (2, "longer than 32 MiB")


def test_a_zip_bomb_is_given_up_by_its_ratio_and_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "RATIO_FROM_BYTES", 2**20)
    bomb = gzip.compress(b'{"a": 1}\n' * 10**6)
    with pytest.raises(Unreadable, match="100 times its size"):
        read(tmp_path, bomb)
    monkeypatch.setattr(opening, "MOST_RATIO", 10**6)
    monkeypatch.setattr(opening, "MOST_BYTES", 2**22)
    with pytest.raises(Unreadable, match="unpacks to more than"):
        read(tmp_path, bomb)
