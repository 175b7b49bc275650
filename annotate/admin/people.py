"""People, projects and what leads write."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.forms import AdminUserCreationForm, UserChangeForm
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from annotate import models
from annotate.admin.base import Audited, ReadOnly, ReadOnlyInline, record_change, shown_on_site

admin.site.unregister(Group)


class PersonForm(UserChangeForm):
    """Changes an account; the password has a page of its own."""

    class Meta(UserChangeForm.Meta):
        model = models.User


class NewPersonForm(AdminUserCreationForm):
    """Makes an account."""

    class Meta(AdminUserCreationForm.Meta):
        model = models.User


class MembershipInline(admin.TabularInline):
    """The people of a project."""

    model = models.Membership
    extra = 1
    autocomplete_fields = ("user",)
    readonly_fields = ("qualified_at", "qualification_round")


class CriterionInline(admin.StackedInline):
    """The scoring criteria of a project."""

    model = models.Criterion
    extra = 0


@admin.register(models.User)
class PersonAdmin(Audited, UserAdmin):
    """People and the programs that judge in a person's place.

    There are no groups and single permissions: a superuser administers the site, nobody else does.
    """

    form = PersonForm
    add_form = NewPersonForm
    list_display = ("username", "kind", "is_active", "is_staff", "is_superuser", "last_login")
    list_filter = ("kind", "is_active", "is_superuser", "memberships__project")
    fieldsets = (
        (None, {"fields": ("username", "password", "kind")}),
        (_("Personal info"), {"fields": ("first_name", "last_name", "email")}),
        (_("Permissions"), {"fields": ("is_active", "is_staff", "is_superuser")}),
        (_("Important dates"), {"fields": ("last_login", "date_joined")}),
    )
    filter_horizontal = ()

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        """Reset somebody's password, which ends their sessions."""
        with transaction.atomic():
            return super().user_change_password(request, id, form_url)

    def log_change(self, request: HttpRequest, obj: models.User, message: object) -> LogEntry:
        """Record a reset password, which does not pass through :meth:`save_model`."""
        if request.resolver_match and request.resolver_match.url_name == "auth_user_password_change":
            record_change(request, "changed password", obj)
        return super().log_change(request, obj, message)


@admin.register(models.Membership)
class MembershipAdmin(Audited):
    """Who leads and who rates where."""

    list_display = ("user", "project", "role", "created_at")
    list_filter = ("role", "project")
    search_fields = ("user__username", "project__name")
    autocomplete_fields = ("user", "project")
    readonly_fields = ("qualified_at", "qualification_round")
    list_select_related = ("user", "project")


@admin.register(models.Project)
class ProjectAdmin(Audited):
    """Projects with their people and criteria."""

    list_display = ("name", "slug", "completions_per_item", "overlap", "created_at", shown_on_site("project", "slug"))
    search_fields = ("name", "slug")
    prepopulated_fields = {"slug": ("name",)}
    raw_id_fields = ("created_by",)
    inlines = (MembershipInline, CriterionInline)


@admin.register(models.GuidelineVersion)
class GuidelineVersionAdmin(Audited):
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
class CriterionAdmin(Audited):
    """Scoring criteria."""

    list_display = ("name", "project", "position")
    list_filter = ("project",)
    search_fields = ("name", "description")
    autocomplete_fields = ("project",)
    list_select_related = ("project",)


@admin.register(models.Norm)
class NormAdmin(Audited):
    """Rules that answers should follow."""

    list_display = ("name", "project", "active")
    list_filter = ("active", "project")
    search_fields = ("name",)
    autocomplete_fields = ("project",)
    list_select_related = ("project",)


@admin.register(models.NormVersion)
class NormVersionAdmin(Audited):
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


class InviteUseInline(ReadOnlyInline):
    """Who joined by an invitation."""

    model = models.InviteUse


@admin.register(models.Invite)
class InviteAdmin(ReadOnly):
    """Invitations; leads make and withdraw them on their project's page."""

    list_display = ("id", "project", "role", "max_uses", "created_by", "expires_at", "revoked_at")
    list_filter = ("role", "project")
    search_fields = ("project__name", "created_by__username")
    list_select_related = ("project", "created_by")
    inlines = (InviteUseInline,)


@admin.register(models.InviteUse)
class InviteUseAdmin(ReadOnly):
    """Who joined by which invitation."""

    list_display = ("id", "invite", "user", "at")
    search_fields = ("=invite__id", "user__username")
    list_select_related = ("invite", "user")


@admin.register(models.SignInTry)
class SignInTryAdmin(ReadOnly):
    """Failed tries to sign in of the last minutes."""

    list_display = ("key", "at")
    search_fields = ("key",)
    date_hierarchy = "at"
