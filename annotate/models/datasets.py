"""What judgements become: comparisons, signals and frozen snapshots."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _


class Comparison(models.Model):
    """A pair of which one answer is preferred, imported or derived; no rater is needed."""

    project = models.ForeignKey("annotate.Project", on_delete=models.RESTRICT, related_name="comparisons")
    prompt = models.ForeignKey("annotate.Prompt", on_delete=models.RESTRICT, related_name="comparisons")
    chosen = models.ForeignKey("annotate.Completion", on_delete=models.RESTRICT, related_name="won_comparisons")
    rejected = models.ForeignKey("annotate.Completion", on_delete=models.RESTRICT, related_name="lost_comparisons")
    source = models.CharField(max_length=80, help_text=_("Where the pair comes from."))
    strength = models.FloatField(null=True, blank=True, help_text=_("How much better, in the source's own unit."))
    weight = models.FloatField(default=1.0, db_default=1.0, help_text=_("How much it counts beside others."))
    number = models.PositiveIntegerField(
        default=1, db_default=1, help_text=_("Among equal pairs: data may say the same twice, for two raters say.")
    )
    batch = models.CharField(max_length=80, blank=True, help_text=_("The import that brought it."))
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["project", "source"])]
        constraints = [
            models.UniqueConstraint(fields=["batch", "chosen", "rejected", "number"], name="comparison_once_per_batch"),
            models.CheckConstraint(name="comparison_weight_positive", condition=Q(weight__gt=0)),
            models.CheckConstraint(name="comparison_of_two", condition=~Q(chosen=F("rejected"))),
        ]

    def __str__(self) -> str:
        return f"{self.chosen_id} ≻ {self.rejected_id}"


class RankedList(models.Model):
    """An imported order of several answers to a prompt, ties and unranked answers included; its answers are rows."""

    project = models.ForeignKey("annotate.Project", on_delete=models.RESTRICT, related_name="ranked_lists")
    prompt = models.ForeignKey("annotate.Prompt", on_delete=models.RESTRICT, related_name="ranked_lists")
    source = models.CharField(max_length=80, help_text=_("Where the order comes from."))
    strength = models.FloatField(null=True, blank=True, help_text=_("How much better, in the source's own unit."))
    weight = models.FloatField(default=1.0, db_default=1.0, help_text=_("How much it counts beside others."))
    digest = models.UUIDField(help_text=_("Of its answers and their places."))
    number = models.PositiveIntegerField(
        default=1, db_default=1, help_text=_("Among equal ones: data may say the same twice, for two raters say.")
    )
    batch = models.CharField(max_length=80, blank=True, help_text=_("The import that brought it."))
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["project", "source"])]
        constraints = [
            models.UniqueConstraint(fields=["prompt", "digest", "number"], name="ranked_list_once"),
            models.CheckConstraint(name="ranked_list_weight_positive", condition=Q(weight__gt=0)),
        ]

    def __str__(self) -> str:
        return f"ranking {self.pk}"


class RankedAnswer(models.Model):
    """An answer in an imported order."""

    ranked_list = models.ForeignKey(RankedList, on_delete=models.RESTRICT, related_name="answers")
    position = models.PositiveSmallIntegerField(help_text=_("In which order the answers came, from 0."))
    completion = models.ForeignKey("annotate.Completion", on_delete=models.RESTRICT, related_name="ranked_answers")
    rank = models.PositiveIntegerField(null=True, blank=True, help_text=_("1 is best, equals are a tie."))
    score = models.FloatField(null=True, blank=True, help_text=_("As the source gives it; more is better."))

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["ranked_list", "position"], name="ranked_answer_position_once"),
            models.CheckConstraint(name="ranked_answer_rank_from_1", condition=Q(rank__gte=1)),
        ]

    def __str__(self) -> str:
        return f"{self.ranked_list_id}: {self.completion_id}"


class Demonstration(models.Model):
    """An answer that was brought to be learned from as it is."""

    project = models.ForeignKey("annotate.Project", on_delete=models.RESTRICT, related_name="demonstrations")
    completion = models.OneToOneField(
        "annotate.Completion", on_delete=models.RESTRICT, related_name="demonstration", verbose_name=_("completion")
    )
    source = models.CharField(max_length=80, help_text=_("Where the answer comes from."))
    weight = models.FloatField(default=1.0, db_default=1.0, help_text=_("How much it counts beside others."))
    batch = models.CharField(max_length=80, blank=True, help_text=_("The import that brought it."))
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.CheckConstraint(name="demonstration_weight_positive", condition=Q(weight__gt=0))]

    def __str__(self) -> str:
        return f"demonstration {self.completion_id}"


class Signal(models.Model):
    """One feedback source's value for one completion."""

    project = models.ForeignKey("annotate.Project", on_delete=models.RESTRICT, related_name="signals")
    completion = models.ForeignKey("annotate.Completion", on_delete=models.RESTRICT, related_name="signals")
    source = models.CharField(max_length=80, help_text=_("reward_model, perplexity, ai_judge, or an external name."))
    version = models.CharField(max_length=80, help_text=_("Version of the source; its constants are frozen with it."))
    reward_model = models.ForeignKey(
        "annotate.RewardModel", on_delete=models.RESTRICT, null=True, blank=True, related_name="signals"
    )
    run = models.ForeignKey("annotate.Run", on_delete=models.RESTRICT, null=True, blank=True, related_name="signals")
    value = models.FloatField(help_text=_("As the source gives it, before any scaling."))
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["completion", "source", "version"], name="signal_once"),
            models.CheckConstraint(
                name="signal_reward_model_where_it_is_one",
                condition=Q(source="reward_model", reward_model__isnull=False)
                | Q(~Q(source="reward_model"), reward_model__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.value:.3f}"


class Snapshot(models.Model):
    """A frozen data set, named by the hash of its content and rebuilt equal from the rows it lists."""

    project = models.ForeignKey("annotate.Project", on_delete=models.RESTRICT, related_name="snapshots")
    name = models.CharField(max_length=80)
    sha256 = models.CharField(max_length=64)
    recipe = models.JSONField(help_text=_("What was asked for: sources, filters, splits."))
    counts = models.JSONField(help_text=_("Rankings, pairs and prompts by split, raters by kind."))
    revisions = models.ManyToManyField(
        "annotate.JudgementRevision", through="SnapshotRevision", related_name="snapshots"
    )
    comparisons = models.ManyToManyField(Comparison, through="SnapshotComparison", related_name="snapshots")
    ranked_lists = models.ManyToManyField(RankedList, through="SnapshotRankedList", related_name="snapshots")
    demonstrations = models.ManyToManyField(Demonstration, through="SnapshotDemonstration", related_name="snapshots")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["project", "name"], name="snapshot_name_once"),
            models.UniqueConstraint(fields=["project", "sha256"], name="snapshot_content_once"),
        ]

    def __str__(self) -> str:
        return f"{self.project.slug}/{self.name}"


class SnapshotRevision(models.Model):
    """A judgement revision that a snapshot holds."""

    snapshot = models.ForeignKey(Snapshot, on_delete=models.CASCADE, related_name="revision_entries")
    revision = models.ForeignKey("annotate.JudgementRevision", on_delete=models.RESTRICT)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["snapshot", "revision"], name="snapshot_revision_once")]

    def __str__(self) -> str:
        return f"{self.snapshot_id}: {self.revision_id}"


class SnapshotComparison(models.Model):
    """A comparison that a snapshot holds."""

    snapshot = models.ForeignKey(Snapshot, on_delete=models.CASCADE, related_name="comparison_entries")
    comparison = models.ForeignKey(Comparison, on_delete=models.RESTRICT)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["snapshot", "comparison"], name="snapshot_comparison_once")]

    def __str__(self) -> str:
        return f"{self.snapshot_id}: {self.comparison_id}"


class SnapshotRankedList(models.Model):
    """An imported order that a snapshot holds."""

    snapshot = models.ForeignKey(Snapshot, on_delete=models.CASCADE, related_name="ranked_list_entries")
    ranked_list = models.ForeignKey(RankedList, on_delete=models.RESTRICT)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["snapshot", "ranked_list"], name="snapshot_ranked_list_once")]

    def __str__(self) -> str:
        return f"{self.snapshot_id}: {self.ranked_list_id}"


class SnapshotDemonstration(models.Model):
    """A demonstration that a snapshot holds."""

    snapshot = models.ForeignKey(Snapshot, on_delete=models.CASCADE, related_name="demonstration_entries")
    demonstration = models.ForeignKey(Demonstration, on_delete=models.RESTRICT)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["snapshot", "demonstration"], name="snapshot_demonstration_once")
        ]

    def __str__(self) -> str:
        return f"{self.snapshot_id}: {self.demonstration_id}"
