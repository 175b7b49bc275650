"""Judgements, for leads: what raters said."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotate.access import LEAD, SignedInRequest, get_judgement, get_project
from annotate.models import Completion, Judgement, JudgementRevision, Submission
from annotate.views.asked import asked
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
    """One judgement with all its revisions, and what arrived late for its slot."""
    judgement = get_judgement(request, slug, pk)
    revisions = judgement.revisions.select_related("submission", "guideline").prefetch_related(
        "scores__criterion", "ranks", "edits__edited", "flags", "snapshots"
    )
    completions = {c.pk: c for c in judgement.item.completions.select_related("generation")}
    context = {
        "project": judgement.item.prompt.project,
        "judgement": judgement,
        "criteria": judgement.item.prompt.project.criteria.order_by("position"),
        "revisions": [_revision(r, completions) for r in revisions.order_by("-number")],
        "late": Submission.objects.filter(slot=judgement.slot, outcome=Submission.Outcome.LATE).select_related("rater"),
        "tab": "judgements",
    }
    return render(request, "judgements/page.html", context)


def _revision(revision: JudgementRevision, completions: dict[int, Completion]) -> dict[str, Any]:
    """A revision by answer, in the order in which the rater saw them."""
    scores = {(s.completion_id, s.criterion_id): s.value for s in revision.scores.all()}
    places = {rank.completion_id: rank.group for rank in revision.ranks.all()}
    edits = {edit.completion_id: edit.edited for edit in revision.edits.all()}
    flags = {flag.completion_id: flag for flag in revision.flags.all()}
    criteria = sorted({s.criterion for s in revision.scores.all()}, key=lambda c: c.position)
    answers = [
        {
            "letter": letter,
            "completion": completions[pk],
            "place": places.get(pk),
            "scores": [(criterion, scores.get((pk, criterion.pk))) for criterion in criteria],
            "edit": edits.get(pk),
            "flag": flags.get(pk),
        }
        for letter, pk in zip("ABCDEFGHI", revision.order_shown, strict=False)
        if pk in completions
    ]
    return {"revision": revision, "answers": answers, "seconds": round(revision.active_ms / 1000)}
