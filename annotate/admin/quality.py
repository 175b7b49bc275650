"""Answer keys, what judgements scored against them, and objections; leads change them on their project's pages."""

from __future__ import annotations

from django.contrib import admin

from annotate import models
from annotate.admin.base import ReadOnly


@admin.register(models.GuidelineReading)
class GuidelineReadingAdmin(ReadOnly):
    """Who has read which instructions."""

    list_display = ("id", "user", "guideline", "at")
    search_fields = ("user__username",)
    list_select_related = ("user", "guideline__project")


@admin.register(models.AnswerKey)
class AnswerKeyAdmin(ReadOnly):
    """Judgements that others are held against."""

    list_display = ("id", "item", "use", "revision", "active", "created_by", "created_at")
    list_filter = ("use", "active", "item__project")
    search_fields = ("explanation", "=item__id")
    list_select_related = ("item", "revision", "created_by")


@admin.register(models.Check)
class CheckAdmin(ReadOnly):
    """How far judgements agreed with a key, or with the rater's own earlier one."""

    list_display = ("id", "judgement", "key", "earlier", "agreement", "round", "revealed_at")
    list_filter = ("key__use",)
    search_fields = ("=judgement__id",)
    list_select_related = ("judgement", "key__item", "earlier")


@admin.register(models.Contest)
class ContestAdmin(ReadOnly):
    """Raters' objections."""

    list_display = ("id", "check_result", "state", "decided_by", "created_at")
    list_filter = ("state",)
    search_fields = ("reason", "reply")
    list_select_related = ("check_result", "decided_by")


@admin.register(models.Evaluation)
class EvaluationAdmin(ReadOnly):
    """Planned comparisons of generations."""

    list_display = ("id", "project", "newer", "older", "planned", "created_by", "created_at")
    list_filter = ("project",)
    search_fields = ("project__name", "=newer__number")
    list_select_related = ("project", "newer__project", "older__project", "created_by")


@admin.register(models.EvaluationRater)
class EvaluationRaterAdmin(ReadOnly):
    """Who compares."""

    list_display = ("id", "evaluation", "rater")
    search_fields = ("rater__username", "=evaluation__id")
    list_select_related = ("evaluation", "rater")
