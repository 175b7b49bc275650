"""Planned comparisons of a generation with its parent: what is decided before the first outcome is in."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Evaluation(models.Model):
    """A blind comparison of two generations on test prompts, as it was planned; its items are in order of the draw."""

    project = models.ForeignKey("annotate.Project", on_delete=models.RESTRICT, related_name="evaluations")
    newer = models.ForeignKey("annotate.Generation", on_delete=models.RESTRICT, related_name="evaluations")
    older = models.ForeignKey("annotate.Generation", on_delete=models.RESTRICT, related_name="+")
    planned = models.PositiveIntegerField(help_text=_("Test prompts; fixed once an outcome is in."))
    guideline = models.ForeignKey(
        "annotate.GuidelineVersion",
        on_delete=models.RESTRICT,
        null=True,
        blank=True,
        related_name="+",
        help_text=_("The instructions that its raters must have read; judgements under others are kept apart."),
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    completed_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text=_(
            "When the newest judgement was given with which its planned number was in: from then on all are final."
        ),
    )

    class Meta:
        ordering = ["project", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["newer", "older", "guideline"], name="evaluation_planned_once"),
            models.CheckConstraint(name="evaluation_plans_something", condition=Q(planned__gte=1)),
        ]

    def __str__(self) -> str:
        return f"{self.newer_id} / {self.older_id}"


class EvaluationRater(models.Model):
    """One of the people whose judgements an evaluation counts."""

    evaluation = models.ForeignKey(Evaluation, on_delete=models.CASCADE, related_name="pool")
    rater = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.RESTRICT, related_name="+")
    added_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text=_("When they came to it after something was judged; empty for those who were stated before."),
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["evaluation", "rater"], name="evaluation_rater_once")]

    def __str__(self) -> str:
        return f"{self.evaluation_id}: {self.rater_id}"
