"""A rater's own answers: to look up, to change, and what came of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db.models import Exists, F, OuterRef, Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from annotate.access import SignedInRequest, get_check, get_project
from annotate.models import Check, Completion, Criterion, Edit, Flag, NormVersion, Project, Prompt, Submission, User
from annotate.services import Refused, checks, comparison, contests, raters
from annotate.views import answers
from annotate.views.answers import Comparison, Shown
from annotate.views.asked import asked
from annotate.views.paging import page_of
from annotate.views.raters import own_row

PER_PAGE = 20
FILTERS = {
    "flagged": gettext_lazy("with a flag"),
    "edited": gettext_lazy("with an edit"),
    "late": gettext_lazy("came late"),
}


@dataclass(frozen=True)
class Entry:
    """An answer in the list."""

    submission: Submission
    prompt: Prompt
    shown: Shown
    stands: str
    """Why it cannot be changed; empty where it can."""

    @property
    def late(self) -> bool:
        """Whether it came after somebody else was given the item."""
        return self.submission.outcome == Submission.Outcome.LATE


@require_GET
@never_cache
def mine(request: SignedInRequest, slug: str) -> HttpResponse:
    """The viewer's answers, the newest first; ``?q=`` searches, ``?only=`` chooses one of FILTERS."""
    project = get_project(request, slug)
    chosen = asked(request, "q", "only")
    criteria = list(project.criteria.order_by("position"))
    page = page_of(request, _found(request.user, project, chosen), PER_PAGE)
    context = {
        "project": project,
        "page": page,
        "entries": _entries(page.object_list, project, criteria),
        "chosen": chosen,
        "filters": FILTERS,
        "own": raters.own(user=request.user, project=project),
        "beside": own_row(request.user, project),
        "missed": _missed(request.user, project, criteria),
    }
    return render(request, "mine/page.html", context)


@require_POST
def reveal(request: SignedInRequest, slug: str) -> HttpResponse:
    """Show the viewer the right answers to the gold items that they have judged."""
    project = get_project(request, slug)
    count = checks.reveal(user=request.user, project=project)
    if count:
        messages.success(request, _("Shown beside the right ones: %(count)d more of your answers.") % {"count": count})
    else:
        messages.info(request, _("No more of your items have a known answer so far."))
    return redirect(reverse("mine", args=[slug]) + "#gold")


@require_POST
def contest(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """Object to a key that the viewer was shown."""
    check = get_check(request, slug, pk)
    try:
        contests.contest(check=check, reason=request.POST.get("reason", ""), user=request.user)
        messages.success(request, _("A lead will read your objection; the answer appears here."))
    except Refused as refusal:
        messages.error(request, str(refusal))
    return redirect(reverse("mine", args=[slug]) + "#gold")


def _found(user: User, project: Project, chosen: dict[str, str]) -> QuerySet[Submission]:
    """The submissions that hold the rater's answers as they are now, and those that came late."""
    current = Q(revision__number=F("revision__judgement__version"))
    late = Q(outcome=Submission.Outcome.LATE)
    found = Submission.objects.filter(current | late, rater=user, slot__project=project)
    match chosen["only"]:
        case "flagged":
            found = found.filter(Exists(Flag.objects.filter(revision=OuterRef("revision"))))
        case "edited":
            found = found.filter(Exists(Edit.objects.filter(revision=OuterRef("revision"))))
        case "late":
            found = found.filter(late)
    if chosen["q"]:
        found = _with_text(found, chosen["q"])
    return found.select_related("slot__item__prompt").order_by("-created_at", "pk")


def _with_text(found: QuerySet[Submission], text: str) -> QuerySet[Submission]:
    """Those with a text in the prompt, in one of the answers, or in what the rater wrote."""
    revision = OuterRef("revision")
    quoted = json.dumps(text, ensure_ascii=False)[1:-1]
    return found.annotate(prompt_text=Cast("slot__item__prompt__messages", TextField())).filter(
        Q(prompt_text__icontains=quoted)
        | Q(payload__rationale__icontains=text)
        | Exists(Completion.objects.filter(entries__item=OuterRef("slot__item"), text__icontains=text))
        | Exists(Edit.objects.filter(revision=revision, edited__text__icontains=text))
        | Exists(Flag.objects.filter(revision=revision, note__icontains=text))
    )


def _entries(submissions: Iterable[Submission], project: Project, criteria: list[Criterion]) -> list[Entry]:
    submissions = list(submissions)
    norms = NormVersion.objects.filter(norm__project=project).select_related("norm").in_bulk()
    slots = [submission.slot for submission in submissions]
    shown = Check.objects.filter(judgement__slot__in=slots, revealed_at__isnull=False)
    standing = dict.fromkeys(comparison.final_slots(slots), comparison.why_final())
    standing |= dict.fromkeys(
        shown.values_list("judgement__slot", flat=True),
        _("You have seen the right answer to this item: what you said of it stands."),
    )
    return [
        Entry(
            submission=submission,
            prompt=submission.slot.item.prompt,
            shown=answers.of_payload(submission.payload, submission.slot, criteria, norms),
            stands=standing.get(submission.slot_id, ""),
        )
        for submission in submissions
    ]


def _missed(user: User, project: Project, criteria: list[Criterion]) -> dict[str, Any]:
    """Revealed gold items that the rater judged otherwise than their keys, and how many were revealed."""
    revealed = checks.revealed_gold(user=user, project=project)
    differing = revealed.filter(agreement__lt=1).select_related(
        "key__revision", "judgement__slot__item__prompt", "contest"
    )
    compared: list[Comparison] = [answers.comparison(check, criteria) for check in differing]
    return {"revealed": revealed.count(), "comparisons": compared}
