"""Asking for an archive that nobody waits for."""

from __future__ import annotations

from django.db import transaction

from annotate.models import BackgroundTask, Project, User
from annotate.services import audit, background
from annotate.services.archive.shelf import KIND


def ask(*, project: Project, weights: bool, actor: User) -> BackgroundTask:
    """Have a worker write an archive.

    :param weights: whether model folders come along.
    """
    with transaction.atomic():
        task = background.ask(project=project, kind=KIND, asked={"weights": weights}, actor=actor)
        audit.record("asked for archive", project, actor=actor, project=project, weights=weights)
    return task
