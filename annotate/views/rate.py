"""The rating page and what it calls.

Answers are known to the page by letters only, in the order in which the slot shows them: numbers of
completions grow from generation to generation and would tell which model wrote what.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from annotate.access import SignedInRequest, get_project, get_slot
from annotate.models import Judgement, Project, Slot, User
from annotate.services import Conflict, Refused, judging

LETTERS = "ABCDEFGHI"
BY_ANSWER = ("scores", "ranks", "edits", "flags")
"""Parts of a payload that are given by answer."""

SKIP_REASONS = {
    "language": gettext_lazy("I cannot read a language that I need here"),
    "unsure": gettext_lazy("I cannot tell what is right"),
    "upsetting": gettext_lazy("I would rather not work on this text"),
    "broken": gettext_lazy("The prompt is broken"),
    "other": gettext_lazy("Another reason"),
}

WORDS = {
    "draft": gettext_lazy("Draft kept in this browser"),
    "sending": gettext_lazy("Sending …"),
    "saved": gettext_lazy("Saved"),
    "late": gettext_lazy(
        "Kept, but your time on that item had run out and somebody else was given it; a lead sees both answers."
    ),
    "offline": gettext_lazy("No connection. Nothing is lost: sending again in {seconds} s."),
    "signedOut": gettext_lazy("You were signed out. Sign in again in another tab, then press Submit here."),
    "failed": gettext_lazy("The site could not take this just now. Nothing is lost: press Submit again."),
    "lost": gettext_lazy("Your time on this item ran out and somebody else has it. What you submit is kept as late."),
    "unloaded": gettext_lazy("The next item could not be loaded. Reload the page when you are connected again."),
    "missingScores": gettext_lazy("scores {count}"),
    "missingPlaces": gettext_lazy("places {count}"),
    "open": gettext_lazy("Open: {what}"),
    "complete": gettext_lazy("Complete"),
    "sendAnyway": gettext_lazy("Still open: {what}. Press Submit once more to send it as it is."),
    "gap": gettext_lazy("No answer has place {place}: give places 1, 2, 3 … without a gap; equals share one."),
    "rankMode": gettext_lazy("Place of answer {letter}: press {first}–{last}, 0 for none, Esc to stop."),
    "nothingToReopen": gettext_lazy("You have not submitted anything here yet."),
    "reopened": gettext_lazy("This is your last answer. Change what you like and submit it again."),
    "conflict": gettext_lazy("This answer was saved in another tab meanwhile, as version {version}."),
    "edited": gettext_lazy("edited"),
}


@require_GET
@never_cache
def page(request: SignedInRequest, slug: str) -> HttpResponse:
    """The rating page with the rater's current item."""
    project = get_project(request, slug)
    slot = judging.claim(user=request.user, project=project)
    context = {
        **_desk(request.user, project, slot),
        "guideline": project.guidelines.order_by("-number").first(),
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
    slot = judging.claim(user=request.user, project=project)
    return render(request, "rate/desk.html", _desk(request.user, project, slot))


@require_GET
@never_cache
def last_answer(request: SignedInRequest, slug: str) -> HttpResponse:
    """The rater's last answer, open for changes, as a piece of the page; 204 where there is none."""
    project = get_project(request, slug)
    judgements = Judgement.objects.filter(rater=request.user, slot__project=project)
    judgement = judgements.select_related("slot__item__prompt").order_by("-updated_at").first()
    if judgement is None:
        return HttpResponse(status=204)
    return render(request, "rate/desk.html", _desk(request.user, project, judgement.slot, judgement))


@require_POST
def submit(request: SignedInRequest, slug: str, pk: int) -> JsonResponse:
    """Store an answer: ``{"uuid": …, "version": null or a number, "answer": {…}}``, with letters for answers."""
    slot = get_slot(request, slug, pk)
    letters = _letters(slot)
    try:
        body = _body(request)
        receipt = judging.submit(
            user=request.user,
            slot=slot,
            uuid=_uuid(body.get("uuid")),
            raw=_renamed(body.get("answer"), letters),
            version=_version(body.get("version")),
        )
    except Conflict as conflict:
        answer = _stored_answer(slot, request.user)
        return JsonResponse({"error": str(conflict), "place": conflict.place, "stored": answer}, status=409)
    except Refused as refusal:
        return JsonResponse({"error": str(refusal), "place": refusal.place}, status=400)
    version = receipt.judgement.version if receipt.judgement else None
    return JsonResponse({"outcome": receipt.outcome, "version": version})


@require_POST
def skip(request: SignedInRequest, slug: str, pk: int) -> JsonResponse:
    """Give the item back: ``{"reason": one of SKIP_REASONS, "note": text}``."""
    slot = get_slot(request, slug, pk)
    try:
        body = _body(request)
        reason, note = body.get("reason"), body.get("note", "")
        if reason not in SKIP_REASONS or not isinstance(note, str):
            raise Refused(_("Choose why you skip this item."), place="reason")
        if reason == "other" and not note.strip():
            raise Refused(_("Say in a few words why you skip this item."), place="note")
        judging.skip(user=request.user, slot=slot, reason=f"{reason}: {note.strip()}" if note.strip() else reason)
    except Refused as refusal:
        return JsonResponse({"error": str(refusal), "place": refusal.place}, status=400)
    return JsonResponse({"outcome": "skipped"})


@require_POST
def renew(request: SignedInRequest, slug: str, pk: int) -> JsonResponse:
    """Keep the lease of an item that is being worked on; says whether it is still held."""
    slot = get_slot(request, slug, pk)
    return JsonResponse({"held": judging.renew(user=request.user, slot=slot)})


def _desk(user: User, project: Project, slot: Slot | None, judgement: Judgement | None = None) -> dict[str, Any]:
    """What the template of one item shows."""
    standing = judging.standing(user=user, project=project)
    context: dict[str, Any] = {"project": project, "standing": standing, "slot": slot}
    if slot is None:
        return context
    texts = dict(slot.item.completions.values_list("id", "text"))
    order = judging.shown_order(slot)
    addresses = {name: reverse(name, args=[project.slug, slot.pk]) for name in ("submit", "skip", "renew")}
    return {
        **context,
        "prompt": slot.item.prompt,
        "answers": [
            {"letter": letter, "text": texts[completion]} for letter, completion in zip(LETTERS, order, strict=False)
        ],
        "places": range(1, len(order) + 1),
        "criteria": list(project.criteria.order_by("position")) if project.score_on else [],
        "data": {
            "slot": slot.pk,
            "addresses": addresses,
            "stored": _stored_answer(slot, user) if judgement else None,
        },
    }


def _letters(slot: Slot) -> dict[str, int]:
    """The completion behind each letter of a slot's page."""
    return dict(zip(LETTERS, judging.shown_order(slot), strict=False))


def _stored_answer(slot: Slot, user: User) -> dict[str, Any] | None:
    """The rater's answer as the page sends it, with its version."""
    judgement = Judgement.objects.filter(slot=slot, rater=user).first()
    if judgement is None:
        return None
    letters = {str(completion): letter for letter, completion in _letters(slot).items()}
    payload = judgement.revisions.select_related("submission").get(number=judgement.version).submission.payload
    by_answer = {part: {letters[key]: value for key, value in (payload.get(part) or {}).items()} for part in BY_ANSWER}
    return {"version": judgement.version, "answer": {**payload, **by_answer}}


def _renamed(answer: Any, letters: dict[str, int]) -> Any:
    """The payload of a page's answer: completion numbers for letters; what has no right form is left to be refused."""
    if not isinstance(answer, dict):
        return answer
    renamed = dict(answer)
    for part in BY_ANSWER:
        if isinstance(entries := answer.get(part), dict):
            unknown = sorted(set(entries) - set(letters))
            if unknown:
                raise Refused(
                    _("There is no answer %(letter)s in this item.") % {"letter": unknown[0][:40]}, place=part
                )
            renamed[part] = {str(letters[letter]): value for letter, value in entries.items()}
    return renamed


def _body(request: HttpRequest) -> dict[str, Any]:
    try:
        body = json.loads(request.body)
    except RequestDataTooBig:
        raise Refused(_("This answer is too long to be stored.")) from None
    except ValueError:
        raise Refused(_("The answer is not a JSON object.")) from None
    if not isinstance(body, dict):
        raise Refused(_("The answer is not a JSON object."))
    return body


def _uuid(value: Any) -> uuid.UUID:
    try:
        return uuid.UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise Refused(_("The submission has no valid uuid."), place="uuid") from None


def _version(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise Refused(_("The version must be a number."), place="version")
