"""Drafts: what a rater has typed, kept on the site so that another machine can go on with it.

The browser's own storage bridges the seconds in between. A draft is gone when its submission was
accepted, in the same transaction.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce, Now
from django.utils.translation import gettext as _

from annotate.models import Draft, Judgement, Slot, User
from annotate.prepared import Prepared
from annotate.services import Conflict, Refused
from annotate.services.payload import MAX_ACTIVE_MS

LONGEST = 1_000_000
"""Characters of a draft as JSON."""


@dataclass(frozen=True)
class Typed:
    """A draft as a page sends it.

    :param sequence: number of the draft; the browser counts up.
    :param seen: number of the newest draft that the browser has seen on the site, 0 for none.
    :param browser: which browser it was typed in; its tabs share what they know.
    :param version: version of the judgement that it would change, 0 before there is one.
    :param answer: the answer so far, by letters.
    :param active_ms: milliseconds at work so far.
    """

    sequence: int
    seen: int
    browser: uuid.UUID
    version: int
    answer: dict[str, Any]
    active_ms: int = 0


def keep(*, user: User, slot: Slot, typed: Typed) -> bool:
    """Keep a draft in place of the one before it.

    :returns: False when it came too late: the answer was submitted meanwhile, or this browser has
        already sent a newer draft.
    :raises Conflict: when another browser saved a draft that this one has not seen.
    :raises Refused: when it is too long.
    """
    answer = _as_json(typed.answer)
    with transaction.atomic():
        # The same lock as a submission's, which must not be followed by the draft that it replaced.
        Slot.objects.select_for_update(no_key=True).values_list("pk").get(pk=slot.pk)
        if typed.version != _version(user, slot):
            return False
        earlier = Draft.objects.filter(slot=slot, rater=user).first()
        if earlier is not None and earlier.version == typed.version:
            if earlier.browser == typed.browser:
                if earlier.sequence >= typed.sequence:
                    return False
            elif earlier.sequence > typed.seen:
                raise Conflict(_("This item was worked on in another browser meanwhile."))
        Draft.objects.update_or_create(
            slot=slot,
            rater=user,
            defaults={
                "version": typed.version,
                "sequence": typed.sequence,
                "browser": typed.browser,
                "answer": answer,
                "active_ms": min(typed.active_ms, MAX_ACTIVE_MS),
                "saved_at": Now(),
            },
        )
    return True


def _current(slot: int, user: int) -> QuerySet[Draft]:
    version = Judgement.objects.filter(slot=OuterRef("slot"), rater=OuterRef("rater")).values("version")
    return Draft.objects.filter(slot=slot, rater=user, version=Coalesce(Subquery(version), 0))


_kept = Prepared(_current)


def current(*, user: User, slot: Slot) -> Draft | None:
    """The rater's draft for a slot, unless the answer that it would change has changed since."""
    return _kept.first(slot=slot.pk, user=user.pk)


def _version(user: User, slot: Slot) -> int:
    return Judgement.objects.filter(slot=slot, rater=user).values_list("version", flat=True).first() or 0


def _as_json(answer: dict[str, Any]) -> str:
    """ASCII, in which every character that a browser can send may be stored."""
    try:
        text = json.dumps(answer, separators=(",", ":"), allow_nan=False)
    except ValueError:
        raise Refused(_("The draft is not a JSON object.")) from None
    if len(text) > LONGEST:
        raise Refused(_("This is too long to be kept on the site; it is kept in this browser only."))
    return text
