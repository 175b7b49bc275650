"""Scoring texts with a reward model: a form on its page, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import BinaryIO, cast
from uuid import UUID

import orjson
from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_POST

from annotate.access import SignedInRequest, get_reward_model, get_run
from annotate.models import Run
from annotate.services import Refused
from annotate.services.text_scores import Scored, read_texts, score, scored, texts_of

SHOWN = 50
"""Prompts whose scores a run's page shows."""
FORM_ANSWERS = range(1, 5)
"""Fields for answers."""


@require_POST
def score_texts(request: SignedInRequest, slug: str, number: int) -> HttpResponse:
    """Score the answers of a form (``prompt``, ``responses``) or of its ``file``, and go to the run."""
    reward_model = get_reward_model(request, slug, number)
    try:
        upload = request.FILES.get("file")
        if upload is not None and upload.file is not None:
            texts = read_texts(cast(BinaryIO, upload.file))
        else:
            responses = [text for text in request.POST.getlist("responses") if text.strip()]
            texts = [texts_of(request.POST.get("prompt") or [], responses)]
        run = score(reward_model=reward_model, texts=texts, actor=request.user)
    except Refused as refusal:
        messages.error(request, str(refusal))
        return redirect("reward_model", slug=slug, number=number)
    return redirect("run", slug=slug, pk=run.pk)


@require_GET
def fetch(request: SignedInRequest, slug: str, pk: UUID) -> HttpResponseBase:
    """All scores of a run, as JSON lines."""
    run = get_run(request, slug, pk)
    if not has_scores(run):
        raise Http404

    def lines() -> Iterator[bytes]:
        for row in scored(run):
            yield orjson.dumps(asdict(row), option=orjson.OPT_APPEND_NEWLINE)

    name = f"scores-{str(run.pk)[:8]}.jsonl"
    response = StreamingHttpResponse(lines(), content_type="application/jsonl")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def has_scores(run: Run) -> bool:
    """Whether a run scored texts and ended well."""
    return "texts" in run.selection and run.state == Run.State.SUCCEEDED


def first_scores(run: Run) -> list[Scored]:
    """What a run's page shows of its scores."""
    return list(islice(scored(run), SHOWN)) if has_scores(run) else []
