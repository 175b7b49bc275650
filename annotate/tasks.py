"""What Celery runs: tasks only call services. A message says which row to look at, and nothing else.

A task's name is what lies in the broker while a deploy goes on, so it is written out and stays as it is when the
function is renamed or moved: a message of the old release finds its task in the new one.
"""

from __future__ import annotations

from celery import shared_task

from annotate.services import aggregates, background, execute, figures, import_stages, runs, standing, uploaded
from annotate.services.archive import shelf
from annotate.services.sweep import sweep as find_unattended


@shared_task(name="annotate.tasks.run_job")
def run_job(run_id: str) -> None:
    """Carry out a run, unless somebody has it already."""
    execute.execute(run_id)


@shared_task(name="annotate.tasks.sweep")
def sweep() -> None:
    """Ring again for what nobody works on, and discard what nobody comes back to."""
    for run in find_unattended():
        runs.call_worker(run)
    for found in import_stages.sweep():
        import_stages.call_worker(found)
    for task in background.sweep():
        background.call_worker(task)
    uploaded.discard_abandoned()
    shelf.sweep()


@shared_task(name="annotate.tasks.carry_on_import")
def carry_on_import(pk: int) -> None:
    """Check, write or undo an import, unless somebody is at it already."""
    import_stages.carry_on(pk)


@shared_task(name="annotate.tasks.make")
def make(pk: int) -> None:
    """Make what a background task asks for, unless somebody is at it already."""
    background.carry_on(pk)


@shared_task(name="annotate.tasks.count")
def count() -> None:
    """Count the projects whose last count is old, measure their raters, and take their statistics."""
    standing.count_again()
    figures.measure_again()
    aggregates.take_again()
