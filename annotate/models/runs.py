"""Heavy work and what it makes: runs, their progress, and reward models."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Run(models.Model):
    """A heavy job. The row is the truth about it; messages only ring the bell."""

    class Kind(models.TextChoices):
        GENERATE = "generate", _("Generate completions")
        TRAIN_REWARD = "train_reward", _("Train reward model")
        IMPROVE = "improve", _("Improve policy")
        EVALUATE = "evaluate", _("Evaluate generations")
        SCORE = "score", _("Score answers")

    class State(models.TextChoices):
        QUEUED = "queued", _("queued")
        RUNNING = "running", _("running")
        SUCCEEDED = "succeeded", _("succeeded")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey("annotate.Project", on_delete=models.RESTRICT, related_name="runs")
    kind = models.CharField(max_length=20, choices=Kind)
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    attempt = models.PositiveIntegerField(default=0)
    attempts_lost = models.PositiveSmallIntegerField(
        default=0, help_text=_("Attempts whose worker or process was killed since a person last asked for the run.")
    )
    cancel_requested = models.BooleanField(default=False)
    key = models.CharField(max_length=80, help_text=_("At most one run with this key is queued or running."))
    job = models.JSONField(help_text=_("The job's settings, as in spec.json."))
    input_hashes = models.JSONField(
        default=dict, blank=True, help_text=_("SHA-256 of each file that the run's process reads, by path.")
    )
    selection = models.JSONField(
        default=dict, blank=True, help_text=_("Which of the project's rows it reads, such as the prompts' splits.")
    )
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="runs"
    )
    generation = models.ForeignKey(
        "annotate.Generation",
        on_delete=models.RESTRICT,
        null=True,
        blank=True,
        related_name="runs",
        help_text=_("The generation it starts from."),
    )
    snapshot = models.ForeignKey(
        "annotate.Snapshot", on_delete=models.RESTRICT, null=True, blank=True, related_name="runs"
    )
    reward_model = models.ForeignKey(
        "annotate.RewardModel", on_delete=models.RESTRICT, null=True, blank=True, related_name="runs"
    )
    progress = models.JSONField(default=dict, blank=True, help_text=_("The last line of progress."))
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)
    log_tail = models.TextField(blank=True)
    result = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)  # by the clock that the sweeper reads
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["project", "-created_at"])]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "key"], condition=Q(state__in=["queued", "running"]), name="run_key_active_once"
            ),
            models.CheckConstraint(
                name="run_kind_known",
                condition=Q(kind__in=["generate", "train_reward", "improve", "evaluate", "score"]),
            ),
            models.CheckConstraint(
                name="run_state_known",
                condition=Q(state__in=["queued", "running", "succeeded", "failed", "cancelled"]),
            ),
            models.CheckConstraint(
                name="run_finished_has_time",
                condition=Q(state__in=["queued", "running"], finished_at__isnull=True)
                | Q(state__in=["succeeded", "failed", "cancelled"], finished_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} · {str(self.id)[:8]}"

    @property
    def active(self) -> bool:
        """Whether it still waits or works."""
        return self.state in (self.State.QUEUED, self.State.RUNNING)

    @property
    def stopping(self) -> bool:
        """Whether its process was asked to end and has not yet."""
        return self.state == self.State.RUNNING and self.cancel_requested

    @property
    def ended_early(self) -> bool:
        """Whether it ended without a result, so that it can be gone on with."""
        return self.state in (self.State.FAILED, self.State.CANCELLED)


class RunEvent(models.Model):
    """A line of a run's progress."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events")
    attempt = models.PositiveIntegerField()
    sequence = models.PositiveIntegerField(help_text=_("Line number in the attempt's progress file."))
    at = models.DateTimeField()
    stage = models.CharField(max_length=40)
    done = models.FloatField(default=0)
    total = models.FloatField(default=0)
    message = models.TextField(blank=True)
    metrics = models.JSONField(default=dict)

    class Meta:
        ordering = ["run", "attempt", "sequence"]
        constraints = [models.UniqueConstraint(fields=["run", "attempt", "sequence"], name="run_event_once")]

    def __str__(self) -> str:
        return f"{self.stage} {self.done}/{self.total}"


class RewardModel(models.Model):
    """A model of the raters' preferences, trained on one snapshot."""

    project = models.ForeignKey("annotate.Project", on_delete=models.RESTRICT, related_name="reward_models")
    number = models.PositiveIntegerField()
    run = models.OneToOneField(Run, on_delete=models.RESTRICT, related_name="made_reward_model")
    snapshot = models.ForeignKey("annotate.Snapshot", on_delete=models.RESTRICT, related_name="reward_models")
    weights_path = models.CharField(max_length=500)
    manifest_sha256 = models.CharField(max_length=64)
    loss = models.CharField(max_length=40)
    metrics = models.JSONField()
    calibration = models.JSONField(null=True, blank=True, help_text=_("Temperature and the like, fitted on dev."))
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["project", "number"]
        constraints = [models.UniqueConstraint(fields=["project", "number"], name="reward_model_number_once")]

    def __str__(self) -> str:
        return f"{self.project} · reward model {self.number}"


class RewardModelReport(models.Model):
    """What was measured of a reward model on test prompts, for those who decide with it; made again at any time."""

    reward_model = models.OneToOneField(RewardModel, on_delete=models.CASCADE, related_name="report")
    figures = models.JSONField(help_text=_("As annotate.services.reward_reports makes them."))
    seconds = models.FloatField(help_text=_("How long measuring took."))
    at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"report of {self.reward_model}"
