"""How large a request's body may be: files of data are large, and only leads bring them.

It is decided before anything of the body is kept, so it cannot wait for Django's middleware.
"""

from __future__ import annotations

import re
from importlib import import_module

from asgiref.sync import sync_to_async
from asgiref.typing import HTTPScope
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.db import close_old_connections
from django.http import parse_cookie

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
