"""The rating page and what it calls."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from annotate import handles
from annotate.access import SignedInRequest, get_project, get_slot
from annotate.models import Criterion, Judgement, Project, Prompt, Purpose, Slot, User
from annotate.prepared import Prepared
from annotate.services import Conflict, Refused, claiming, comparison, drafts, judging, offers, qualification
from annotate.services.payload import MAX_EDIT, MAX_QUOTE, MAX_RATIONALE, current_norms, plain_text
from annotate.services.standing import standing
from annotate.views import answers, qualify
from annotate.views import body as body_of
from annotate.views.guidelines import reading_context
from annotate.views.judging_words import JUDGING_WORDS
from annotate.views.letters import LETTERS, by_completion, kept_draft, stored_answer

LONGEST_BEAT_SECONDS = 300
BEATS_IN_A_LEASE = 3
"""The page renews its lease so often that two beats may get lost."""

SKIP_REASONS = {
    "language": gettext_lazy("I cannot read a language that I need here"),
    "unsure": gettext_lazy("I cannot tell what is right"),
    "upsetting": gettext_lazy("I would rather not work on this text"),
    "broken": gettext_lazy("The prompt is broken"),
    "other": gettext_lazy("Another reason"),
}

WORDS = {
    "draft": gettext_lazy("Draft kept in this browser"),
    "draftSaved": gettext_lazy("Draft saved"),
    "draftElsewhere": gettext_lazy("Another tab went on with this item: this is the newer draft."),
    "draftConflict": gettext_lazy("This item was also worked on in another browser. There the answer is:"),
    "draftMine": gettext_lazy("Go on with what is here"),
    "draftTheirs": gettext_lazy("Go on with that"),
    "sending": gettext_lazy("Sending …"),
    "saved": gettext_lazy("Saved"),
    "late": gettext_lazy(
        "Kept, but your time on that item had run out and somebody else was given it; a lead sees both answers."
    ),
    "offline": gettext_lazy("No connection. Nothing is lost: sending again in {seconds} s."),
    "signedOut": gettext_lazy("You were signed out. Sign in again in another tab, then press Submit here."),
    "signedOutTyping": gettext_lazy(
        "You were signed out. Sign in again in another tab; your draft is in this browser."
    ),
    "failed": gettext_lazy("The site could not take this just now. Nothing is lost: press Submit again."),
    "gone": gettext_lazy("The site does not know this item as yours. Reload the page; your draft is in this browser."),
    "lost": gettext_lazy("Your time on this item ran out and somebody else has it. What you submit is kept as late."),
    "doneElsewhere": gettext_lazy("You have submitted this item in another tab."),
    "unloaded": gettext_lazy("The next item could not be loaded. Trying again in {seconds} s."),
    "unloadedSignedOut": gettext_lazy("You were signed out. Sign in again, then reload this page."),
    "nothingToReopen": gettext_lazy("You have not submitted anything here yet."),
    "reopened": gettext_lazy("This is your last answer. Change what you like and submit it again."),
    "conflict": gettext_lazy("This answer was saved in another tab meanwhile, as version {version}."),
    "conflictMine": gettext_lazy("Send mine as the newer version"),
    "conflictTheirs": gettext_lazy("Take the saved one"),
    **JUDGING_WORDS,
}


@require_GET
@never_cache
def page(request: SignedInRequest, slug: str) -> HttpResponse:
    """The rating page with the rater's current item."""
    project = get_project(request, slug)
    return _page(request, project, claiming.claim(user=request.user, project=project))


@require_GET
@never_cache
def change(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """The rating page with an answer of the viewer's own, open for changes as long as it does not stand."""
    slot = get_slot(request, slug, pk)
    get_object_or_404(Judgement, slot=slot, rater=request.user)
    if qualify.revealed(slot, request.user):
        messages.info(request, _("You have seen the right answer to this item: what you said of it stands."))
        return redirect("mine", slug=slug)
    if comparison.final_slots([slot]):
        messages.info(request, comparison.why_final())
        return redirect("mine", slug=slug)
    return _page(request, slot.project, slot)


def _page(request: SignedInRequest, project: Project, slot: Slot | None) -> HttpResponse:
    context = {
        **_piece(request.user, project, slot),
        **reading_context(request.user, project),
        "guideline": project.guidelines.order_by("-number").first(),
        "renew_seconds": min(LONGEST_BEAT_SECONDS, project.lease_minutes * 60 // BEATS_IN_A_LEASE),
        "criteria": _criteria(project),
        "skip_reasons": SKIP_REASONS,
        "words": {name: str(text) for name, text in WORDS.items()},
        "tab": "rate",
    }
    return render(request, "rate/page.html", context)


@require_GET
@never_cache
def next_item(request: SignedInRequest, slug: str) -> HttpResponse:
    """The rater's current item, or a new one, as a piece of the page."""
    project = get_project(request, slug)
    slot = claiming.claim(user=request.user, project=project)
    return render(request, "rate/item.html", _piece(request.user, project, slot))


@require_GET
@never_cache
def item_ahead(request: SignedInRequest, slug: str) -> HttpResponse:
    """The item after the one at work, as a piece of the page; 204 where there is none to be had ahead."""
    project = get_project(request, slug)
    slot = claiming.claim(user=request.user, project=project, ahead=True)
    if slot is None:
        return HttpResponse(status=204)
    return render(request, "rate/item.html", _piece(request.user, project, slot, with_progress=False))


@require_GET
@never_cache
def last_answer(request: SignedInRequest, slug: str) -> HttpResponse:
    """The rater's last answer, open for changes, as a piece of the page; 204 where there is none."""
    project = get_project(request, slug)
    judgements = Judgement.objects.filter(rater=request.user, slot__project=project)
    judgement = judgements.select_related("slot__item__prompt").order_by("-updated_at").first()
    if judgement is None:
        return HttpResponse(status=204)
    check = qualify.revealed(judgement.slot, request.user)
    if check is not None:
        return render(request, "rate/feedback.html", qualify.feedback_piece(check, request.user, project))
    if comparison.final_slots([judgement.slot]):
        context = {"project": project, "slot": judgement.slot, "why": comparison.why_final(), "data": {}}
        return render(request, "rate/stands.html", context)
    return render(request, "rate/item.html", _piece(request.user, project, judgement.slot))


@require_POST
def submit(request: SignedInRequest, slug: str, pk: int) -> JsonResponse:
    """Store an answer, and open the item that the page holds ahead.

    ``{"uuid": …, "version": null or a number, "answer": {…} by letters, "ahead": null or a slot}``
    """
    slot = get_slot(request, slug, pk)
    try:
        body = body_of.read(request)
        ahead = body_of.number(body, "ahead")
        receipt = judging.submit(
            user=request.user,
            slot=slot,
            uuid=body_of.unique_id(body, "uuid"),
            raw=by_completion(body.get("answer"), slot),
            version=body_of.number(body, "version"),
        )
        moved = _moved_on(request.user, slot, ahead)
    except Conflict as conflict:
        stored = stored_answer(slot, request.user)
        return JsonResponse({"error": str(conflict), "place": conflict.place, "stored": stored}, status=409)
    except Refused as refusal:
        return _refused(refusal)
    version = receipt.judgement.version if receipt.judgement else None
    check = qualify.revealed(slot, request.user) if slot.purpose == Purpose.QUALIFY else None
    feedback = reverse("feedback", args=[slug, pk]) if check else None
    return JsonResponse({"outcome": receipt.outcome, "version": version, "feedback": feedback, **moved})


@require_POST
def skip(request: SignedInRequest, slug: str, pk: int) -> JsonResponse:
    """Give the item back: ``{"reason": one of SKIP_REASONS, "note": text, "ahead": as in submit}``."""
    slot = get_slot(request, slug, pk)
    try:
        body = body_of.read(request)
        ahead = body_of.number(body, "ahead")
        reason, note = body.get("reason"), plain_text(body.get("note", ""), "note", 400).strip()
        if not isinstance(reason, str) or reason not in SKIP_REASONS:
            raise Refused(_("Choose why you skip this item."), place="reason")
        if reason == "other" and not note:
            raise Refused(_("Say in a few words why you skip this item."), place="note")
        claiming.skip(user=request.user, slot=slot, reason=f"{reason}: {note}" if note else reason)
        moved = _moved_on(request.user, slot, ahead)
    except Refused as refusal:
        return _refused(refusal)
    return JsonResponse({"outcome": "skipped", **moved})


@require_POST
def renew(request: SignedInRequest, slug: str, pk: int) -> JsonResponse:
    """Keep the lease of an item that is being worked on; says whether it is still held, and the draft on the site."""
    slot = get_slot(request, slug, pk)
    held = claiming.renew(user=request.user, slot=slot)
    done = slot.state == Slot.State.DONE and slot.rater_id == request.user.pk
    return JsonResponse({"held": held, "done": done, "draft": kept_draft(slot, request.user)})


@require_POST
def draft(request: SignedInRequest, slug: str, pk: int) -> JsonResponse:
    """Keep what is typed so far; the fields are those of :class:`~annotate.services.drafts.Typed`."""
    slot = get_slot(request, slug, pk)
    try:
        body = body_of.read(request)
        answer = body.get("answer")
        if not isinstance(answer, dict):
            raise Refused(_("The answer is not a JSON object."), place="answer")
        typed = drafts.Typed(
            sequence=body_of.number(body, "sequence") or 0,
            seen=body_of.number(body, "seen") or 0,
            browser=body_of.unique_id(body, "browser"),
            version=body_of.number(body, "version") or 0,
            answer=answer,
            active_ms=body_of.number(body, "ms") or 0,
        )
        kept = drafts.keep(user=request.user, slot=slot, typed=typed)
    except Conflict as conflict:
        return JsonResponse({"error": str(conflict), "draft": kept_draft(slot, request.user)}, status=409)
    except Refused as refusal:
        return _refused(refusal)
    return JsonResponse({"kept": kept})


def _refused(refusal: Refused) -> JsonResponse:
    return JsonResponse({"error": str(refusal), "place": refusal.place}, status=400)


def _moved_on(user: User, slot: Slot, ahead: int | None) -> dict[str, Any]:
    """What the page needs to go on: whether the item that it holds ahead is open now, and how far things are."""
    number = None if ahead is None else handles.number(ahead)
    opened = number is not None and claiming.open_ahead(user=user, project=slot.project, slot_id=number)
    return {"opened": opened, "progress": _progress(user, slot.project, slot, answered=True)}


def _progress(user: User, project: Project, slot: Slot | None, *, answered: bool = False) -> dict[str, Any]:
    """The line of progress beside an item.

    :param answered: whether the item was judged just now.
    """
    if slot is not None and slot.purpose == Purpose.QUALIFY:
        trial = qualification.trial(user=user, project=project)
        if trial is not None:
            return qualify.progress(trial, answered=answered)
    now = standing(user=user, project=project)
    figures = {"mine": now.mine, "percent": now.percent}
    words = _("%(mine)s by you; %(percent)s %% of the project") % figures
    return {"done": now.percent, "total": 100, "words": words}


_asked = Prepared(lambda project: Criterion.objects.filter(project=project, active=True).order_by("position"))
_prompt = Prepared(lambda item: Prompt.objects.filter(items=item))


def _criteria(project: Project) -> list[Criterion]:
    return _asked(project=project.pk) if project.score_on else []


def _piece(user: User, project: Project, slot: Slot | None, *, with_progress: bool = True) -> dict[str, Any]:
    """What the template of one item shows, and under ``data`` what its script is told.

    :param with_progress: False for an item that is shown later, when the progress has changed.
    """
    data: dict[str, Any] = {"progress": _progress(user, project, slot) if with_progress else None}
    if slot is None:
        trial = qualification.trial(user=user, project=project)
        result = qualify.result_piece(trial, project) if trial and trial.failed else {}
        return {
            "project": project,
            "slot": None,
            "data": data,
            "why_none": offers.why_none(user=user, project=project),
            **result,
        }
    addresses = {name: reverse(name, args=[project.slug, slot.pk]) for name in ("submit", "skip", "renew", "draft")}
    return {
        "project": project,
        "slot": slot,
        "prompt": _prompt.first(item=slot.item_id),
        "answers": [
            {"letter": letter, "text": text} for letter, text in zip(LETTERS, slot.shown.values(), strict=False)
        ],
        "places": range(1, len(slot.shown) + 1),
        "criteria": _criteria(project),
        "introduction": qualify.introduction(user, project) if slot.purpose == Purpose.QUALIFY else "",
        "norms": current_norms(project) if project.norms_on else [],
        "pair": project.rank_on and len(slot.shown) == 2,
        "longest": {"edit": MAX_EDIT, "rationale": MAX_RATIONALE, "quote": MAX_QUOTE},
        "others": answers.of_others(slot, _criteria(project)) if slot.purpose == Purpose.ADJUDICATE else [],
        "data": {
            **data,
            "slot": handles.handle(slot.pk),
            "skippable": slot.purpose != Purpose.QUALIFY,
            "addresses": addresses,
            "stored": stored_answer(slot, user) if slot.state == Slot.State.DONE else None,
            "draft": kept_draft(slot, user),
        },
    }
