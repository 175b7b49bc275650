"""People, projects and what leads write."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from annotate import models
from annotate.admin.base import ReadOnly, shown_on_site


class MembershipInline(admin.TabularInline):
    """The people of a project."""

    model = models.Membership
    extra = 1
    autocomplete_fields = ("user",)


class CriterionInline(admin.StackedInline):
    """The scoring criteria of a project."""

    model = models.Criterion
    extra = 0


@admin.register(models.User)
class PersonAdmin(UserAdmin):
    """People and the programs that judge in a person's place."""

    list_display = ("username", "kind", "is_active", "is_staff", "is_superuser", "last_login")
    list_filter = ("kind", "is_active", "is_superuser", "memberships__project")
    fieldsets = (*(UserAdmin.fieldsets or ()), (_("Hone"), {"fields": ("kind",)}))


@admin.register(models.Membership)
class MembershipAdmin(admin.ModelAdmin):
    """Who leads and who rates where."""

    list_display = ("user", "project", "role", "created_at")
    list_filter = ("role", "project")
    search_fields = ("user__username", "project__name")
    autocomplete_fields = ("user", "project")
    list_select_related = ("user", "project")


@admin.register(models.Project)
class ProjectAdmin(admin.ModelAdmin):
    """Projects with their people and criteria."""

    list_display = ("name", "slug", "completions_per_item", "overlap", "created_at", shown_on_site("project", "slug"))
    search_fields = ("name", "slug")
    prepopulated_fields = {"slug": ("name",)}
    raw_id_fields = ("created_by",)
    inlines = (MembershipInline, CriterionInline)


@admin.register(models.GuidelineVersion)
class GuidelineVersionAdmin(admin.ModelAdmin):
    """Instructions; a new version is added, none is changed."""

    list_display = ("project", "number", "created_by", "created_at")
    list_filter = ("project",)
    search_fields = ("text",)
    autocomplete_fields = ("project",)
    raw_id_fields = ("created_by",)
    list_select_related = ("project", "created_by")

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Judgements name the version that they were made under, so a version stays as it was."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """For the same reason."""
        return False


@admin.register(models.Criterion)
class CriterionAdmin(admin.ModelAdmin):
    """Scoring criteria."""

    list_display = ("name", "project", "position")
    list_filter = ("project",)
    search_fields = ("name", "description")
    autocomplete_fields = ("project",)
    list_select_related = ("project",)


@admin.register(models.Norm)
class NormAdmin(admin.ModelAdmin):
    """Rules that answers should follow."""

    list_display = ("name", "project", "active")
    list_filter = ("active", "project")
    search_fields = ("name",)
    autocomplete_fields = ("project",)
    list_select_related = ("project",)


@admin.register(models.NormVersion)
class NormVersionAdmin(admin.ModelAdmin):
    """The texts of norms."""

    list_display = ("norm", "number", "created_at")
    list_filter = ("norm__project",)
    search_fields = ("norm__name", "text")
    autocomplete_fields = ("norm",)
    list_select_related = ("norm",)


@admin.register(models.AuditEvent)
class AuditEventAdmin(ReadOnly):
    """Who changed what."""

    list_display = ("at", "actor", "action", "object_type", "object_id", "project")
    list_filter = ("action", "project")
    search_fields = ("object_id", "actor__username", "action")
    list_select_related = ("actor", "project")
    date_hierarchy = "at"
