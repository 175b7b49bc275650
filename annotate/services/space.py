"""Room on the disk: what a run will write, estimated from its model's size before anything is done."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

from django.conf import settings
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from annotate.models import Run
from annotate.services import Refused
from rewardmodel.rundir import CHECKPOINTS_KEPT

SLACK = 256 << 20
"""Bytes left for completions, logs and everything else on the disk."""
LONGEST_HEADER = 100 << 20
"""Bytes; the format allows no longer one."""
FLOAT = 4
"""Bytes of a float32 number, the widest that is written."""
TRAINS = (Run.Kind.TRAIN_REWARD, Run.Kind.IMPROVE)
WEIGHTS_IN_CHECKPOINT = 3
"""How often a trained number stands in a checkpoint: itself, two moments of Adam; with early stopping the best too."""


def check(kind: str, job: dict[str, Any]) -> None:
    """See that the disk has room for what a run writes.

    :param job: the run's settings, as in ``spec.json``.
    :raises Refused: saying how much is needed and how much there is.
    """
    folder = Path(settings.RUNS_DIR)
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    needed, free = needed_bytes(kind, job), shutil.disk_usage(existing).free
    if free < needed:
        raise Refused(
            _(
                "This run may write %(needed)s, and the disk of %(folder)s has %(free)s free: make room there, "
                "for example with manage.py prune_runs."
            )
            % {"needed": filesizeformat(needed), "folder": folder, "free": filesizeformat(free)}
        )


def needed_bytes(kind: str, job: dict[str, Any]) -> int:
    """Most bytes that a run holds on the disk at once, the model that it publishes included."""
    if kind not in TRAINS:
        return SLACK
    shapes = _shapes(Path(job["base_model"] if kind == Run.Kind.TRAIN_REWARD else job["policy"]))
    model = sum(map(math.prod, shapes))
    matrices = [shape for shape in shapes if len(shape) == 2]
    trained = sum(job["lora_rank"] * sum(shape) for shape in matrices) if job["lora_rank"] else model
    stops_early = kind == Run.Kind.TRAIN_REWARD or "patience" in job
    checkpoints = (CHECKPOINTS_KEPT + 1) * (WEIGHTS_IN_CHECKPOINT + stops_early) * trained
    return SLACK + FLOAT * (model + checkpoints)


def parameters_of(folder: Path) -> int:
    """How many numbers a model's weights are."""
    return sum(map(math.prod, _shapes(folder)))


def _shapes(folder: Path) -> list[list[int]]:
    """The shapes of a model's tensors, as its safetensors files' headers tell them."""
    shapes = []
    for path in folder.glob("*.safetensors"):
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            try:
                header = json.loads(file.read(min(size, LONGEST_HEADER)))
            except ValueError:
                continue  # the process will say what is wrong with it
        shapes += [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
    return shapes
