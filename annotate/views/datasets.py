"""Snapshots and their export."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse, HttpResponseBadRequest, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET

from annotate.access import SignedInRequest, get_snapshot
from annotate.models import JudgementRevision, Purpose, Split, User
from annotate.services.export import trl_preference_lines
from annotate.views.paging import page_of

RECIPE = {
    "kinds": gettext_lazy("Whose judgements"),
    "purposes": gettext_lazy("Made to"),
    "aggregation": gettext_lazy("Of several"),
}
"""What the parts of a snapshot's recipe are called."""
VALUES = {
    **dict(User.Kind.choices),
    **dict(Purpose.choices),
    "adjudicated or every rater": gettext_lazy("the adjudication, or else every judgement"),
}


@require_GET
def snapshot(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """A snapshot: what it holds, how it was asked for, what was trained on it."""
    snapshot = get_snapshot(request, slug, pk)
    entries = (
        JudgementRevision.objects.filter(snapshotrevision__snapshot=snapshot)
        .select_related("judgement__rater", "judgement__item__prompt")
        .prefetch_related("ranks", "scores")
        .order_by("pk")
    )
    context = {
        "project": snapshot.project,
        "snapshot": snapshot,
        "splits": [
            {
                "split": split,
                "label": label,
                **{what: snapshot.counts.get(f"{what}_{split}", 0) for what in ("prompts", "rankings", "pairs")},
            }
            for split, label in Split.choices
        ],
        "recipe": [(RECIPE.get(name, name), _in_words(value)) for name, value in snapshot.recipe.items()],
        "reward_models": snapshot.reward_models.order_by("number"),
        "comparisons": snapshot.comparison_entries.count(),
        "page": page_of(request, entries),
    }
    return render(request, "lineage/snapshot.html", context)


@require_GET
def export(request: SignedInRequest, slug: str, pk: int) -> HttpResponseBase:
    """A snapshot's pairs of one split (``?split=``, training by default) in TRL's preference format."""
    snapshot = get_snapshot(request, slug, pk)
    split = request.GET.get("split", Split.TRAIN)
    if split not in Split.values:
        return HttpResponseBadRequest(_("The split must be train, dev or test."))
    response = StreamingHttpResponse(trl_preference_lines(snapshot, split), content_type="application/x-ndjson")
    response["Content-Disposition"] = f'attachment; filename="{slug}-{snapshot.sha256[:12]}-{split}.jsonl"'
    return response


def _in_words(value: Any) -> Any:
    """A value of a recipe, or each of several; what has no words here stays as it is."""
    if isinstance(value, list):
        return [_in_words(each) for each in value]
    return VALUES.get(value, value) if isinstance(value, str) else value
