"""Sessions and their people, read by prepared queries: every request asks for both."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.sessions.backends import db
from django.contrib.sessions.models import Session
from django.db.models.functions import Now

from annotate.models import User
from annotate.prepared import Prepared

_going_on = Prepared(
    lambda key: Session.objects.filter(session_key=key, expire_date__gt=Now()),
    words=("key",),
)
_person = Prepared(lambda pk: User.objects.filter(pk=pk))


class SessionStore(db.SessionStore):
    """Sessions in the database."""

    def _get_session_from_db(self) -> Session | None:
        session = _going_on.first(key=self.session_key)
        if session is None:
            self._session_key = None
        return session


class Backend(ModelBackend):
    """People by name and password."""

    def get_user(self, user_id: Any) -> User | None:
        """The person of a session; None for one who is gone or shut out."""
        user = _person.first(pk=user_id)
        return user if user is not None and self.user_can_authenticate(user) else None
