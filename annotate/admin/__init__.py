"""The Django admin: every record can be found, read and followed; only what people set up can be changed.

What the loop records by itself (submissions, judgements, completions, runs and what came of them) is
shown read-only: its history would be worth nothing if a form could rewrite it.
"""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from annotate.admin import content, judgements, people, quality, training

__all__ = ["content", "judgements", "people", "quality", "training"]

admin.site.site_header = _("Hone administration")
admin.site.site_title = "Hone"
admin.site.index_title = _("Records")
