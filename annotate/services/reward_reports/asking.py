"""Asking for a reward model's report, which a light worker makes."""

from __future__ import annotations

from django.db import transaction

from annotate.models import BackgroundTask, RewardModel, User
from annotate.services import audit, background
from annotate.services.reward_reports.report import KIND


def ask(*, reward_model: RewardModel, actor: User | None) -> BackgroundTask:
    """Have a reward model measured by a worker.

    :returns: the task; the one that is at work already where there is one.
    """
    with transaction.atomic():
        audit.record("asked for report", reward_model, actor=actor, project=reward_model.project)
        asked = {"reward_model": reward_model.number}
        return background.ask(project=reward_model.project, kind=KIND, asked=asked, actor=actor)
