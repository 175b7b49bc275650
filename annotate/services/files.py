"""Model folders and run directories on disk."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from annotate.models import Run
from annotate.services import Refused
from rewardmodel.rundir import checkpoints, step_of

CONTEXT_NAMES = ("max_position_embeddings", "n_positions")
"""What kinds of models call the longest sequence that they read."""


def run_folder(run: Run) -> Path:
    """The run directory of a run."""
    return Path(settings.RUNS_DIR) / str(run.pk)


def read_json(text: str | bytes) -> Any:
    """JSON that a run's process wrote, as the database can hold it.

    What a model says may hold NUL, which no text of PostgreSQL has and is left out, or half a surrogate pair, which
    becomes a question mark. A figure that is infinite or no number, or a list with such a number in it, is left out of
    what holds it: JSON has none.

    :raises ValueError: when it is none.
    """
    return _storable(json.loads(text))


def _storable(value: Any) -> Any:
    match value:
        case str():
            return value.replace("\x00", "").encode(errors="replace").decode()
        case list():
            return [_storable(each) for each in value]
        case dict():
            return {_storable(name): _storable(each) for name, each in value.items() if _is_finite(each)}
    return value


def _is_finite(value: Any) -> bool:
    match value:
        case float():
            return math.isfinite(value)
        case list():
            return all(map(_is_finite, value))
    return True


def resume_step(run: Run) -> int | None:
    """The step of the checkpoint that a run would go on from; None where it has none."""
    saved = checkpoints(run_folder(run))
    return step_of(saved[-1]) if saved else None


def remove_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of a run directory."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def stored(path: Path) -> str:
    """A path as records keep it: relative to the data folder where it lies inside, so the folder can be moved."""
    absolute = path.absolute()
    if absolute.is_relative_to(settings.HONE_DATA_DIR):
        return str(absolute.relative_to(settings.HONE_DATA_DIR))
    return str(absolute)


def located(path: str) -> Path:
    """The absolute path of one that records keep; the inverse of :func:`stored`."""
    return Path(settings.HONE_DATA_DIR) / path


def check_model_folder(path: str) -> Path:
    """Check, without loading it, that a folder holds a causal language model.

    :raises Refused: when it is missing, lies outside the allowed roots, or lacks weights.
    """
    folder = located(path)
    roots = [Path(root).resolve() for root in settings.HONE_MODEL_ROOTS]
    if not any(folder.resolve().is_relative_to(root) for root in roots):
        raise Refused(
            _("The model folder %(path)s lies outside the allowed folders; add its parent to HONE_MODEL_ROOTS.")
            % {"path": path},
            place="base_model",
        )
    if not (folder / "config.json").is_file():
        raise Refused(
            _("There is no model in %(path)s: the folder or its config.json is missing.") % {"path": path},
            place="base_model",
        )
    if not list(folder.glob("*.safetensors")):
        raise Refused(_("The model in %(path)s has no safetensors weights.") % {"path": path}, place="base_model")
    return folder


def context_length(folder: Path) -> int | None:
    """Longest sequence of a model in tokens, as its ``config.json`` says; None where it does not.

    Models that also see or hear keep what holds for text apart, and GPT-2 has another name for it.
    """
    config = json.loads((folder / "config.json").read_text())
    for part in (config.get("text_config"), config):
        for name in CONTEXT_NAMES:
            if isinstance(part, dict) and isinstance(part.get(name), int):
                return int(part[name])
    return None
