"""Work that a page asks for and nobody waits for: minutes of the database or the disk, without a model."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class BackgroundTask(models.Model):
    """Something that is being made by a light worker. The row is the truth about it; messages only ring the bell."""

    class State(models.TextChoices):
        QUEUED = "queued", _("waiting")
        RUNNING = "running", _("at work")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    project = models.ForeignKey("annotate.Project", on_delete=models.CASCADE, related_name="background_tasks")
    kind = models.CharField(max_length=40, help_text=_("What is made, one of annotate.services.makers."))
    asked = models.JSONField(default=dict, blank=True, help_text=_("What of it was asked for."))
    key = models.CharField(max_length=64, help_text=_("Hash of kind and what was asked for; once at a time."))
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    stage = models.CharField(max_length=40, blank=True, help_text=_("What is being done."))
    done = models.PositiveBigIntegerField(default=0, help_text=_("Rows of it that are done."))
    total = models.PositiveBigIntegerField(default=0, help_text=_("Rows of it; 0 where that is not known."))
    attempt = models.PositiveIntegerField(default=0)
    cancel_requested = models.BooleanField(default=False)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)
    result = models.JSONField(default=dict, blank=True, help_text=_("What came of it."))
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="background_tasks"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "key"],
                condition=Q(state__in=["queued", "running"]),
                name="background_task_active_once",
            ),
            models.CheckConstraint(
                name="background_task_state_known",
                condition=Q(state__in=["queued", "running", "done", "failed", "cancelled"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"

    @property
    def active(self) -> bool:
        """Whether it still waits or is being made."""
        return self.state in (self.State.QUEUED, self.State.RUNNING)
