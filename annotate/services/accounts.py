"""A person's own account."""

from __future__ import annotations

from django.db import transaction

from annotate.models import User
from annotate.services import audit


def change_password(*, user: User, password: str) -> None:
    """Give an account another password, which ends its sessions everywhere.

    :param password: checked by the form.
    """
    with transaction.atomic():
        user.set_password(password)
        user.save(update_fields=["password"])
        audit.record("changed password", user, actor=user, user=user.username)
