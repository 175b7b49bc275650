"""Where restored projects come from."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Origin(models.Model):
    """That a project was restored from an archive, and how its rows were numbered where they were made.

    Its snapshots are named by hashes over those numbers, so they are kept for good.
    """

    project = models.OneToOneField("annotate.Project", on_delete=models.RESTRICT, related_name="origin")
    archive_sha256 = models.CharField(max_length=64, help_text=_("Of the archive's manifest."))
    shifts = models.JSONField(help_text=_("By kind of row: what was added to the numbers of the archive."))
    mask = models.UUIDField(
        default=uuid.UUID(int=0), help_text=_("The same for rows named by UUIDs, by exclusive or; 0 for none.")
    )
    users = models.JSONField(help_text=_("The archive's number of each account by its number here."))
    restored_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.project}: {self.archive_sha256[:12]}"
