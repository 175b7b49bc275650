"""Who judges what, and what they said: slots, submissions, judgements and their revisions."""

from __future__ import annotations

import random

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from annotate.models.content import Completion
from annotate.prepared import Prepared


class Purpose(models.TextChoices):
    """Why a slot exists; only the first two count towards overlap, win-rates and training."""

    COLLECT = "collect", _("collect")
    EVALUATE = "evaluate", _("evaluate")
    GOLD = "gold", _("gold")
    REPEAT = "repeat", _("repeat")
    QUALIFY = "qualify", _("qualify")
    ADJUDICATE = "adjudicate", _("adjudicate")


_answers = Prepared(
    lambda item: Completion.objects.filter(entries__item=item).order_by("entries__position").only("text")
)
COUNTED = Q(purpose__in=["collect", "evaluate"])
OPEN = Q(state__in=["free", "leased"])


class Slot(models.Model):
    """Room for one rater's judgement of one item.

    *free* belongs to nobody, *leased* to a rater until the lease runs out (and after it, until
    somebody else takes the slot), *done* holds a judgement for good. Slots that count are for
    whoever comes; those made on demand are for one named rater.
    """

    class State(models.TextChoices):
        FREE = "free", _("free")
        LEASED = "leased", _("leased")
        DONE = "done", _("done")

    project = models.ForeignKey("annotate.Project", on_delete=models.RESTRICT, related_name="slots")
    item = models.ForeignKey("annotate.Item", on_delete=models.RESTRICT, related_name="slots")
    purpose = models.CharField(max_length=10, choices=Purpose, default=Purpose.COLLECT)
    number = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text=_("Place in the item's overlap, from 0; empty for slots made on demand.")
    )
    state = models.CharField(max_length=6, choices=State, default=State.FREE)
    rater = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.RESTRICT, null=True, blank=True, related_name="slots"
    )
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    ahead = models.BooleanField(
        default=False,
        db_default=False,
        help_text=_("Fetched by the page before it is needed; others may take it when nothing is free."),
    )
    reserved_for = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.RESTRICT,
        null=True,
        blank=True,
        related_name="reserved_slots",
        help_text=_("The only rater who may take it; only for slots made on demand."),
    )
    priority = models.BigIntegerField(default=0, help_text=_("Lower is offered first."))
    lottery = models.BigIntegerField(
        default=0, db_default=0, help_text=_("The same where a slot is drawn at random; never changed.")
    )
    order_seed = models.BigIntegerField(help_text=_("Seed of the order in which completions are shown."))
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [
            models.Index(fields=["project", "priority", "id"], condition=OPEN, name="slot_open"),
            models.Index(
                fields=["reserved_for", "project", "priority", "id"],
                condition=Q(OPEN, reserved_for__isnull=False),
                name="slot_reserved",
            ),
            models.Index(fields=["rater", "project", "state"], name="slot_of_rater"),
            models.Index(fields=["project", "lottery", "id"], condition=OPEN, name="slot_open_at_random"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["item", "number"], condition=COUNTED, name="slot_number_once"),
            models.UniqueConstraint(fields=["item", "rater"], condition=COUNTED, name="slot_rater_once_per_item"),
            models.CheckConstraint(
                name="slot_number_where_counted",
                condition=Q(COUNTED, number__isnull=False) | Q(~COUNTED, number__isnull=True),
            ),
            models.CheckConstraint(
                name="slot_state_consistent",
                condition=Q(state="free", rater__isnull=True, lease_expires_at__isnull=True)
                | Q(state="leased", rater__isnull=False, lease_expires_at__isnull=False)
                | Q(state="done", rater__isnull=False, lease_expires_at__isnull=True),
            ),
            models.UniqueConstraint(
                fields=["item"], condition=Q(OPEN, purpose="adjudicate"), name="slot_one_open_adjudication"
            ),
            models.CheckConstraint(
                name="slot_reserved_unless_counted",
                condition=Q(COUNTED, reserved_for__isnull=True) | Q(~COUNTED, reserved_for__isnull=False),
            ),
            models.CheckConstraint(
                name="slot_reservation_kept",
                condition=Q(reserved_for__isnull=True) | Q(rater__isnull=True) | Q(rater=F("reserved_for")),
            ),
            models.CheckConstraint(name="slot_ahead_is_leased", condition=Q(ahead=False) | Q(state="leased")),
            models.CheckConstraint(
                name="slot_purpose_known",
                condition=Q(purpose__in=["collect", "evaluate", "gold", "repeat", "qualify", "adjudicate"]),
            ),
        ]

    def __str__(self) -> str:
        return f"slot {self.pk}"

    @cached_property
    def shown(self) -> dict[int, str]:
        """Texts of the item's completions by id, in the order in which this slot shows them, drawn from its seed."""
        completions = _answers(item=self.item_id)
        random.Random(self.order_seed).shuffle(completions)
        return {completion.pk: completion.text for completion in completions}


class Lease(models.Model):
    """That a slot was once handed to a rater: what they send for it is theirs, even when it comes late."""

    slot = models.ForeignKey(Slot, on_delete=models.RESTRICT, related_name="leases")
    rater = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.RESTRICT, related_name="leases")
    claimed_at = models.DateTimeField(auto_now_add=True)
    at_random = models.BooleanField(
        null=True,
        help_text=_("Whether it was drawn at random rather than by uncertainty; empty where nothing was drawn."),
    )
    random_share = models.FloatField(null=True, help_text=_("Probability, then, of a draw at random."))

    class Meta:
        constraints = [models.UniqueConstraint(fields=["slot", "rater"], name="lease_once")]

    def __str__(self) -> str:
        return f"{self.slot_id} → {self.rater_id}"


class Draft(models.Model):
    """What a rater has typed so far, so that it is there on another machine; the submission replaces it.

    Browsers number their drafts. One replaces another only with a higher number, and one of another
    browser only where its sender has seen that one: typing is never lost to a page that was left open.
    """

    slot = models.ForeignKey(Slot, on_delete=models.RESTRICT, related_name="drafts")
    rater = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.RESTRICT, related_name="drafts")
    version = models.PositiveIntegerField(
        default=0, help_text=_("Version of the judgement that it would change; 0 before there is one.")
    )
    sequence = models.PositiveBigIntegerField()
    browser = models.UUIDField(help_text=_("Made by the browser that it was typed in."))
    answer = models.TextField(help_text=_("JSON, by the page's letters."))
    active_ms = models.PositiveIntegerField(default=0)
    saved_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["slot", "rater"], name="draft_once")]

    def __str__(self) -> str:
        return f"draft {self.sequence} of {self.slot_id}"


class Submission(models.Model):
    """One pressing of *Submit*, as it arrived; never changed. Sending it again changes nothing."""

    class Outcome(models.TextChoices):
        ACCEPTED = "accepted", _("accepted")
        LATE = "late", _("late")

    uuid = models.UUIDField(primary_key=True, help_text=_("Made by the page."))
    slot = models.ForeignKey(Slot, on_delete=models.RESTRICT, related_name="submissions")
    rater = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.RESTRICT, related_name="submissions")
    payload = models.JSONField()
    payload_sha256 = models.CharField(max_length=64)
    outcome = models.CharField(max_length=8, choices=Outcome)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["slot", "rater"])]
        constraints = [
            models.CheckConstraint(name="submission_outcome_known", condition=Q(outcome__in=["accepted", "late"]))
        ]

    def __str__(self) -> str:
        return str(self.uuid)


class Judgement(models.Model):
    """What a rater says of an item; its content is the revision with the number `version`."""

    slot = models.OneToOneField(Slot, on_delete=models.RESTRICT, related_name="judgement")
    item = models.ForeignKey("annotate.Item", on_delete=models.RESTRICT, related_name="judgements")
    rater = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.RESTRICT, related_name="judgements")
    version = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [models.Index(fields=["rater", "-updated_at"])]
        constraints = [models.CheckConstraint(name="judgement_version_positive", condition=Q(version__gte=1))]

    def __str__(self) -> str:
        return f"judgement {self.pk} v{self.version}"


class JudgementRevision(models.Model):
    """A judgement's content at one version.

    ``active_ms`` is the time since the version before was stored, that at its drafts included: the time at a judgement
    is the sum over its versions.
    """

    judgement = models.ForeignKey(Judgement, on_delete=models.RESTRICT, related_name="revisions")
    number = models.PositiveIntegerField()
    submission = models.OneToOneField(Submission, on_delete=models.RESTRICT, related_name="revision")
    both_bad = models.BooleanField(default=False)
    strength = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text=_("Of a preference between two: 1 slightly, 2 clearly, 3 much better.")
    )
    rationale = models.TextField(blank=True)
    order_shown = ArrayField(models.BigIntegerField(), help_text=_("Completion ids in the order the rater saw them."))
    active_ms = models.PositiveIntegerField(default=0, help_text=_("Time at work on it, idle taken out."))
    guideline = models.ForeignKey("annotate.GuidelineVersion", on_delete=models.RESTRICT, null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["judgement", "number"], name="revision_number_once"),
            models.CheckConstraint(
                name="revision_strength_1_to_3",
                condition=Q(strength__isnull=True) | Q(strength__gte=1, strength__lte=3),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.judgement_id} r{self.number}"


class Score(models.Model):
    """A completion's score by one criterion."""

    revision = models.ForeignKey(JudgementRevision, on_delete=models.RESTRICT, related_name="scores")
    completion = models.ForeignKey("annotate.Completion", on_delete=models.RESTRICT, related_name="scores")
    criterion = models.ForeignKey("annotate.Criterion", on_delete=models.RESTRICT, related_name="scores")
    value = models.PositiveSmallIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["revision", "completion", "criterion"], name="score_once"),
            models.CheckConstraint(name="score_1_to_5", condition=Q(value__gte=1, value__lte=5)),
        ]

    def __str__(self) -> str:
        return f"{self.criterion_id}: {self.value}"


class Rank(models.Model):
    """A completion's place among the item's; 1 is best, ties share a place, no row is unranked."""

    revision = models.ForeignKey(JudgementRevision, on_delete=models.RESTRICT, related_name="ranks")
    completion = models.ForeignKey("annotate.Completion", on_delete=models.RESTRICT, related_name="ranks")
    group = models.PositiveSmallIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["revision", "completion"], name="rank_once"),
            models.CheckConstraint(name="rank_1_to_9", condition=Q(group__gte=1, group__lte=9)),
        ]

    def __str__(self) -> str:
        return str(self.group)


class Edit(models.Model):
    """A rater's better wording of a completion, itself a completion."""

    revision = models.ForeignKey(JudgementRevision, on_delete=models.RESTRICT, related_name="edits")
    completion = models.ForeignKey("annotate.Completion", on_delete=models.RESTRICT, related_name="edit_records")
    edited = models.ForeignKey("annotate.Completion", on_delete=models.RESTRICT, related_name="made_by_edits")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["revision", "completion"], name="edit_once"),
            models.CheckConstraint(name="edit_makes_another", condition=~Q(completion=F("edited"))),
        ]

    def __str__(self) -> str:
        return f"{self.completion_id} → {self.edited_id}"


class NormVerdict(models.Model):
    """Whether a completion keeps a norm."""

    class Verdict(models.TextChoices):
        COMPLY = "comply", _("complies")
        VIOLATE = "violate", _("violates")
        NOT_APPLICABLE = "na", _("not applicable")

    revision = models.ForeignKey(JudgementRevision, on_delete=models.RESTRICT, related_name="norm_verdicts")
    completion = models.ForeignKey("annotate.Completion", on_delete=models.RESTRICT, related_name="norm_verdicts")
    norm_version = models.ForeignKey("annotate.NormVersion", on_delete=models.RESTRICT, related_name="verdicts")
    verdict = models.CharField(max_length=8, choices=Verdict)
    quote = models.TextField(blank=True, help_text=_("The part of the completion that shows it."))

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["revision", "completion", "norm_version"], name="norm_verdict_once"),
            models.CheckConstraint(name="norm_verdict_known", condition=Q(verdict__in=["comply", "violate", "na"])),
        ]

    def __str__(self) -> str:
        return self.verdict


class Flag(models.Model):
    """A rater's warning about a completion."""

    revision = models.ForeignKey(JudgementRevision, on_delete=models.RESTRICT, related_name="flags")
    completion = models.ForeignKey("annotate.Completion", on_delete=models.RESTRICT, related_name="flags")
    note = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["revision", "completion"], name="flag_once")]

    def __str__(self) -> str:
        return self.note


class Skip(models.Model):
    """A rater who passed over a slot, and why; it does not come back to them."""

    slot = models.ForeignKey(Slot, on_delete=models.RESTRICT, related_name="skips")
    rater = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.RESTRICT, related_name="skips")
    reason = models.CharField(max_length=500)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["slot", "rater"], name="skip_once")]

    def __str__(self) -> str:
        return self.reason
