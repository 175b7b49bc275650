"""Who uses Hone: users, and what they may do in which project."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils.translation import gettext_lazy as _


class User(AbstractUser):
    """A person, or a program that judges in a person's place."""

    class Kind(models.TextChoices):
        HUMAN = "human", _("person")
        SIMULATED = "simulated", _("simulated rater")
        AI = "ai", _("AI judge")

    kind = models.CharField(
        max_length=10,
        choices=Kind,
        default=Kind.HUMAN,
        help_text=_("Judgements of programs are never mixed with people's unless asked."),
    )

    class Meta(AbstractUser.Meta):
        constraints = [
            models.CheckConstraint(name="user_kind_known", condition=models.Q(kind__in=["human", "simulated", "ai"]))
        ]


class Membership(models.Model):
    """A user's role in a project."""

    class Role(models.TextChoices):
        LEAD = "lead", _("lead")
        RATER = "rater", _("rater")

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    project = models.ForeignKey("annotate.Project", on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=5, choices=Role)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "project"], name="one_membership_per_project"),
            models.CheckConstraint(name="membership_role_known", condition=models.Q(role__in=["lead", "rater"])),
        ]

    def __str__(self) -> str:
        return f"{self.user} · {self.project} · {self.role}"
