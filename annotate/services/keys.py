"""Answer keys: judgements that a lead declares right, for others to be held against.

An item has at most one key for each use. A key is never deleted, because checks refer to it: it is
retired, and may be brought back or replaced by another judgement of the item.
"""

from __future__ import annotations

from django.db import transaction
from django.db.models import Max
from django.utils.translation import gettext as _

from annotate.models import AnswerKey, Check, Judgement, Project, User
from annotate.services import Refused, audit, places
from annotate.services.payload import plain_text

LONGEST_EXPLANATION = 5_000
"""Characters."""


def make(*, judgement: Judgement, use: str, explanation: str, actor: User) -> AnswerKey:
    """Declare a judgement, as it is now, the right one for its item.

    A retired key of the same use is replaced, and what was held against it is compared again.

    :param use: one of :class:`~annotate.models.AnswerKey.Use`.
    :param explanation: Markdown, shown to raters with the right answer.
    :raises Refused: when the use is unknown, the judgement has no order, or the item has an active key of the use.
    """
    if use not in AnswerKey.Use.values:
        raise Refused(_("Choose what the key is for."), place="use")
    explanation = plain_text(explanation, "explanation", LONGEST_EXPLANATION).strip()
    project = judgement.item.project
    with transaction.atomic():
        Project.objects.select_for_update(no_key=True).values_list("pk").get(pk=project.pk)
        revision = judgement.revisions.get(number=judgement.version)
        if not places.says_an_order(revision):
            raise Refused(_("This judgement ranks and scores nothing that others could be compared with."))
        key = AnswerKey.objects.filter(item=judgement.item, use=use).first()
        if key is not None and key.active:
            raise Refused(_("This item has such a key already: retire that one first."))
        if key is None:
            last = AnswerKey.objects.filter(item__project=project, use=use).aggregate(last=Max("position"))["last"]
            key = AnswerKey(item=judgement.item, use=use, position=0 if last is None else last + 1, created_by=actor)
        key.revision, key.explanation, key.active = revision, explanation, True
        key.save()
        _compare_again(key)
        audit.record("made key", key, actor=actor, project=project, use=use, judgement=judgement.pk)
    return key


def explain(*, key: AnswerKey, explanation: str, actor: User) -> None:
    """Change the words that raters read with the right answer.

    :raises Refused: when they are too long or cannot be stored.
    """
    key.explanation = plain_text(explanation, "explanation", LONGEST_EXPLANATION).strip()
    with transaction.atomic():
        key.save(update_fields=["explanation"])
        audit.record("explained key", key, actor=actor, project=key.item.project)


def switch(*, key: AnswerKey, active: bool, actor: User | None) -> None:
    """Retire a key, so that it is handed out no more, or bring it back."""
    with transaction.atomic():
        if AnswerKey.objects.filter(pk=key.pk, active=not active).update(active=active):
            action = "brought back key" if active else "retired key"
            audit.record(action, key, actor=actor, project=key.item.project)


def move(*, key: AnswerKey, earlier: bool, actor: User) -> None:
    """Let a key of the qualification change places with the one before or after it; at the end it stays."""
    project = key.item.project
    with transaction.atomic():
        Project.objects.select_for_update(no_key=True).values_list("pk").get(pk=project.pk)
        order = list(AnswerKey.objects.filter(item__project=project, use=key.use).order_by("position", "pk"))
        at = order.index(key)
        to = max(0, at - 1) if earlier else min(len(order) - 1, at + 1)
        order.insert(to, order.pop(at))
        for position, each in enumerate(order):
            each.position = position
        AnswerKey.objects.bulk_update(order, ["position"])
        audit.record("moved key", key, actor=actor, project=project, place=to + 1)


def _compare_again(key: AnswerKey) -> None:
    for check in Check.objects.filter(key=key).select_related("judgement"):
        revision = check.judgement.revisions.get(number=check.judgement.version)
        found = places.agreement_with_key(revision, key.revision)
        if found is not None:
            Check.objects.filter(pk=check.pk).update(agreement=found)
