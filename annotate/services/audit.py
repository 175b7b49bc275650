"""The trail of changes."""

from __future__ import annotations

from typing import Any

from django.db import models

from annotate.models import AuditEvent, Project, User


def record(
    action: str, subject: models.Model, *, actor: User | None, project: Project | None = None, **data: Any
) -> None:
    """Append an event to the trail, in the caller's transaction.

    :param action: a verb in the past tense, such as ``promoted``.
    :param subject: the record that was changed.
    :param data: plain values that say what changed.
    """
    AuditEvent.objects.create(
        project=project,
        actor=actor,
        action=action,
        object_type=subject._meta.model_name or "",
        object_id=str(subject.pk),
        data=data,
    )
