"""The same run rung a hundred times with four workers listening: it is carried out once."""

from __future__ import annotations

import time
from pathlib import Path

from tests.drill.outcome import Outcome
from tests.drill.trainers import Trainers, a_project, wait_until, workers
from tests.site import fresh_site

RINGS = 100
WORKERS = 4


def drill() -> list[Outcome]:
    """Ring before, while and after the run goes on."""
    with fresh_site(HONE_ENGINE="transformers") as folder:
        from annotate.models import Run
        from annotate.services.files import run_folder
        from annotate.services.runs import launch_generate
        from annotate.tasks import run_job

        project = a_project(folder, prompts=6)
        with workers(folder, WORKERS), Trainers() as trainers:
            run = launch_generate(project=project, actor=None, ring=False)
            for _ring in range(RINGS):
                run_job.delay(str(run.pk))
                time.sleep(0.05)
            wait_until(lambda: not Run.objects.get(pk=run.pk).active)
            for _ring in range(RINGS // 10):
                run_job.delay(str(run.pk))
            wait_until(lambda: _waiting() == 0)
            time.sleep(2)
        run.refresh_from_db()
        attempts = len(list(Path(run_folder(run)).glob("attempt-*")))
        answers = run.completions.count()
    name = f"one run rung {RINGS} times, {WORKERS} workers"
    once = (run.state, attempts) == ("succeeded", 1)
    return [
        Outcome(name, f"{run.state}, attempts: {attempts}", "succeeded, attempts: 1", once),
        Outcome(f"{name}: processes at once", str(trainers.most), "1", trainers.most == 1),
        Outcome(f"{name}: answers", str(answers), "24", answers == 24),
    ]


def _waiting() -> int:
    from annotate.celery import app

    with app.connection_for_read() as connection:
        return connection.default_channel.queue_declare("heavy", passive=True).message_count
