"""Who uses Hone: users, what they may do in which project, and how they get in."""

from __future__ import annotations

from django.conf import settings
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
    qualified_at = models.DateTimeField(
        null=True, blank=True, help_text=_("When the qualification was passed, or a lead let it be.")
    )
    qualification_round = models.PositiveSmallIntegerField(
        default=1, help_text=_("Which try at the qualification this is; a lead may allow another.")
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "project"], name="one_membership_per_project"),
            models.CheckConstraint(name="membership_role_known", condition=models.Q(role__in=["lead", "rater"])),
        ]

    def __str__(self) -> str:
        return f"{self.user} · {self.project} · {self.role}"


class GuidelineReading(models.Model):
    """That a rater has read a version of the instructions."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="guideline_readings")
    guideline = models.ForeignKey("annotate.GuidelineVersion", on_delete=models.CASCADE, related_name="readings")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "guideline"], name="guideline_read_once")]

    def __str__(self) -> str:
        return f"{self.user} · {self.guideline}"


class Invite(models.Model):
    """A link by which people join a project in a role; of its secret only the hash is kept."""

    project = models.ForeignKey("annotate.Project", on_delete=models.CASCADE, related_name="invites")
    role = models.CharField(max_length=5, choices=Membership.Role)
    token_sha256 = models.CharField(max_length=64, unique=True, editable=False)
    max_uses = models.PositiveSmallIntegerField(help_text=_("How many people may join by it."))
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="invites")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(name="invite_role_known", condition=models.Q(role__in=["lead", "rater"])),
            models.CheckConstraint(name="invite_max_uses_positive", condition=models.Q(max_uses__gte=1)),
        ]

    def __str__(self) -> str:
        return f"invite {self.pk}"


class InviteUse(models.Model):
    """That somebody joined by an invite; the same link does not let them in again after they were removed."""

    invite = models.ForeignKey(Invite, on_delete=models.RESTRICT, related_name="uses")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.RESTRICT, related_name="invite_uses")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["invite", "user"], name="invite_used_once_by_each")]

    def __str__(self) -> str:
        return f"{self.invite} · {self.user}"


class SignInTry(models.Model):
    """A try to sign in that failed or goes on, under one of the keys that tries are counted by."""

    key = models.CharField(max_length=64, help_text=_("A keyed hash of the account, address or browser."))
    at = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name_plural = "sign-in tries"
        indexes = [models.Index(fields=["key", "-at"], name="sign_in_try_by_key")]

    def __str__(self) -> str:
        return f"{self.key[:12]} {self.at:%H:%M:%S}"
