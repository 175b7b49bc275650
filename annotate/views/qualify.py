"""The qualification as its raters see it: worked feedback after each item, and how a round ended."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from annotate.access import SignedInRequest, get_slot
from annotate.models import AnswerKey, Check, Membership, Project, Slot, User
from annotate.services import qualification
from annotate.services.qualification import Trial
from annotate.views import answers


@require_GET
@never_cache
def feedback(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """The viewer's judgement beside the right one, as a piece of the rating page."""
    slot = get_slot(request, slug, pk)
    check = revealed(slot, request.user)
    if check is None:
        raise Http404
    return render(request, "rate/feedback.html", feedback_piece(check, request.user, slot.project))


def revealed(slot: Slot, user: User) -> Check | None:
    """The check of the rater's judgement in a slot, where they were shown its key."""
    checks = Check.objects.filter(judgement__slot=slot, judgement__rater=user, revealed_at__isnull=False)
    return checks.select_related("key__revision", "judgement__slot__item__prompt").first()


def feedback_piece(check: Check, user: User, project: Project) -> dict[str, Any]:
    """What the piece shows."""
    trial = qualification.trial(user=user, project=project)
    passed = Membership.objects.filter(user=user, project=project, qualified_at__isnull=False).exists()
    last = check.judgement.rater.judgements.filter(slot__project=project).order_by("-pk").first() == check.judgement
    return {
        "project": project,
        "comparison": answers.comparison(check, list(project.criteria.order_by("position"))),
        "trial": trial,
        "passed": passed and last and check.key is not None and check.key.use == AnswerKey.Use.QUALIFY,
        "data": {"progress": progress(trial, answered=True) if trial else None},
    }


def progress(trial: Trial, *, answered: bool = False) -> dict[str, Any]:
    """The line of progress during a round.

    :param answered: whether it stands beside an item that is judged, rather than one still to be judged.
    """
    number = min(trial.answered + (0 if answered else 1), len(trial.keys))
    words = _("Qualification %(number)s of %(total)s") % {"number": number, "total": len(trial.keys)}
    return {"done": trial.answered, "total": len(trial.keys), "words": words}


def introduction(user: User, project: Project) -> str:
    """What is said above the first item of a round: what it is for, and that it is new to who judged before."""
    trial = qualification.trial(user=user, project=project)
    if trial is None or trial.answered:
        return ""
    count = {"total": len(trial.keys)}
    if trial.membership.qualification_round > 1:
        return _("Another try, with the same %(total)s items. After each one you see what is right, and why.") % count
    if user.judgements.filter(slot__project=project).exists():
        return (
            _(
                "This project now has a qualification, for those who have judged here before as well: %(total)s items "
                "whose right answers are known. After each one you see what is right, and why. What you judged stays."
            )
            % count
        )
    return (
        _(
            "Welcome. First come %(total)s items whose right answers are known: after each one you see what is right, "
            "and why. Then real items follow."
        )
        % count
    )


def result_piece(trial: Trial, project: Project) -> dict[str, Any]:
    """What somebody reads who did not pass: how far they came, and where they judged otherwise."""
    criteria = list(project.criteria.order_by("position"))
    pks = [check.pk for check in trial.checks.values() if check.agreement < 1]
    missed = Check.objects.filter(pk__in=pks).select_related("key__revision", "judgement__slot__item__prompt")
    return {
        "trial": trial,
        "missed": [answers.comparison(check, criteria) for check in missed.order_by("judgement_id")],
    }
