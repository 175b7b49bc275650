"""A run's inputs: ``spec.json`` and ``data/`` of its run directory, written whole and once, and never changed.

Their hashes are kept in the run's row, so that a later attempt works on what the first one did, or not at all.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _

from annotate.models import Run, Split
from annotate.services import Refused, uncertainty
from annotate.services.files import run_folder
from annotate.services.imitation import examples
from annotate.services.improving import read_prompts
from annotate.services.methods import Method, method_of, spec_kind
from annotate.services.training_rows import training_rows
from policy.contract import PROMPT_COLUMNS, PROMPTS_FILE
from policy.methods import EXAMPLE_COLUMNS, EXAMPLES_FILE, OPTIONAL_EXAMPLE_COLUMNS
from rewardmodel.contract import (
    ANSWER_COLUMNS,
    ANSWERS_FILE,
    OPTIONAL_RANKING_COLUMNS,
    RANKING_COLUMNS,
    RANKINGS_FILE,
)
from rewardmodel.publish import file_sha256, write_json
from rewardmodel.tables import write_rows


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
    write_rows(folder / ANSWERS_FILE, rows, ANSWER_COLUMNS)
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
    write_rows(*_content(run, folder))
    write_json(folder / "spec.json", {"kind": spec_kind(run), "job": run.job})


def _content(run: Run, folder: Path) -> tuple[Path, Iterable[dict[str, Any]], dict[str, str]]:
    """The file that a run's process reads, its rows, and its columns."""
    method = method_of(run) if run.kind == Run.Kind.IMPROVE else None
    if run.kind == Run.Kind.TRAIN_REWARD or method == Method.DPO:
        assert run.snapshot is not None
        return folder / RANKINGS_FILE, training_rows(run.snapshot), RANKING_COLUMNS | OPTIONAL_RANKING_COLUMNS
    if method == Method.SFT:
        assert run.snapshot is not None
        rows = examples(run.snapshot, run.selection["sources"])
        return folder / EXAMPLES_FILE, rows, EXAMPLE_COLUMNS | OPTIONAL_EXAMPLE_COLUMNS
    if run.kind == Run.Kind.SCORE:
        return folder / ANSWERS_FILE, uncertainty.answers(run), ANSWER_COLUMNS
    return folder / PROMPTS_FILE, _prompts(run), PROMPT_COLUMNS


def _prompts(run: Run) -> Iterator[dict[str, Any]]:
    if run.kind == Run.Kind.IMPROVE:
        prompts = read_prompts(run.project, run.selection, run.job.get("fixed_prompts", []))
    else:
        splits = [Split.TEST] if run.kind == Run.Kind.EVALUATE else run.selection.get("splits", Split.values)
        prompts = run.project.prompts.filter(split__in=splits)
    for prompt in prompts.order_by("pk"):
        yield {"prompt_id": str(prompt.pk), "split": prompt.split, "messages": prompt.messages}
