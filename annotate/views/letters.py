"""Answers by letters: what the rating page knows of them, in the order in which its slot shows them.

Numbers of completions grow from generation to generation and would tell which model wrote what.
"""

from __future__ import annotations

import json
from typing import Any

from django.utils.translation import gettext as _

from annotate.models import Judgement, Slot, User
from annotate.services import claiming, drafts
from annotate.services.payload import outdated

LETTERS = "ABCDEFGHI"
BY_ANSWER = ("scores", "ranks", "edits", "flags", "norms")
"""Parts of a payload that are given by answer."""


def by_completion(answer: Any, slot: Slot) -> Any:
    """The payload of a page's answer: numbers of completions for letters; what has no right form is left as it is.

    :raises Refused: when a letter is not one of the slot's.
    """
    if not isinstance(answer, dict):
        return answer
    letters = dict(zip(LETTERS, claiming.shown_order(slot), strict=False))
    renamed = dict(answer)
    for part in BY_ANSWER:
        if isinstance(entries := answer.get(part), dict):
            if unknown := sorted(set(entries) - set(letters)):
                raise outdated(_("there is no answer %(letter)s in this item") % {"letter": unknown[0][:40]}, part)
            renamed[part] = {str(letters[letter]): value for letter, value in entries.items()}
    return renamed


def stored_answer(slot: Slot, user: User) -> dict[str, Any] | None:
    """The rater's answer as the page sends it, with its version; None before there is one."""
    judgement = Judgement.objects.filter(slot=slot, rater=user).first()
    if judgement is None:
        return None
    letters = {str(pk): letter for letter, pk in zip(LETTERS, claiming.shown_order(slot), strict=False)}
    payload = judgement.revisions.select_related("submission").get(number=judgement.version).submission.payload
    parts = {part: {letters[key]: value for key, value in (payload.get(part) or {}).items()} for part in BY_ANSWER}
    return {"version": judgement.version, "answer": {**payload, **parts}}


def kept_draft(slot: Slot, user: User) -> dict[str, Any] | None:
    """The rater's draft on the site as the page sends it; None where there is none."""
    draft = drafts.current(user=user, slot=slot)
    if draft is None:
        return None
    return {
        "sequence": draft.sequence,
        "browser": str(draft.browser),
        "answer": json.loads(draft.answer),
        "ms": draft.active_ms,
    }
