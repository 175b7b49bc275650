"""Data sets, runs and the models that they made."""

from __future__ import annotations

from django.contrib import admin

from annotate import models
from annotate.admin.base import ReadOnly, shown_on_site


@admin.register(models.Comparison)
class ComparisonAdmin(ReadOnly):
    """Imported and derived pairs."""

    list_display = ("id", "project", "prompt", "source", "strength", "batch", "created_at")
    list_filter = ("source", "project")
    search_fields = ("batch", "chosen__text", "rejected__text")
    list_select_related = ("project", "prompt")


@admin.register(models.Origin)
class OriginAdmin(ReadOnly):
    """Which projects were restored from archives."""

    list_display = ("project", "archive_sha256", "restored_at")
    search_fields = ("project__slug", "archive_sha256")
    list_select_related = ("project",)


@admin.register(models.RankedList)
class RankedListAdmin(ReadOnly):
    """Imported orders of several answers."""

    list_display = ("id", "project", "prompt", "source", "strength", "weight", "batch", "created_at")
    list_filter = ("source", "project")
    search_fields = ("batch", "prompt__messages")
    list_select_related = ("project", "prompt")


@admin.register(models.RankedAnswer)
class RankedAnswerAdmin(ReadOnly):
    """Answers in imported orders."""

    list_display = ("id", "ranked_list", "position", "completion", "rank", "score")
    search_fields = ("=ranked_list__id", "completion__text")
    list_select_related = ("ranked_list", "completion")


@admin.register(models.Demonstration)
class DemonstrationAdmin(ReadOnly):
    """Answers that were brought to be learned from."""

    list_display = ("id", "project", "completion", "source", "weight", "batch", "created_at")
    list_filter = ("source", "project")
    search_fields = ("batch", "completion__text")
    list_select_related = ("project", "completion")


@admin.register(models.Import)
class ImportAdmin(ReadOnly):
    """Files of data that people brought."""

    list_display = (
        *("file_name", "project", "state", "format", "source", "licence", "created_by", "created_at"),
        shown_on_site("import", "project.slug", "pk"),
    )
    list_filter = ("state", "project")
    search_fields = ("file_name", "source", "sha256")
    list_select_related = ("project", "created_by")


@admin.register(models.BackgroundTask)
class BackgroundTaskAdmin(ReadOnly):
    """What light workers make for pages."""

    list_display = (
        *("__str__", "project", "state", "done", "total", "created_by", "created_at"),
        shown_on_site("background_task", "project.slug", "pk"),
    )
    list_filter = ("state", "kind", "project")
    search_fields = ("kind", "error")
    list_select_related = ("project", "created_by")


@admin.register(models.Signal)
class SignalAdmin(ReadOnly):
    """Values of feedback sources."""

    list_display = ("id", "completion", "source", "version", "value", "created_at")
    list_filter = ("source", "project")
    search_fields = ("=completion__id", "source", "version")
    list_select_related = ("completion",)


@admin.register(models.Snapshot)
class SnapshotAdmin(ReadOnly):
    """Frozen data sets."""

    list_display = (
        "name",
        "project",
        "sha256",
        "created_by",
        "created_at",
        shown_on_site("snapshot", "project.slug", "pk"),
    )
    list_filter = ("project",)
    search_fields = ("name", "sha256")
    list_select_related = ("project", "created_by")
    fields = ("project", "name", "sha256", "recipe", "counts", "created_by", "created_at")


@admin.register(models.SnapshotRevision)
class SnapshotRevisionAdmin(ReadOnly):
    """Judgements that snapshots hold."""

    list_display = ("id", "snapshot", "revision")
    list_filter = ("snapshot",)
    search_fields = ("=revision__judgement__id", "snapshot__name")
    list_select_related = ("snapshot__project", "revision")


@admin.register(models.SnapshotComparison)
class SnapshotComparisonAdmin(ReadOnly):
    """Pairs that snapshots hold."""

    list_display = ("id", "snapshot", "comparison")
    list_filter = ("snapshot",)
    search_fields = ("=comparison__id", "snapshot__name")
    list_select_related = ("snapshot__project", "comparison")


@admin.register(models.SnapshotRankedList)
class SnapshotRankedListAdmin(ReadOnly):
    """Imported orders that snapshots hold."""

    list_display = ("id", "snapshot", "ranked_list")
    list_filter = ("snapshot",)
    search_fields = ("=ranked_list__id", "snapshot__name")
    list_select_related = ("snapshot__project", "ranked_list")


@admin.register(models.SnapshotDemonstration)
class SnapshotDemonstrationAdmin(ReadOnly):
    """Demonstrations that snapshots hold."""

    list_display = ("id", "snapshot", "demonstration")
    list_filter = ("snapshot",)
    search_fields = ("=demonstration__id", "snapshot__name")
    list_select_related = ("snapshot__project", "demonstration")


@admin.register(models.Run)
class RunAdmin(ReadOnly):
    """Heavy work."""

    list_display = (
        "__str__",
        "project",
        "state",
        "attempt",
        "requested_by",
        "created_at",
        "finished_at",
        shown_on_site("run", "project.slug", "pk"),
    )
    list_filter = ("kind", "state", "project")
    search_fields = ("id", "error")
    list_select_related = ("project", "requested_by")


@admin.register(models.RunEvent)
class RunEventAdmin(ReadOnly):
    """Lines of progress."""

    list_display = ("run", "attempt", "sequence", "at", "stage", "done", "total", "message")
    list_filter = ("stage", "run__kind")
    search_fields = ("run__id", "message")
    list_select_related = ("run",)


@admin.register(models.RewardModel)
class RewardModelAdmin(ReadOnly):
    """Models of the raters' preferences."""

    list_display = (
        "__str__",
        "loss",
        "snapshot",
        "created_at",
        shown_on_site("reward_model", "project.slug", "number"),
    )
    list_filter = ("loss", "project")
    search_fields = ("project__name", "weights_path", "manifest_sha256")
    list_select_related = ("project", "snapshot__project")


@admin.register(models.RewardModelReport)
class RewardModelReportAdmin(ReadOnly):
    """What was measured of reward models."""

    list_display = ("reward_model", "at", "seconds")
    list_filter = ("reward_model__project",)
    search_fields = ("reward_model__project__name",)
    list_select_related = ("reward_model__project",)
