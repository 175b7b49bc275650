"""Prompts and the answers to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, cast

from django.contrib import messages
from django.db.models import Count, F, Func, Q, TextField
from django.db.models.functions import Cast
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import LEAD, SignedInRequest, get_project, get_prompt
from annotate.models import Evaluation, Judgement, Project, Slot, Split, Submission
from annotate.services import Refused
from annotate.services.comparison import hidden_from
from annotate.services.prompts import BadLines, PromptRow, add_prompts, read_file, read_pasted
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
        "has_any": project.prompts.exists(),
        "splits": Split.choices,
        "tags": tags_of(project),
        "tab": "prompts",
    }
    return render(request, "prompts/list.html", context)


@require_GET
def prompt(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """A prompt with every answer to it and every judgement of them."""
    prompt = get_prompt(request, slug, pk)
    late = Submission.objects.filter(slot__item__prompt=prompt, outcome=Submission.Outcome.LATE)
    hidden = hidden_from(request.user, Evaluation.objects.filter(items__prompt=prompt))
    completions = prompt.completions.select_related("generation", "edit_of").prefetch_related("signals__reward_model")
    context = {
        "project": prompt.project,
        "prompt": prompt,
        "page": page_of(request, completions.order_by(F("generation__number").asc(nulls_last=True), "sample", "pk")),
        "judgements": Judgement.objects.filter(item__prompt=prompt).select_related("rater", "slot"),
        "late": late.exclude(slot__item__evaluation__in=hidden).select_related("rater"),
        "open_slots": Slot.objects.filter(item__prompt=prompt).exclude(state=Slot.State.DONE).count(),
        "tab": "prompts",
    }
    return render(request, "prompts/page.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def add(request: SignedInRequest, slug: str) -> HttpResponse:
    """Add prompts: pasted, one a line, or out of a file of JSON lines."""
    project = get_project(request, slug, role=LEAD)
    problems: dict[str, str] = {}
    context = {"project": project, "problems": problems, "typed": request.POST.get("prompts", ""), "tab": "prompts"}
    if request.method == "POST":
        rows, context["bad_lines"] = sent_prompts(request, problems.setdefault)
        if not rows and not problems:
            problems["prompts"] = _("Paste some prompts or choose a file.")
        if not problems:
            report = add_prompts(project=project, rows=rows, actor=request.user)
            messages.success(
                request,
                _("%(new)d prompts added; %(known)d were here already.") % {"new": report.new, "known": report.known},
            )
            return redirect("prompts", slug=slug)
    return render(request, "prompts/add.html", context, status=422 if problems else 200)


def sent_prompts(
    request: SignedInRequest, problem: Callable[[str, str], object]
) -> tuple[list[PromptRow], list[tuple[int, str]]]:
    """The prompts that a form brought, pasted and in a file.

    :param problem: told the input and what is wrong with it.
    :returns: the prompts, and lines that cannot be read with the reasons.
    """
    rows: list[PromptRow] = []
    bad: list[tuple[int, str]] = []
    file = request.FILES.get("prompts_file")
    for place, read in (
        ("prompts", lambda: read_pasted(request.POST.get("prompts", ""))),
        ("prompts_file", lambda: read_file(cast(BinaryIO, file)) if file else []),
    ):
        try:
            rows += read()
        except BadLines as wrong:
            problem(place, str(wrong))
            bad += wrong.problems
        except Refused as refusal:
            problem(place, str(refusal))
    return rows, bad


def tags_of(project: Project) -> list[str]:
    """The tags of a project's prompts, in order."""
    unnested = project.prompts.annotate(tag=Func(F("tags"), function="unnest")).values_list("tag", flat=True)
    return sorted(set(unnested.distinct()))


def _as_json(text: str) -> str:
    """A search text as it stands inside a JSON string of PostgreSQL."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
