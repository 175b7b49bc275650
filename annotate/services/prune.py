"""What of an ended run's folder may go.

A run that succeeded needs no checkpoints; one that failed or was cancelled keeps them, and a model
that it published but that was never registered, for as long as somebody may want to go on with it.
Specification, data, logs, completions, and weights of generations and reward models always stay.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.db import transaction
from django.db.models.functions import Now

from annotate.models import Generation, RewardModel, Run
from annotate.services.files import located, run_folder
from rewardmodel.rundir import is_held, leftovers


@dataclass(frozen=True)
class Pruned:
    """A file or folder that was deleted, or would be."""

    path: Path
    size: int
    """Bytes."""


def prune(*, older_than: timedelta, dry_run: bool) -> Iterator[Pruned]:
    """Delete what ended runs no longer need, run by run.

    :param older_than: failed and cancelled runs that ended more recently stay as they are.
    :param dry_run: only tell.
    """
    used = {
        located(path)
        for model in (Generation, RewardModel)
        for path in model.objects.values_list("weights_path", flat=True)
    }
    ended_early = Run.objects.filter(state__in=[Run.State.FAILED, Run.State.CANCELLED])
    given_up = set(ended_early.filter(finished_at__lt=Now() - older_than).values_list("pk", flat=True))
    for pk in Run.objects.values_list("pk", flat=True):
        with transaction.atomic():
            run = Run.objects.select_for_update().get(pk=pk)  # locked, so that nobody resumes it meanwhile
            pruned = _prune(run, used, run.ended_early and pk in given_up, dry_run)
        yield from pruned


def _prune(run: Run, used: set[Path], given_up: bool, dry_run: bool) -> list[Pruned]:
    folder = run_folder(run)
    if run.active or is_held(folder):
        return []
    useless = leftovers(folder)
    if given_up or run.state == Run.State.SUCCEEDED:
        useless.append(folder / "checkpoints")
    if given_up:
        # The result first: it is of no use without the model that it names.
        useless += [path for path in (folder / "result.json", folder / "output" / "model") if path not in used]
    pruned = [Pruned(path, _size(path)) for path in useless if path.exists()]
    if not dry_run:
        for found in pruned:
            shutil.rmtree(found.path) if found.path.is_dir() else found.path.unlink()
    return pruned


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
