"""What a judgement is held against: answer keys, and raters' objections to them."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from annotate.models.content import Translated


class AnswerKey(Translated):
    """A lead's judgement of an item that raters' judgements of it are compared with."""

    class Use(models.TextChoices):
        GOLD = "gold", _("gold")
        QUALIFY = "qualify", _("qualification")

    item = models.ForeignKey("annotate.Item", on_delete=models.RESTRICT, related_name="keys")
    use = models.CharField(max_length=7, choices=Use)
    revision = models.ForeignKey(
        "annotate.JudgementRevision",
        on_delete=models.RESTRICT,
        related_name="keys",
        help_text=_("The judgement that counts as right."),
    )
    explanation = models.TextField(blank=True, help_text=_("Shown to raters with the right answer. Markdown."))
    position = models.PositiveSmallIntegerField(default=0, help_text=_("Place in the qualification."))
    active = models.BooleanField(default=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["use", "position", "id"]
        constraints = [
            models.UniqueConstraint(fields=["item", "use"], name="answer_key_once"),
            models.CheckConstraint(name="answer_key_use_known", condition=Q(use__in=["gold", "qualify"])),
        ]

    def __str__(self) -> str:
        return f"{self.item} · {self.use}"


class Check(models.Model):
    """How far a judgement agreed with what it is held against: an answer key, or the rater's own earlier judgement."""

    judgement = models.OneToOneField("annotate.Judgement", on_delete=models.RESTRICT, related_name="check_result")
    key = models.ForeignKey(AnswerKey, on_delete=models.RESTRICT, null=True, blank=True, related_name="checks")
    earlier = models.ForeignKey(
        "annotate.Judgement", on_delete=models.RESTRICT, null=True, blank=True, related_name="repeat_checks"
    )
    agreement = models.FloatField(help_text=_("From 0, all reversed, to 1, the same."))
    round = models.PositiveSmallIntegerField(default=1, help_text=_("Which try at the qualification it belongs to."))
    revealed_at = models.DateTimeField(
        null=True, blank=True, help_text=_("When the rater was shown the key; from then on the judgement stands.")
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="check_against_one_thing",
                condition=Q(key__isnull=False, earlier__isnull=True) | Q(key__isnull=True, earlier__isnull=False),
            ),
            models.CheckConstraint(name="check_agreement_share", condition=Q(agreement__gte=0, agreement__lte=1)),
        ]

    def __str__(self) -> str:
        return f"{self.judgement_id}: {self.agreement:.2f}"


class Contest(models.Model):
    """A rater's objection to an answer key, and what a lead made of it."""

    class State(models.TextChoices):
        OPEN = "open", _("open")
        ACCEPTED = "accepted", _("accepted")
        REFUSED = "refused", _("refused")

    check_result = models.OneToOneField(Check, on_delete=models.RESTRICT, related_name="contest")
    reason = models.TextField()
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    reply = models.TextField(blank=True)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="contest_state_known", condition=Q(state__in=["open", "accepted", "refused"])),
            models.CheckConstraint(
                name="contest_decided_by_somebody",
                condition=Q(state="open", decided_at__isnull=True) | Q(~Q(state="open"), decided_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.check_result_id}: {self.state}"
