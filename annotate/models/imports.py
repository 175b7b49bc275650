"""Imports: files that people brought, what was read of them, and what became of it."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Import(models.Model):
    """A file of data on its way into a project. The row is the truth about it; messages only ring the bell."""

    class State(models.TextChoices):
        CHECKING = "checking", _("being checked")
        READY = "ready", _("waits for you")
        WRITING = "writing", _("being imported")
        DONE = "done", _("imported")
        UNDOING = "undoing", _("being undone")
        UNDONE = "undone", _("undone")
        FAILED = "failed", _("failed")
        DISCARDED = "discarded", _("discarded")

    project = models.ForeignKey("annotate.Project", on_delete=models.RESTRICT, related_name="imports")
    state = models.CharField(max_length=10, choices=State, default=State.CHECKING)
    file_name = models.CharField(max_length=200)
    size = models.PositiveBigIntegerField(help_text=_("Bytes of the file."))
    sha256 = models.CharField(max_length=64, help_text=_("Of the file."))
    format = models.CharField(max_length=40, blank=True)
    recognised = models.JSONField(default=dict, blank=True, help_text=_("Format, reason, share of rows, columns."))
    mapping = models.JSONField(default=dict, blank=True, help_text=_("Columns by the names that the format has."))
    skip_bad = models.BooleanField(default=False, help_text=_("Whether the good rows go in without the bad ones."))
    source = models.CharField(max_length=80, help_text=_("Where the data come from; rows may say otherwise."))
    licence = models.CharField(max_length=80, blank=True)
    counts = models.JSONField(default=dict, blank=True, help_text=_("Records and rows by what became of them."))
    problems = models.JSONField(default=list, blank=True, help_text=_("Line, reason and whether it is bad."))
    preview = models.JSONField(default=list, blank=True, help_text=_("The first rows as they will be."))
    progress = models.FloatField(default=0, help_text=_("Share of the file that was read."))
    attempt = models.PositiveIntegerField(default=0)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)
    first_number = models.PositiveBigIntegerField(
        null=True,
        blank=True,
        help_text=_("Its number where the project was made, if that was another."),
        editable=False,
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="imports"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.CheckConstraint(
                name="import_state_known",
                condition=Q(
                    state__in=["checking", "ready", "writing", "done", "undoing", "undone", "failed", "discarded"]
                ),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.batch}: {self.file_name}"

    @property
    def batch(self) -> str:
        """The name under which its rows know it."""
        return f"import-{self.first_number or self.pk}"

    @property
    def active(self) -> bool:
        """Whether somebody works on it, or is to."""
        return self.state in (self.State.CHECKING, self.State.WRITING, self.State.UNDOING)
