"""What is judged: projects, prompts, generations of the policy, and their completions."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

MIN_COMPLETIONS, MAX_COMPLETIONS = 2, 9
MAX_LEASE_MINUTES = 8 * 60


class Split(models.TextChoices):
    """The part of the data a prompt belongs to, once and for all."""

    TRAIN = "train", _("train")
    DEV = "dev", _("dev")
    TEST = "test", _("test")


class Translated(models.Model):
    """Text that a lead writes, with renderings of its fields in other languages."""

    translations = models.JSONField(
        default=dict, blank=True, help_text=_('{"language code": {"field": "text"}}; fields left out show as they are.')
    )

    class Meta:
        abstract = True

    def in_language(self, field: str, language: str) -> str:
        """The field's text in a language, or as it was written where there is no rendering."""
        return self.translations.get(language, {}).get(field) or getattr(self, field)


class Project(Translated):
    """A question put to raters about a model's answers, and the loop that follows from it."""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    score_on = models.BooleanField(_("scores"), default=True)
    rank_on = models.BooleanField(_("ranking"), default=True)
    edit_on = models.BooleanField(_("edits"), default=True)
    norms_on = models.BooleanField(_("norms"), default=False)
    rationale_on = models.BooleanField(_("rationale"), default=True)
    strength_on = models.BooleanField(
        _("strength"), default=False, help_text=_("Where two answers are compared: by how much one is better.")
    )
    completions_per_item = models.PositiveSmallIntegerField(
        default=4, validators=[MinValueValidator(MIN_COMPLETIONS), MaxValueValidator(MAX_COMPLETIONS)]
    )
    overlap = models.PositiveSmallIntegerField(
        default=1, validators=[MinValueValidator(1)], help_text=_("Raters who judge each item.")
    )
    paused_at = models.DateTimeField(
        null=True, blank=True, help_text=_("While it is set, no items are handed out; those in hand can be finished.")
    )
    lease_minutes = models.PositiveSmallIntegerField(
        default=30,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_LEASE_MINUTES)],
        help_text=_("How long an item is kept for a rater who does nothing."),
    )
    quota = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text=_("Most items of one rater; empty for all.")
    )
    random_share = models.FloatField(
        default=0.2, help_text=_("Share of items offered at random; the others are offered most uncertain first.")
    )
    gold_rate = models.FloatField(default=0.0, help_text=_("Share of a rater's items whose answer is known."))
    repeat_rate = models.FloatField(default=0.0, help_text=_("Share of a rater's items that they judge a second time."))
    adjudicate_above = models.FloatField(
        null=True,
        blank=True,
        help_text=_("Disagreement, from 0 to 1, above which somebody else decides; empty for never."),
    )
    pass_mark = models.FloatField(
        null=True,
        blank=True,
        help_text=_("Agreement, from 0 to 1, that a new rater must reach on the qualification; empty for none."),
    )
    base_model = models.CharField(max_length=500, help_text=_("Folder of the model that is generation 0."))
    temperature = models.FloatField(default=0.7, help_text=_("Of sampling, training and serving alike."))
    max_tokens = models.PositiveIntegerField(default=64, help_text=_("Most tokens of an answer."))
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="project_completions_per_item",
                condition=Q(completions_per_item__gte=MIN_COMPLETIONS, completions_per_item__lte=MAX_COMPLETIONS),
            ),
            models.CheckConstraint(name="project_overlap_positive", condition=Q(overlap__gte=1)),
            models.CheckConstraint(name="project_temperature_positive", condition=Q(temperature__gt=0)),
            models.CheckConstraint(name="project_max_tokens_positive", condition=Q(max_tokens__gte=1)),
            models.CheckConstraint(
                name="project_collects_something",
                condition=Q(score_on=True) | Q(rank_on=True) | Q(edit_on=True) | Q(norms_on=True),
            ),
            models.CheckConstraint(
                name="project_lease_minutes",
                condition=Q(lease_minutes__gte=1, lease_minutes__lte=MAX_LEASE_MINUTES),
            ),
            models.CheckConstraint(name="project_quota_positive", condition=Q(quota__isnull=True) | Q(quota__gte=1)),
            models.CheckConstraint(name="project_random_share", condition=Q(random_share__gte=0, random_share__lte=1)),
            models.CheckConstraint(
                name="project_rates",
                condition=Q(gold_rate__gte=0, gold_rate__lte=0.5, repeat_rate__gte=0, repeat_rate__lte=0.5),
            ),
            models.CheckConstraint(
                name="project_thresholds",
                condition=(Q(adjudicate_above__isnull=True) | Q(adjudicate_above__gte=0, adjudicate_above__lte=1))
                & (Q(pass_mark__isnull=True) | Q(pass_mark__gte=0, pass_mark__lte=1)),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class GuidelineVersion(Translated):
    """The project's instructions as raters saw them from some day on; never changed, only followed."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="guidelines")
    number = models.PositiveIntegerField()
    text = models.TextField(help_text=_("Markdown."))
    must_read = models.BooleanField(
        default=True, help_text=_("Whether raters are shown it before they go on; a small correction need not be.")
    )
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["project", "-number"]
        constraints = [models.UniqueConstraint(fields=["project", "number"], name="guideline_number_once")]

    def __str__(self) -> str:
        return f"{self.project} · v{self.number}"


class Criterion(Translated):
    """One question that a score answers, with words for each of its five values."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="criteria")
    name = models.CharField(max_length=80)
    description = models.TextField(blank=True)
    anchors = models.JSONField(help_text=_('{"1": "…", "2": "…", "3": "…", "4": "…", "5": "…"}'))
    position = models.PositiveSmallIntegerField(default=0)
    active = models.BooleanField(
        default=True, help_text=_("Whether raters are asked for it; scores given before stay.")
    )

    class Meta:
        verbose_name_plural = "criteria"
        ordering = ["project", "position"]
        constraints = [
            # Deferred, so that two criteria can change names.
            models.UniqueConstraint(
                fields=["project", "name"], name="criterion_name_once", deferrable=models.Deferrable.DEFERRED
            )
        ]

    def __str__(self) -> str:
        return self.name


class Norm(models.Model):
    """A rule that answers should follow."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="norms")
    name = models.CharField(max_length=120)
    active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "name"], name="norm_name_once", deferrable=models.Deferrable.DEFERRED
            )
        ]

    def __str__(self) -> str:
        return self.name


class NormVersion(models.Model):
    """A norm's text from some day on."""

    norm = models.ForeignKey(Norm, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    text = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["norm", "number"], name="norm_version_once")]

    def __str__(self) -> str:
        return f"{self.norm} · v{self.number}"


class Prompt(models.Model):
    """A chat that wants an answer."""

    project = models.ForeignKey(Project, on_delete=models.RESTRICT, related_name="prompts")
    messages = models.JSONField(help_text=_('[{"role": "user", "content": "…"}, …]; may be empty.'))
    reference = models.TextField(null=True, blank=True, help_text=_("A known good answer."))  # noqa: DJ001
    tags = ArrayField(models.CharField(max_length=50), default=list, blank=True)
    split = models.CharField(max_length=5, choices=Split)
    dedup_hash = models.CharField(max_length=64, help_text=_("SHA-256 of the messages in canonical form."))
    batch = models.CharField(max_length=80, blank=True, help_text=_("The import that brought it."))
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["project", "split"])]
        constraints = [
            models.UniqueConstraint(fields=["project", "dedup_hash"], name="prompt_once_per_project"),
            models.CheckConstraint(name="prompt_split_known", condition=Q(split__in=["train", "dev", "test"])),
        ]

    def __str__(self) -> str:
        return self.messages[-1]["content"][:80] if self.messages else str(_("(empty prompt)"))


class Generation(models.Model):
    """The policy after k rounds of improvement; generation 0 is the base model."""

    class State(models.TextChoices):
        CANDIDATE = "candidate", _("candidate")
        PROMOTED = "promoted", _("promoted")
        REJECTED = "rejected", _("rejected")

    project = models.ForeignKey(Project, on_delete=models.RESTRICT, related_name="generations")
    number = models.PositiveIntegerField()
    parent = models.ForeignKey("self", on_delete=models.RESTRICT, null=True, blank=True, related_name="children")
    run = models.OneToOneField(
        "annotate.Run", on_delete=models.RESTRICT, null=True, blank=True, related_name="made_generation"
    )
    weights_path = models.CharField(max_length=500)
    manifest_sha256 = models.CharField(max_length=64, blank=True)
    how_made = models.JSONField(default=dict, help_text=_("Method, its settings and what it measured."))
    gate = models.JSONField(null=True, blank=True, help_text=_("What was measured before the decision."))
    state = models.CharField(max_length=10, choices=State, default=State.CANDIDATE)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["project", "number"]
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="generation_number_once"),
            models.CheckConstraint(
                name="generation_zero_has_no_parent",
                condition=Q(number=0, parent__isnull=True) | Q(number__gt=0, parent__isnull=False),
            ),
            models.CheckConstraint(
                name="generation_state_known", condition=Q(state__in=["candidate", "promoted", "rejected"])
            ),
        ]

    def __str__(self) -> str:
        return f"{self.project} · generation {self.number}"


class Completion(models.Model):
    """An answer to a prompt: generated by a generation, edited from another, or imported."""

    prompt = models.ForeignKey(Prompt, on_delete=models.RESTRICT, related_name="completions")
    generation = models.ForeignKey(
        Generation, on_delete=models.RESTRICT, null=True, blank=True, related_name="completions"
    )
    sample = models.PositiveIntegerField(
        null=True, blank=True, help_text=_("Number among the generation's answers to the prompt.")
    )
    edit_of = models.ForeignKey("self", on_delete=models.RESTRICT, null=True, blank=True, related_name="edits")
    run = models.ForeignKey(
        "annotate.Run", on_delete=models.RESTRICT, null=True, blank=True, related_name="completions"
    )
    text = models.TextField(blank=True)
    token_count = models.PositiveIntegerField(null=True, blank=True)
    finish_reason = models.CharField(max_length=20, blank=True)
    sum_logprob = models.FloatField(null=True, blank=True, help_text=_("Nats, at the sampling temperature."))
    sampling = models.JSONField(default=dict, blank=True)
    seed = models.BigIntegerField(null=True, blank=True)
    engine = models.CharField(max_length=40, blank=True)
    engine_version = models.CharField(max_length=200, blank=True)
    batch = models.CharField(max_length=80, blank=True, help_text=_("The import that brought it."))
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["generation", "prompt", "sample"],
                condition=Q(generation__isnull=False),
                name="completion_sample_once",
            ),
            models.CheckConstraint(
                name="completion_has_one_origin",
                condition=Q(generation__isnull=False, sample__isnull=False, edit_of__isnull=True)
                | Q(generation__isnull=True, sample__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return self.text[:80]


class Item(models.Model):
    """A prompt with K of its completions: the thing that one rater judges at once."""

    class Purpose(models.TextChoices):
        COLLECT = "collect", _("collect")
        EVALUATE = "evaluate", _("evaluate")

    project = models.ForeignKey(Project, on_delete=models.RESTRICT, related_name="items")
    prompt = models.ForeignKey(Prompt, on_delete=models.RESTRICT, related_name="items")
    purpose = models.CharField(max_length=10, choices=Purpose, default=Purpose.COLLECT)
    evaluation = models.ForeignKey(
        "annotate.Evaluation", on_delete=models.RESTRICT, null=True, blank=True, related_name="items"
    )
    completions = models.ManyToManyField(Completion, through="ItemCompletion", related_name="items")
    uncertainty = models.FloatField(
        null=True,
        blank=True,
        help_text=_("Bits: how little a reward model knows of the order of the answers; empty where none looked."),
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["project", "purpose"])]
        constraints = [
            models.CheckConstraint(name="item_purpose_known", condition=Q(purpose__in=["collect", "evaluate"]))
        ]

    def __str__(self) -> str:
        return f"item {self.pk}"


class ItemCompletion(models.Model):
    """A completion's place in an item; raters see another order, drawn for each slot."""

    item = models.ForeignKey(Item, on_delete=models.RESTRICT, related_name="entries")
    completion = models.ForeignKey(Completion, on_delete=models.RESTRICT, related_name="entries")
    position = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ["item", "position"]
        constraints = [
            models.UniqueConstraint(fields=["item", "position"], name="item_position_once"),
            models.UniqueConstraint(fields=["item", "completion"], name="item_completion_once"),
        ]

    def __str__(self) -> str:
        return f"{self.item} #{self.position}"
