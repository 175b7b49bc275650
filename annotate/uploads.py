"""How large a request's body may be, and what becomes of one for which the disk has no room.

Files of data are large, and only leads bring them; how large is decided before anything of the body is kept, so it
cannot wait for Django's middleware.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module

from asgiref.sync import sync_to_async
from asgiref.typing import HTTPScope
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import StopUpload, TemporaryFileUploadHandler
from django.db import close_old_connections
from django.http import HttpRequest, parse_cookie

from rewardmodel.publish import is_disk_full

CUT_SHORT = "_cut_short"
"""Attribute of a request whose files the disk had no room for."""
DATA = re.compile(r"/p/([-\w]+)/data/")
FORM_BYTES = 2**20
"""What the form has beside the file."""


async def most_bytes(scope: HTTPScope) -> int:
    """Most bytes of a request's body: more than usual for a lead who brings a file of data."""
    found = DATA.fullmatch(scope["path"])
    if scope["method"] != "POST" or found is None:
        return settings.MAX_BODY_BYTES
    cookies = parse_cookie(dict(scope["headers"]).get(b"cookie", b"").decode("latin-1"))
    key = cookies.get(settings.SESSION_COOKIE_NAME, "")
    leads = await sync_to_async(_leads, thread_sensitive=False)(key, found[1])
    return settings.MAX_DATA_BYTES + FORM_BYTES if leads else settings.MAX_BODY_BYTES


def _leads(session_key: str, slug: str) -> bool:
    from annotate.models import Membership, User

    close_old_connections()
    try:
        number = import_module(settings.SESSION_ENGINE).SessionStore(session_key).get(SESSION_KEY)
        user = User.objects.filter(pk=number, is_active=True).first() if number else None
        if user is None:
            return False
        lead = Membership.objects.filter(user=user, project__slug=slug, role=Membership.Role.LEAD)
        return user.is_superuser or lead.exists()
    finally:
        close_old_connections()


class DiskUploadHandler(TemporaryFileUploadHandler):
    """Keeps uploaded files on the disk. Where that is full, they are dropped, and the view is told."""

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        """Write a piece of a file."""
        with self._while_there_is_room():
            super().receive_data_chunk(raw_data, start)

    def file_complete(self, file_size: int) -> UploadedFile | None:
        """Write the rest of a file."""
        with self._while_there_is_room():
            return super().file_complete(file_size)

    @contextmanager
    def _while_there_is_room(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            if not is_disk_full(problem):
                raise
            with suppress(OSError):  # what is left to be written has no room either; closing deletes the file
                self.file.close()
            setattr(self.request, CUT_SHORT, True)
            raise StopUpload(connection_reset=False) from problem


def was_cut_short(request: HttpRequest) -> bool:
    """Whether the disk had no room for the files that a request brought."""
    request.FILES  # noqa: B018  # reads the body, where nothing has yet
    return hasattr(request, CUT_SHORT)
