"""Contests: a rater's objection to an answer key that they were shown, and a lead's decision."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from annotate.models import Check, Contest, User
from annotate.services import Refused, audit, keys
from annotate.services.payload import plain_text

LONGEST = 2_000
"""Characters of an objection, and of the reply."""


def contest(*, check: Check, reason: str, user: User) -> Contest:
    """Object to the key that a judgement was held against.

    :raises Refused: when the rater has not been shown the key, gives no reason, or has objected before.
    """
    reason = plain_text(reason, "reason", LONGEST).strip()
    if check.key is None or check.revealed_at is None or check.judgement.rater_id != user.pk:
        raise Refused(_("Only an answer key that you were shown can be contested."))
    if not reason:
        raise Refused(_("Say why you think that the key is wrong."), place="reason")
    try:
        with transaction.atomic():
            made = Contest.objects.create(check_result=check, reason=reason)
            audit.record("contested", made, actor=user, project=check.key.item.project)
    except IntegrityError:
        raise Refused(_("You have contested this key already.")) from None
    return made


def decide(*, contest: Contest, accept: bool, reply: str, retire: bool, actor: User) -> None:
    """Accept an objection, after which the check counts no more against the rater, or refuse it.

    :param reply: to the rater; needed for a refusal.
    :param retire: whether an accepted objection retires the key as well.
    :raises Refused: when somebody decided before, or refuses without a reply.
    """
    reply = plain_text(reply, "reply", LONGEST).strip()
    if not accept and not reply:
        raise Refused(_("Say to the rater why the key stands."), place="reply")
    with transaction.atomic():
        key = contest.check_result.key
        assert key is not None  # only checks against a key are contested
        state = Contest.State.ACCEPTED if accept else Contest.State.REFUSED
        changed = Contest.objects.filter(pk=contest.pk, state=Contest.State.OPEN).update(
            state=state, reply=reply, decided_by=actor, decided_at=Now()
        )
        if not changed:
            raise Refused(_("This contest has been decided already."))
        action = "accepted contest" if accept else "refused contest"
        audit.record(action, contest, actor=actor, project=key.item.project, reply=reply)
        if accept and retire:
            keys.switch(key=key, active=False, actor=actor)
