"""What raters said, part by part."""

from __future__ import annotations

from django.contrib import admin

from annotate import models
from annotate.admin.base import ReadOnly, ReadOnlyInline, shown_on_site


@admin.register(models.Draft)
class DraftAdmin(ReadOnly):
    """What raters have typed and not submitted yet."""

    list_display = ("id", "slot", "rater", "version", "saved_at")
    list_filter = ("slot__project",)
    search_fields = ("=slot__id", "rater__username")
    list_select_related = ("slot", "rater")


@admin.register(models.Submission)
class SubmissionAdmin(ReadOnly):
    """Answers as they arrived."""

    list_display = ("uuid", "slot", "rater", "outcome", "created_at")
    list_filter = ("outcome", "slot__project")
    search_fields = ("uuid", "=slot__id", "rater__username")
    list_select_related = ("slot", "rater")


class RevisionInline(ReadOnlyInline):
    """The versions of a judgement."""

    model = models.JudgementRevision
    fields = ("number", "both_bad", "strength", "rationale", "active_ms", "created_at")
    readonly_fields = ("created_at",)


@admin.register(models.Judgement)
class JudgementAdmin(ReadOnly):
    """What raters say."""

    list_display = (
        "id",
        "item",
        "rater",
        "version",
        "updated_at",
        shown_on_site("judgement", "slot.project.slug", "pk"),
    )
    list_filter = ("rater__kind", "slot__purpose", "slot__project")
    search_fields = ("=id", "=item__id", "rater__username")
    list_select_related = ("item", "rater", "slot__project")
    inlines = (RevisionInline,)


class ScoreInline(ReadOnlyInline):
    """Scores of a revision."""

    model = models.Score


class RankInline(ReadOnlyInline):
    """Places of a revision."""

    model = models.Rank


class EditInline(ReadOnlyInline):
    """Edits of a revision."""

    model = models.Edit


class FlagInline(ReadOnlyInline):
    """Flags of a revision."""

    model = models.Flag


class NormVerdictInline(ReadOnlyInline):
    """Norm verdicts of a revision."""

    model = models.NormVerdict


@admin.register(models.JudgementRevision)
class JudgementRevisionAdmin(ReadOnly):
    """Versions of judgements with all their parts."""

    list_display = ("id", "judgement", "number", "both_bad", "strength", "active_ms", "created_at")
    list_filter = ("both_bad", "judgement__slot__project")
    search_fields = ("=judgement__id", "rationale")
    list_select_related = ("judgement",)
    inlines = (ScoreInline, RankInline, EditInline, FlagInline, NormVerdictInline)


@admin.register(models.Score)
class ScoreAdmin(ReadOnly):
    """Scores."""

    list_display = ("id", "revision", "completion", "criterion", "value")
    list_filter = ("value", "criterion")
    search_fields = ("=revision__judgement__id", "=completion__id")
    list_select_related = ("revision", "completion", "criterion")


@admin.register(models.Rank)
class RankAdmin(ReadOnly):
    """Places in rankings."""

    list_display = ("id", "revision", "completion", "group")
    list_filter = ("group",)
    search_fields = ("=revision__judgement__id", "=completion__id")
    list_select_related = ("revision", "completion")


@admin.register(models.Edit)
class EditAdmin(ReadOnly):
    """Better wordings."""

    list_display = ("id", "revision", "completion", "edited")
    search_fields = ("=revision__judgement__id", "edited__text")
    list_select_related = ("revision", "completion", "edited")


@admin.register(models.NormVerdict)
class NormVerdictAdmin(ReadOnly):
    """Whether answers keep norms."""

    list_display = ("id", "revision", "completion", "norm_version", "verdict")
    list_filter = ("verdict",)
    search_fields = ("=revision__judgement__id", "=completion__id")
    list_select_related = ("revision", "completion", "norm_version__norm")


@admin.register(models.Flag)
class FlagAdmin(ReadOnly):
    """Warnings about answers."""

    list_display = ("id", "revision", "completion", "note")
    search_fields = ("note", "=completion__id")
    list_select_related = ("revision", "completion")


@admin.register(models.Skip)
class SkipAdmin(ReadOnly):
    """What raters passed over, and why."""

    list_display = ("id", "slot", "rater", "reason", "created_at")
    list_filter = ("slot__project",)
    search_fields = ("reason", "rater__username", "=slot__id")
    list_select_related = ("slot", "rater")


@admin.register(models.Tally)
class TallyAdmin(ReadOnly):
    """Counts of large projects."""

    list_display = ("id", "project", "rater", "done", "total", "at")
    list_filter = ("project",)
    search_fields = ("rater__username", "project__name")
    list_select_related = ("project", "rater")


@admin.register(models.RaterFigures)
class RaterFiguresAdmin(ReadOnly):
    """Figures of the raters of large projects."""

    list_display = ("id", "project", "rater", "judged", "gold_mean", "self_mean", "at")
    list_filter = ("project",)
    search_fields = ("rater__username", "project__name")
    list_select_related = ("project", "rater")


@admin.register(models.Aggregate)
class AggregateAdmin(ReadOnly):
    """Statistics that a task takes again."""

    list_display = ("id", "project", "name", "seconds", "at")
    list_filter = ("project", "name")
    search_fields = ("project__name",)
    list_select_related = ("project",)
