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
from annotate.services.heartbeat import OnProgress
from annotate.services.rows import CHUNK, rankings
from annotate.services.snapshots import is_short, splits_of
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
    snapshot: Snapshot,
    out: Path,
    *,
    forms: Sequence[str] = tuple(FORMS),
    file_types: Sequence[str] = FILE_TYPES,
    on_progress: OnProgress | None = None,
) -> list[Written]:
    """Write forms of a snapshot below a folder, with a manifest and the card of the data set.

    Files appear whole or not at all, the manifest last. A split without rows has no file.

    :raises Refused: when the folder cannot be written or the disk is full; earlier files stay as they were.
    """
    with _sentences(out):
        out.mkdir(parents=True, exist_ok=True)
        files = _write(snapshot, out, out, forms, file_types, on_progress)
        head = {"snapshot": str(snapshot), "sha256": snapshot.sha256}
        manifest = {**head, "files": [asdict(file) for file in files]}
        _replace(out / "README.md", card(snapshot, [file.path for file in files]).encode())
        _replace(out / MANIFEST, json.dumps(manifest, indent=1).encode())
    return files


def is_quick(snapshot: Snapshot) -> bool:
    """Whether a form of a snapshot is written while somebody waits."""
    return is_short(
        orders=[snapshot.revision_entries.all(), snapshot.ranked_list_entries.all()],
        others=[snapshot.comparison_entries.all(), snapshot.demonstration_entries.all()],
    )


def written(snapshot: Snapshot, form: str, file_type: str) -> dict[str, Written] | None:
    """The files of a form that pages serve, by split; None while they are not written. A split without rows has none.

    They are written by :func:`write_download` and lie below :func:`download_folder`.
    """
    listing = download_folder(snapshot) / form / f"{file_type}.json"
    try:
        files = json.loads(listing.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return {Path(file["path"]).stem: Written(**file) for file in files}


def write_download(snapshot: Snapshot, form: str, file_type: str, on_progress: OnProgress | None = None) -> None:
    """Write the files of a form that pages serve, unless they are there.

    :raises Refused: when they cannot be written.
    """
    folder = download_folder(snapshot) / form
    with _sentences(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in folder.glob(".*.tmp"):  # by somebody who was killed
                shutil.rmtree(left, ignore_errors=True)
            if written(snapshot, form, file_type) is None:
                files = _write(snapshot, folder.parent, folder, [form], [file_type], on_progress)
                listing = json.dumps([asdict(file) for file in files]).encode()
                _replace(folder / f"{file_type}.json", listing)


def download_folder(snapshot: Snapshot) -> Path:
    """Where the files lie that pages serve of a snapshot."""
    return Path(settings.HONE_DATA_DIR) / "exports" / snapshot.sha256


def _write(
    snapshot: Snapshot,
    out: Path,
    beside: Path,
    forms: Sequence[str],
    file_types: Sequence[str],
    on_progress: OnProgress | None,
) -> list[Written]:
    """Write the files into a folder in `beside` first, then move them to their places below `out`."""
    temporary = beside / f".{secrets.token_hex(8)}.tmp"
    told = on_progress or (lambda stage, done, total: None)
    try:
        rows = _write_lines(snapshot, temporary, [FORMS[name] for name in forms], told)
        converted, all_rows = 0, sum(rows.values()) * len(set(file_types) - {"jsonl"})

        def on_rows(more: int) -> None:
            nonlocal converted
            converted += more
            told("converting", converted, all_rows)

        files = []
        for (name, split), count in rows.items():
            if not count:
                continue
            source = temporary / name / f"{split}.jsonl"
            for file_type in file_types:
                target = source.with_suffix(f".{file_type}")
                if file_type == "parquet":
                    to_parquet(source, target, FORMS[name].schema, on_rows)
                elif file_type == "csv":
                    to_csv(source, target, list(FORMS[name].columns), on_rows)
                path = str(target.relative_to(temporary))
                files.append(Written(path, count, target.stat().st_size, file_sha256(target)))
        for file in files:
            (out / file.path).parent.mkdir(exist_ok=True)
            os.replace(temporary / file.path, out / file.path)
        return files
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_lines(
    snapshot: Snapshot, folder: Path, forms: Sequence[Form], told: OnProgress
) -> dict[tuple[str, str], int]:
    """JSON Lines of all forms in one pass over the rankings.

    :returns: rows by form and split.
    """
    rows = {(form.name, split): 0 for form in forms for split in SPLITS}
    prompts: set[str] = set()
    total = sum(counts.rankings + counts.demonstrations for counts in splits_of(snapshot))
    with ExitStack() as files:
        outputs = {}
        for form in forms:
            (folder / form.name).mkdir(parents=True)
            for split in SPLITS:
                path = folder / form.name / f"{split}.jsonl"
                outputs[form.name, split] = files.enter_context(open(path, "wb", buffering=1 << 18))
        once = any(form.once for form in forms)
        for number, ranking in enumerate(rankings(snapshot)):
            if number % CHUNK == 0:
                told("writing", number, total)
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
