"""The Celery application: ``celery -A annotate worker -Q heavy`` runs jobs, ``-Q light -B`` all other tasks."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import worker_shutting_down

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotate.settings")

app = Celery("annotate")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_shutting_down.connect
def hand_over(**_: Any) -> None:
    """Have the run in this worker's hands stopped in order and queued again, for another worker to go on with."""
    from annotate.services.follow import worker_stopping

    worker_stopping.set()
