"""Prompts and the answers to them."""

from __future__ import annotations

from django.db.models import Count, F, Func, Q, TextField
from django.db.models.functions import Cast
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotate.access import LEAD, SignedInRequest, get_project, get_prompt
from annotate.models import Judgement, Project, Slot, Split, Submission
from annotate.views.asked import asked
from annotate.views.paging import page_of


@require_GET
def prompts(request: SignedInRequest, slug: str) -> HttpResponse:
    """A project's prompts: ``?q=`` searches their text, ``?split=`` and ``?tag=`` choose."""
    project = get_project(request, slug, role=LEAD)
    chosen = asked(request, "q", "split", "tag")
    found = project.prompts.order_by("pk")
    if chosen["q"]:
        found = found.annotate(text=Cast("messages", TextField())).filter(
            Q(text__icontains=_as_json(chosen["q"])) | Q(reference__icontains=chosen["q"])
        )
    if chosen["split"] in Split.values:
        found = found.filter(split=chosen["split"])
    if chosen["tag"]:
        found = found.filter(tags__contains=[chosen["tag"]])
    context = {
        "project": project,
        "page": page_of(request, found.annotate(answers=Count("completions"))),
        "chosen": chosen,
        "splits": Split.choices,
        "tags": _tags(project),
        "tab": "prompts",
    }
    return render(request, "prompts/list.html", context)


@require_GET
def prompt(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """A prompt with every answer to it and every judgement of them."""
    prompt = get_prompt(request, slug, pk)
    completions = prompt.completions.select_related("generation", "edit_of").prefetch_related("signals__reward_model")
    context = {
        "project": prompt.project,
        "prompt": prompt,
        "page": page_of(request, completions.order_by(F("generation__number").asc(nulls_last=True), "sample", "pk")),
        "judgements": Judgement.objects.filter(item__prompt=prompt).select_related("rater", "slot"),
        "late": Submission.objects.filter(slot__item__prompt=prompt, outcome=Submission.Outcome.LATE).select_related(
            "rater"
        ),
        "open_slots": Slot.objects.filter(item__prompt=prompt).exclude(state=Slot.State.DONE).count(),
        "tab": "prompts",
    }
    return render(request, "prompts/page.html", context)


def _tags(project: Project) -> list[str]:
    unnested = project.prompts.annotate(tag=Func(F("tags"), function="unnest")).values_list("tag", flat=True)
    return sorted(set(unnested.distinct()))


def _as_json(text: str) -> str:
    """A search text as it stands inside a JSON string of PostgreSQL."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
