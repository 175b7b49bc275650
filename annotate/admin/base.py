"""What the pages of the administration share."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _


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
