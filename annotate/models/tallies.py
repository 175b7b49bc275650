"""Counts of large projects, made from time to time, since nobody waits for a million rows to be counted."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Tally(models.Model):
    """How many judgements a project, or one of its raters, had when they were last counted."""

    project = models.ForeignKey("annotate.Project", on_delete=models.CASCADE, related_name="tallies")
    rater = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="tallies"
    )
    done = models.PositiveBigIntegerField(help_text=_("Slots that count and are done; of a rater, all judgements."))
    total = models.PositiveBigIntegerField(default=0, help_text=_("Slots that count; of a rater, 0."))
    through = models.PositiveBigIntegerField(help_text=_("Number of the latest judgement that was counted."))
    seconds = models.FloatField(help_text=_("How long the counting took."))
    at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "tallies"
        constraints = [
            models.UniqueConstraint(fields=["project"], condition=Q(rater__isnull=True), name="tally_of_project_once"),
            models.UniqueConstraint(fields=["project", "rater"], name="tally_of_rater_once"),
        ]

    def __str__(self) -> str:
        return f"{self.project_id}/{self.rater_id or ''}: {self.done}"


class RaterFigures(models.Model):
    """What a rater of a large project had done when its raters were last measured."""

    project = models.ForeignKey("annotate.Project", on_delete=models.CASCADE, related_name="rater_figures")
    rater = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="figures")
    judged = models.PositiveBigIntegerField()
    total_ms = models.PositiveBigIntegerField(help_text=_("Time at work on all of them, idle taken out."))
    median_ms = models.FloatField(null=True)
    gold_mean = models.FloatField(null=True, help_text=_("Mean agreement with the keys of gold items."))
    gold_n = models.PositiveBigIntegerField()
    self_mean = models.FloatField(null=True, help_text=_("Mean agreement with the rater's own earlier judgements."))
    self_n = models.PositiveBigIntegerField()
    flags = models.PositiveBigIntegerField()
    skips = models.PositiveBigIntegerField()
    seconds = models.FloatField(help_text=_("How long measuring the project took."))
    at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "rater figures"
        constraints = [models.UniqueConstraint(fields=["project", "rater"], name="figures_of_rater_once")]

    def __str__(self) -> str:
        return f"{self.project_id}/{self.rater_id}: {self.judged}"


class Aggregate(models.Model):
    """Statistics of a project as they were when they were last taken."""

    class Name(models.TextChoices):
        RATERS = "raters", _("raters")
        GENERATIONS = "generations", _("generations")

    project = models.ForeignKey("annotate.Project", on_delete=models.CASCADE, related_name="aggregates")
    name = models.CharField(max_length=20, choices=Name)
    data = models.JSONField()
    through = models.PositiveBigIntegerField(help_text=_("Number of the latest version of a judgement that was in."))
    seconds = models.FloatField(help_text=_("How long it took."))
    at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="aggregate_of_project_once"),
            models.CheckConstraint(name="aggregate_name_known", condition=Q(name__in=["raters", "generations"])),
        ]

    def __str__(self) -> str:
        return f"{self.project_id}/{self.name}"
