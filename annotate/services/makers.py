"""What background tasks make: each maker takes what was asked for and tells how far it is.

A maker runs in the transaction that ends its task, leaves nothing half done when it is given up, and finds what an
earlier attempt finished.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from annotate.models import Project, User
from annotate.services.archive import shelf
from annotate.services.export import write_download
from annotate.services.heartbeat import OnProgress
from annotate.services.recipe import parse_recipe
from annotate.services.reward_reports import report
from annotate.services.runs import launch_train_reward
from annotate.services.snapshots import create_snapshot

Maker = Callable[[Project, dict[str, Any], User | None, OnProgress], dict[str, Any]]
"""Called with the project, what was asked for, by whom, and what to tell; returns what came of it as plain values."""


def freeze(project: Project, asked: dict[str, Any], actor: User | None, on_progress: OnProgress) -> dict[str, Any]:
    """A snapshot: asked for by ``name`` and ``recipe``, it comes as ``snapshot``, its number."""
    recipe = parse_recipe(asked["recipe"])
    made = create_snapshot(project=project, actor=actor, name=asked["name"], recipe=recipe, on_progress=on_progress)
    return {"snapshot": made.pk}


def write_files(project: Project, asked: dict[str, Any], actor: User | None, on_progress: OnProgress) -> dict[str, Any]:
    """The files of one form of export: asked for by ``snapshot``, ``form`` and ``file_type``."""
    snapshot = project.snapshots.get(pk=asked["snapshot"])
    write_download(snapshot, asked["form"], asked["file_type"], on_progress)
    return {}


def train_reward(
    project: Project, asked: dict[str, Any], actor: User | None, on_progress: OnProgress
) -> dict[str, Any]:
    """A snapshot and a run that learns from it: asked for by ``settings``, it comes as ``run``, its number."""
    snapshot = create_snapshot(project=project, actor=actor, on_progress=on_progress)
    run = launch_train_reward(project=project, actor=actor, snapshot=snapshot, settings=asked["settings"])
    return {"run": str(run.pk)}


MAKERS: dict[str, Maker] = {
    "snapshot": freeze,
    "export": write_files,
    "train_reward": train_reward,
    shelf.KIND: shelf.write,
    report.KIND: report.make,
}
"""By the kinds of tasks."""
AT_A_MOMENT_OF_THEIR_OWN = frozenset({shelf.KIND})
"""Kinds whose maker reads all as it is at one moment, in a transaction of its own, and writes a file alone."""
