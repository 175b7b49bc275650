"""Uploaded files that wait for a lead to confirm their import, and what becomes of those that are left behind."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.models import Import
from annotate.services import NoRoom, Refused
from rewardmodel.publish import is_disk_full

WAITS = timedelta(days=14)
"""How long a file waits for somebody to decide on its import."""


def path_of(of: Import) -> Path:
    """Where an uploaded file lies."""
    return Path(settings.IMPORTS_DIR) / str(of.pk)


def keep_file(of: Import, upload: UploadedFile) -> None:
    """Put an uploaded file where its import finds it.

    :raises NoRoom: when the disk is full; nothing of it stays.
    :raises Refused: when it cannot be written.
    """
    path = path_of(of)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            for piece in upload.chunks():
                file.write(piece)
    except OSError as problem:
        path.unlink(missing_ok=True)
        refusal = NoRoom if is_disk_full(problem) else Refused
        raise refusal(
            _("The file cannot be kept (%(problem)s).") % {"problem": problem.strerror}, place="file"
        ) from problem


def forget_file(of: Import) -> None:
    """Delete an uploaded file."""
    path_of(of).unlink(missing_ok=True)


def discard_abandoned() -> int:
    """Discard imports on which nobody decided for two weeks, with their files.

    :returns: how many.
    """
    waiting = Import.objects.filter(state__in=[Import.State.READY, Import.State.FAILED])
    found = list(waiting.filter(finished_at__lt=Now() - WAITS))
    error = _("Nobody decided on it for %(days)d days, so its file was deleted.") % {"days": WAITS.days}
    discarded = 0
    for of in found:
        if waiting.filter(pk=of.pk).update(state=Import.State.DISCARDED, error=error):
            forget_file(of)
            discarded += 1
    return discarded
