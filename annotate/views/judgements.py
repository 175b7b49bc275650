"""Judgements, for leads: what raters said."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from annotate.access import LEAD, SignedInRequest, get_judgement, get_project
from annotate.models import AnswerKey, Completion, Item, Judgement, JudgementRevision, Purpose, Slot, Submission
from annotate.services import Refused, ondemand
from annotate.services.comparison import may_see
from annotate.views.asked import asked
from annotate.views.judging_words import STRENGTHS
from annotate.views.paging import page_of


@require_GET
def judgements(request: SignedInRequest, slug: str) -> HttpResponse:
    """A project's judgements, the newest first; ``?rater=`` chooses one rater's."""
    project = get_project(request, slug, role=LEAD)
    rater = asked(request, "rater")["rater"]
    found = Judgement.objects.filter(slot__project=project).select_related("rater", "item__prompt", "slot")
    if rater:
        found = found.filter(rater__username=rater)
    context = {
        "project": project,
        "page": page_of(request, found.order_by("-updated_at")),
        "rater": rater,
        "members": project.memberships.select_related("user").order_by("user__username"),
        "tab": "judgements",
    }
    return render(request, "judgements/list.html", context)


@require_GET
def judgement(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """One judgement with all its revisions, and what arrived late for its slot.

    Of a pair, nothing of that as long as the viewer is among those who judge and must not know who is ahead.
    """
    judgement = get_judgement(request, slug, pk)
    evaluation = judgement.item.evaluation
    revisions = judgement.revisions.select_related("submission", "guideline").prefetch_related(
        "scores__criterion", "ranks", "edits__edited", "flags", "norm_verdicts__norm_version__norm", "snapshots"
    )
    completions = {c.pk: c for c in judgement.item.completions.select_related("generation")}
    context = {
        "project": judgement.item.prompt.project,
        "judgement": judgement,
        "hidden": evaluation is not None and not may_see(evaluation=evaluation, user=request.user),
        "criteria": judgement.item.prompt.project.criteria.order_by("position"),
        "revisions": [_revision(r, completions) for r in revisions.order_by("-number")],
        "late": Submission.objects.filter(slot=judgement.slot, outcome=Submission.Outcome.LATE).select_related("rater"),
        "adjudication": _adjudication(judgement.item) if judgement.item.purpose == Item.Purpose.COLLECT else None,
        "keys": _keys(judgement),
        "tab": "judgements",
    }
    return render(request, "judgements/page.html", context)


@require_POST
def adjudicate(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """Ask the member named in ``rater`` to adjudicate the judgement's item."""
    judgement = get_judgement(request, slug, pk)
    rater = ondemand.never_had(judgement.item).filter(username=request.POST.get("rater", "")).first()
    try:
        if rater is None:
            raise Refused(_("Choose a member who has not had this item."))
        ondemand.make_on_demand(item=judgement.item, purpose=Purpose.ADJUDICATE, rater=rater, actor=request.user)
        messages.success(request, _("%(rater)s gets this item next.") % {"rater": rater})
    except Refused as refusal:
        messages.error(request, str(refusal))
    return redirect("judgement", slug=slug, pk=pk)


def _adjudication(item: Item) -> dict[str, Any]:
    """Who was asked and has not answered, the judgement that counts for all, and who can be asked."""
    slots = Slot.objects.filter(item=item, purpose=Purpose.ADJUDICATE).select_related("reserved_for", "judgement")
    done = [slot.judgement for slot in slots if slot.state == Slot.State.DONE]
    return {
        "asked": next((slot.reserved_for for slot in slots if slot.state != Slot.State.DONE), None),
        "counts": max(done, key=lambda judgement: judgement.pk, default=None),
        "candidates": ondemand.never_had(item),
    }


def _keys(judgement: Judgement) -> list[dict[str, Any]]:
    """For each use of a key: the item's own key of the use, and whether this judgement is it."""
    held = {key.use: key for key in judgement.item.keys.select_related("revision")}
    return [
        {
            "use": use,
            "label": label,
            "key": held.get(use),
            "is_this": use in held and held[use].revision.judgement_id == judgement.pk,
        }
        for use, label in AnswerKey.Use.choices
    ]


def _revision(revision: JudgementRevision, completions: dict[int, Completion]) -> dict[str, Any]:
    """A revision by answer, in the order in which the rater saw them."""
    scores = {(s.completion_id, s.criterion_id): s.value for s in revision.scores.all()}
    places = {rank.completion_id: rank.group for rank in revision.ranks.all()}
    edits = {edit.completion_id: edit.edited for edit in revision.edits.all()}
    flags = {flag.completion_id: flag for flag in revision.flags.all()}
    verdicts = sorted(revision.norm_verdicts.all(), key=lambda verdict: verdict.norm_version.norm_id)
    criteria = sorted({s.criterion for s in revision.scores.all()}, key=lambda c: c.position)
    answers = [
        {
            "letter": letter,
            "completion": completions[pk],
            "place": places.get(pk),
            "scores": [(criterion, scores.get((pk, criterion.pk))) for criterion in criteria],
            "edit": edits.get(pk),
            "flag": flags.get(pk),
            "verdicts": [verdict for verdict in verdicts if verdict.completion_id == pk],
        }
        for letter, pk in zip("ABCDEFGHI", revision.order_shown, strict=False)
        if pk in completions
    ]
    return {
        "revision": revision,
        "answers": answers,
        "strength": STRENGTHS.get(revision.strength or 0, ""),
        "seconds": round(revision.active_ms / 1000),
    }
