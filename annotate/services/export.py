"""Writing a snapshot in the forms that other tools read: one file for each split, JSON Lines, Parquet and CSV.

What a page serves is written once, into a folder named by the snapshot's hash, so that a download that broke off goes
on with the same bytes. The command writes the same files wherever it is told to, with a manifest and the card.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from annotate.formats.writing.files import FILE_TYPES, line, to_csv, to_parquet
from annotate.formats.writing.forms import FORMS, Form
from annotate.models import Snapshot, Split
from annotate.services import Refused
from annotate.services.card import card
from annotate.services.rows import rankings
from rewardmodel.publish import file_sha256

MANIFEST = "manifest.json"
SPLITS = tuple(str(split) for split in Split)


@dataclass(frozen=True)
class Written:
    """One file of an export."""

    path: str
    """Below the export's folder, as trl-preference/train.jsonl."""
    rows: int
    bytes: int
    sha256: str


def export(
    snapshot: Snapshot, out: Path, *, forms: Sequence[str] = tuple(FORMS), file_types: Sequence[str] = FILE_TYPES
) -> list[Written]:
    """Write forms of a snapshot below a folder, with a manifest and the card of the data set.

    Files appear whole or not at all, the manifest last. A split without rows has no file.

    :raises Refused: when the folder cannot be written or the disk is full; earlier files stay as they were.
    """
    with _sentences(out):
        out.mkdir(parents=True, exist_ok=True)
        files = _write(snapshot, out, forms, file_types)
        head = {"snapshot": str(snapshot), "sha256": snapshot.sha256}
        manifest = {**head, "files": [asdict(file) for file in files]}
        _replace(out / "README.md", card(snapshot, [file.path for file in files]).encode())
        _replace(out / MANIFEST, json.dumps(manifest, indent=1).encode())
    return files


def download(snapshot: Snapshot, form: str, split: str, file_type: str) -> tuple[Path, Written | None]:
    """The file of an export that a page serves, written if it is asked for the first time.

    :returns: its path, and what is in it; None where that split has no row.
    :raises Refused: when it cannot be written.
    """
    folder = Path(settings.HONE_DATA_DIR) / "exports" / snapshot.sha256 / form
    listing = folder / f"{file_type}.json"
    with _sentences(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not listing.exists():
                written = _write(snapshot, folder.parent, [form], [file_type])
                _replace(listing, json.dumps([asdict(file) for file in written]).encode())
    files = {file["path"]: Written(**file) for file in json.loads(listing.read_bytes())}
    path = f"{form}/{split}.{file_type}"
    return folder.parent / path, files.get(path)


def _write(snapshot: Snapshot, out: Path, forms: Sequence[str], file_types: Sequence[str]) -> list[Written]:
    """Write the files beside their places first, then move them there."""
    temporary = out / f".{secrets.token_hex(8)}.tmp"
    try:
        rows = _write_lines(snapshot, temporary, [FORMS[name] for name in forms])
        written = []
        for (name, split), count in rows.items():
            if not count:
                continue
            source = temporary / name / f"{split}.jsonl"
            for file_type in file_types:
                target = source.with_suffix(f".{file_type}")
                if file_type == "parquet":
                    to_parquet(source, target, FORMS[name].schema)
                elif file_type == "csv":
                    to_csv(source, target, list(FORMS[name].columns))
                path = str(target.relative_to(temporary))
                written.append(Written(path, count, target.stat().st_size, file_sha256(target)))
        for file in written:
            (out / file.path).parent.mkdir(exist_ok=True)
            os.replace(temporary / file.path, out / file.path)
        return written
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_lines(snapshot: Snapshot, folder: Path, forms: Sequence[Form]) -> dict[tuple[str, str], int]:
    """JSON Lines of all forms in one pass over the rankings.

    :returns: rows by form and split.
    """
    rows = {(form.name, split): 0 for form in forms for split in SPLITS}
    prompts: set[str] = set()
    with ExitStack() as files:
        outputs = {}
        for form in forms:
            (folder / form.name).mkdir(parents=True)
            for split in SPLITS:
                path = folder / form.name / f"{split}.jsonl"
                outputs[form.name, split] = files.enter_context(open(path, "wb", buffering=1 << 18))
        once = any(form.once for form in forms)
        for ranking in rankings(snapshot):
            seen = ranking.prompt_id in prompts
            if once:
                prompts.add(ranking.prompt_id)
            for form in forms:
                if form.once and seen:
                    continue
                key = (form.name, ranking.split)
                for row in form.rows(ranking):
                    outputs[key].write(line(row))
                    rows[key] += 1
    return rows


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _sentences(out: Path) -> Iterator[None]:
    """Say in one sentence why nothing could be written."""
    try:
        yield
    except OSError as problem:
        raise Refused(
            _("%(path)s cannot be written: %(problem)s.")
            % {"path": problem.filename or out, "problem": problem.strerror or problem}
        ) from problem
