"""Long lists in pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import QuerySet

from annotate.access import SignedInRequest

PER_PAGE = 25


def page_of(request: SignedInRequest, records: QuerySet[Any] | Sequence[Any], size: int = PER_PAGE) -> Page[Any]:
    """The page that the address asks for with ``?page=``; the nearest one where it does not exist."""
    return Paginator(records, size).get_page(request.GET.get("page"))
