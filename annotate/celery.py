"""The Celery application: ``celery -A annotate worker -Q heavy`` runs jobs, ``-Q light -B`` all other tasks."""

from __future__ import annotations

import logging.config
import os
from typing import Any

from celery import Celery, signals
from django.conf import settings

from annotate.observe import context

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotate.settings")

app = Celery("annotate")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@signals.setup_logging.connect
def _log_as_the_site_does(**_: Any) -> None:
    """Keep the site's log format in workers; Celery sets up its own where nobody answers this signal."""
    logging.config.dictConfig(settings.LOGGING)


@signals.task_prerun.connect
def _mark_lines_with_the_task(task_id: str, **_: Any) -> None:
    context.bind(task_id=task_id)


@signals.task_postrun.connect
def _mark_lines_with_nothing(**_: Any) -> None:
    context.forget()


@signals.worker_shutting_down.connect
def _hand_over(**_: Any) -> None:
    """Have the run in this worker's hands stopped in order and queued again, for another worker to go on with."""
    from annotate.services.follow import worker_stopping

    worker_stopping.set()
