"""What Celery runs: tasks only call services. A message says which row to look at, and nothing else."""

from __future__ import annotations

from celery import shared_task

from annotate.services import execute, runs


@shared_task
def run_job(run_id: str) -> None:
    """Carry out a run, unless somebody has it already."""
    execute.execute(run_id)


@shared_task
def sweep() -> None:
    """Ring again for runs that nobody works on."""
    for run in execute.sweep():
        runs.call_worker(run)
