"""What the pages of the administration share."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import Model, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from annotate.models import Project
from annotate.services import audit


class Audited(admin.ModelAdmin):
    """Records that superusers change by hand: each change leaves an event in the same transaction."""

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm[Any], change: bool) -> None:
        """Save and record which fields."""
        super().save_model(request, obj, form, change)
        record_change(request, "changed" if change else "added", obj, fields=form.changed_data)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Save the parts of a record and record each part's change as its own."""
        for part in formset.deleted_forms:
            if part.instance.pk:
                record_change(request, "deleted", part.instance)
        super().save_formset(request, form, formset, change)
        for part in formset.new_objects:
            record_change(request, "added", part)
        for part, fields in formset.changed_objects:
            record_change(request, "changed", part, fields=fields)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Record and delete."""
        record_change(request, "deleted", obj)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Record and delete each."""
        with transaction.atomic():
            for record in queryset:
                record_change(request, "deleted", record)
            super().delete_queryset(request, queryset)


def record_change(request: HttpRequest, action: str, subject: Any, **data: Any) -> None:
    """Append an event about a change by hand to the trail of the record's project, or to none's."""
    project = subject if isinstance(subject, Project) else getattr(subject, "project", None)
    project = project or getattr(getattr(subject, "norm", None), "project", None)
    if isinstance(subject, Project) and action == "deleted":
        project = None
    audit.record(action, subject, actor=request.user, project=project, name=str(subject), by_hand=True, **data)  # type: ignore[arg-type]


class ReadOnly(admin.ModelAdmin):
    """Records that only the services write."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds one by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody changes one; the change page shows it."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody deletes one."""
        return False


class ReadOnlyInline(admin.TabularInline):
    """Parts of a read-only record, shown with it."""

    extra = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody adds one by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes one."""
        return False


def shown_on_site(address: str, *attributes: str) -> Any:
    """A column with a link to the record's page on the site.

    :param address: name of the page's URL.
    :param attributes: paths to the values that the URL needs, such as ``project.slug``.
    """

    @admin.display(description=_("page"))
    def column(record: Model) -> str:
        values = []
        for path in attributes:
            value: Any = record
            for name in path.split("."):
                value = getattr(value, name)
            values.append(value)
        return format_html('<a href="{}">{}</a>', reverse(address, args=values), _("open"))

    return column
