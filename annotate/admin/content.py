"""What is judged, and who is to judge it."""

from __future__ import annotations

from django.contrib import admin

from annotate import models
from annotate.admin.base import ReadOnly, ReadOnlyInline, shown_on_site


@admin.register(models.Prompt)
class PromptAdmin(ReadOnly):
    """Prompts; their split is fixed for good."""

    list_display = ("__str__", "project", "split", "tags", "created_at", shown_on_site("prompt", "project.slug", "pk"))
    list_filter = ("split", "project")
    search_fields = ("messages", "reference", "tags")
    list_select_related = ("project",)


@admin.register(models.Generation)
class GenerationAdmin(ReadOnly):
    """Generations of the policy."""

    list_display = (
        "__str__",
        "state",
        "parent",
        "created_at",
        shown_on_site("generation", "project.slug", "number"),
    )
    list_filter = ("state", "project")
    search_fields = ("project__name", "weights_path", "manifest_sha256")
    list_select_related = ("project", "parent__project")


@admin.register(models.Completion)
class CompletionAdmin(ReadOnly):
    """Answers."""

    list_display = (
        "id",
        "__str__",
        "generation",
        "sample",
        "token_count",
        "finish_reason",
        shown_on_site("completion", "prompt.project.slug", "pk"),
    )
    list_filter = ("finish_reason", "engine", "prompt__project")
    search_fields = ("text",)
    list_select_related = ("prompt__project", "generation__project")


class ItemCompletionInline(ReadOnlyInline):
    """The answers of an item."""

    model = models.ItemCompletion


@admin.register(models.Item)
class ItemAdmin(ReadOnly):
    """Prompts with the answers that are judged together."""

    list_display = ("id", "prompt", "purpose", "project", "created_at")
    list_filter = ("purpose", "project")
    search_fields = ("=id", "prompt__messages")
    list_select_related = ("prompt", "project")
    inlines = (ItemCompletionInline,)


@admin.register(models.ItemCompletion)
class ItemCompletionAdmin(ReadOnly):
    """Places of answers in items."""

    list_display = ("id", "item", "completion", "position")
    search_fields = ("=item__id", "=completion__id")
    list_select_related = ("item", "completion")


@admin.register(models.Slot)
class SlotAdmin(ReadOnly):
    """Who judges what."""

    list_display = ("id", "item", "purpose", "number", "state", "rater", "lease_expires_at", "priority")
    list_filter = ("state", "purpose", "project")
    search_fields = ("=id", "=item__id", "rater__username")
    list_select_related = ("item", "rater")


@admin.register(models.Lease)
class LeaseAdmin(ReadOnly):
    """Which slots were handed to whom."""

    list_display = ("id", "slot", "rater", "claimed_at")
    search_fields = ("=slot__id", "rater__username")
    list_select_related = ("slot", "rater")
