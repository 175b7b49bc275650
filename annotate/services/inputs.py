"""A run's inputs: ``spec.json`` and ``data/`` of its run directory, written whole and once, and never changed.

Their hashes are kept in the run's row, so that a later attempt works on what the first one did, or not at all.
"""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from django.utils.translation import gettext as _

from annotate.models import Run, Split
from annotate.services import Refused, uncertainty
from annotate.services.files import run_folder
from annotate.services.imitation import examples
from annotate.services.improving import read_prompts
from annotate.services.methods import Method, method_of, spec_kind
from annotate.services.training_rows import training_rows
from policy.contract import PROMPTS_FILE
from policy.methods import EXAMPLES_FILE
from rewardmodel.contract import ANSWERS_FILE, RANKINGS_FILE
from rewardmodel.publish import file_sha256, whole_file, write_json

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
PROMPTS = pa.schema([("prompt_id", pa.string()), ("split", pa.string()), ("messages", MESSAGES)])
RANKINGS = pa.schema(
    [
        ("row_id", pa.string()),
        ("prompt_id", pa.string()),
        ("split", pa.string()),
        ("messages", MESSAGES),
        ("responses", pa.list_(pa.string())),
        ("ranks", pa.list_(pa.int32())),
        ("weight", pa.float64()),
        ("margin", pa.float64()),
        ("ratings", pa.list_(pa.float64())),
        ("cut_off", pa.list_(pa.bool_())),
    ]
)
EXAMPLES = pa.schema(
    [
        ("row_id", pa.string()),
        ("prompt_id", pa.string()),
        ("split", pa.string()),
        ("messages", MESSAGES),
        ("response", pa.string()),
        ("weight", pa.float64()),
        ("source", pa.string()),
        ("cut_off", pa.bool_()),
    ]
)
ANSWERS = pa.schema([("row_id", pa.string()), ("messages", MESSAGES), ("responses", pa.list_(pa.string()))])

ROWS_AT_ONCE = 10_000
"""Rows that are held in memory while they are written."""


def prepare(run: Run) -> None:
    """Write what a run's process reads, or check that it is what an earlier attempt found.

    :raises Refused: naming the file that was changed or removed since.
    """
    folder = run_folder(run)
    if run.input_hashes:
        _check(run, folder)
        return
    if not (folder / "spec.json").exists():
        _write(run, folder)
    files = [folder / "spec.json", *sorted((folder / "data").iterdir())]
    run.input_hashes = {str(path.relative_to(folder)): file_sha256(path) for path in files}
    run.save(update_fields=["input_hashes"])


def write_answers(run: Run, rows: list[dict[str, Any]]) -> None:
    """Write the inputs of a run that scores texts, which are nowhere else, as it is queued.

    :param rows: of ``data/answers.parquet``.
    """
    folder = run_folder(run)
    for name in ("data", "output"):
        (folder / name).mkdir(parents=True)
    with whole_file(folder / ANSWERS_FILE) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=ANSWERS), temporary)
    write_json(folder / "spec.json", {"kind": run.kind, "job": run.job})


def _check(run: Run, folder: Path) -> None:
    for name, sha256 in run.input_hashes.items():
        path = folder / name
        if not path.is_file() or file_sha256(path) != sha256:
            raise Refused(
                _("%(file)s was changed or removed after this run began: put it back, or start a new run.")
                % {"file": path}
            )


def _write(run: Run, folder: Path) -> None:
    """Write the inputs; ``spec.json`` comes last and marks the rest as whole."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    (folder / "output").mkdir()
    method = method_of(run) if run.kind == Run.Kind.IMPROVE else None
    if run.kind == Run.Kind.TRAIN_REWARD or method == Method.DPO:
        _write_rankings(run, folder / RANKINGS_FILE)
    elif method == Method.SFT:
        _write_examples(run, folder / EXAMPLES_FILE)
    elif run.kind == Run.Kind.SCORE:
        _write_answers(run, folder / ANSWERS_FILE)
    else:
        _write_prompts(run, folder / PROMPTS_FILE)
    write_json(folder / "spec.json", {"kind": spec_kind(run), "job": run.job})


def _write_rankings(run: Run, path: Path) -> None:
    assert run.snapshot is not None
    with whole_file(path) as temporary, pq.ParquetWriter(temporary, RANKINGS) as writer:
        made = training_rows(run.snapshot)
        while rows := list(islice(made, ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(rows, schema=RANKINGS))


def _write_examples(run: Run, path: Path) -> None:
    assert run.snapshot is not None
    with whole_file(path) as temporary, pq.ParquetWriter(temporary, EXAMPLES) as writer:
        made = examples(run.snapshot, run.selection["sources"])
        while rows := list(islice(made, ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(rows, schema=EXAMPLES))


def _write_answers(run: Run, path: Path) -> None:
    with whole_file(path) as temporary:
        pq.write_table(pa.Table.from_pylist(list(uncertainty.answers(run)), schema=ANSWERS), temporary)


def _write_prompts(run: Run, path: Path) -> None:
    if run.kind == Run.Kind.IMPROVE:
        prompts = read_prompts(run.project, run.selection, run.job.get("fixed_prompts", []))
    else:
        splits = [Split.TEST] if run.kind == Run.Kind.EVALUATE else run.selection.get("splits", Split.values)
        prompts = run.project.prompts.filter(split__in=splits)
    rows = [{"prompt_id": str(p.pk), "split": p.split, "messages": p.messages} for p in prompts.order_by("pk")]
    with whole_file(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=PROMPTS), temporary)
