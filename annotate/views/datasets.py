"""Snapshots: what they hold, how they differ, and their export."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from annotate.access import SignedInRequest, get_snapshot
from annotate.formats.writing.files import FILE_TYPES
from annotate.formats.writing.forms import FORMS
from annotate.models import JudgementRevision, Snapshot, Split
from annotate.services import Refused, background
from annotate.services.card import body, card
from annotate.services.differences import difference
from annotate.services.export import download_folder, is_quick, write_download, written
from annotate.services.snapshots import splits_of
from annotate.views import dataset_words as words
from annotate.views.background import at_work
from annotate.views.paging import page_of
from annotate.views.ranged import ranged

CONTENT_TYPES = {
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv; charset=utf-8",
}
MOST_DIGITS = 15


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
    splits = splits_of(snapshot)
    held = [row.split for row in splits if row.rankings]
    context = {
        "project": snapshot.project,
        "snapshot": snapshot,
        "splits": splits,
        "kinds": [(words.KINDS.get(kind, kind), n) for kind, n in snapshot.counts.get("kinds", {}).items()],
        "origins": list(snapshot.counts.get("sources", {}).items()),
        "left_out": words.described(snapshot.counts.get("left_out", [])),
        "forms": [
            {
                "name": name,
                "words": words.FORMS[name],
                "lossless": form.lossless,
                "files": [(split, [(kind, f"{split}.{kind}") for kind in FILE_TYPES]) for split in held],
            }
            for name, form in FORMS.items()
        ],
        "card": body(snapshot),
        "rule": words.RULES.get(snapshot.recipe.get("aggregation")),
        "reward_models": snapshot.reward_models.order_by("number"),
        "others": snapshot.project.snapshots.exclude(pk=snapshot.pk),
        "imported": [
            (label, count)
            for label, count in (
                (_("Imported pairs"), snapshot.comparison_entries.count()),
                (_("Imported rankings"), snapshot.ranked_list_entries.count()),
                (_("Demonstrations"), snapshot.demonstration_entries.count()),
            )
            if count
        ],
        "at_work": at_work(snapshot.project.background_tasks.filter(kind="export", asked__snapshot=snapshot.pk)),
        "page": page_of(request, entries),
    }
    return render(request, "datasets/snapshot.html", context)


@require_GET
def snapshot_card(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """A snapshot's data set card, as the README.md of a data set on the Hugging Face Hub."""
    snapshot = get_snapshot(request, slug, pk)
    response = HttpResponse(card(snapshot), content_type="text/markdown; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="README.md"'
    return response


@require_GET
def snapshot_difference(request: SignedInRequest, slug: str, pk: int) -> HttpResponse:
    """How a snapshot differs from another one (``?with=``), or else from the one before it."""
    snapshot = get_snapshot(request, slug, pk)
    others = snapshot.project.snapshots.exclude(pk=snapshot.pk)
    other = _named(request, snapshot) or others.filter(created_at__lte=snapshot.created_at).first() or others.first()
    context: dict[str, Any] = {
        "project": snapshot.project,
        "snapshot": snapshot,
        "other": other,
        "others": others,
    }
    if other is not None:
        found = difference(other, snapshot)
        context |= {
            "difference": found,
            "changes": [
                (
                    label,
                    *(
                        counts.get(name)
                        for counts in (found.judgements, found.comparisons, found.ranked_lists, found.demonstrations)
                    ),
                )
                for name, label in (
                    ("added", _("Added")),
                    ("removed", _("Removed")),
                    ("changed", _("Changed")),
                    ("same", _("The same")),
                )
            ],
            "samples": [
                (label, found.judgement_samples.get(name, []), found.comparison_samples.get(name, []))
                for name, label in (("added", _("Added")), ("removed", _("Removed")), ("changed", _("Changed")))
            ],
        }
    return render(request, "datasets/difference.html", context)


@require_GET
def export(request: SignedInRequest, slug: str, pk: int, form: str, file: str) -> HttpResponseBase:
    """A file of a snapshot's export, as trl-preference/train.jsonl; parts of it by HTTP's Range.

    One that would take long to write is left to a worker, and the request sent on to where one sees how far it is.
    """
    snapshot = get_snapshot(request, slug, pk)
    split, _dot, file_type = file.partition(".")
    if form not in FORMS or split not in Split.values or file_type not in FILE_TYPES:
        raise Http404
    asked = {"snapshot": snapshot.pk, "form": form, "file_type": file_type}
    files = written(snapshot, form, file_type)
    try:
        if files is None and not is_quick(snapshot):
            task = background.ask(project=snapshot.project, kind="export", asked=asked, actor=request.user)
            return redirect("background_task", slug=slug, pk=task.pk)
        if files is None:
            write_download(snapshot, form, file_type)
            files = written(snapshot, form, file_type) or {}
    except Refused as refusal:
        messages.error(request, str(refusal))
        return redirect("snapshot", slug=slug, pk=pk)
    name = f"{slug}-{snapshot.sha256[:12]}-{form}-{split}.{file_type}"
    if split not in files:
        response = HttpResponse(content_type=CONTENT_TYPES[file_type])
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response
    found = files[split]
    path = download_folder(snapshot) / found.path
    return ranged(request, path, etag=found.sha256, content_type=CONTENT_TYPES[file_type], name=name)


def _named(request: SignedInRequest, snapshot: Snapshot) -> Snapshot | None:
    number = request.GET.get("with", "")
    if not (number.isascii() and number.isdecimal() and len(number) <= MOST_DIGITS):
        return None
    return snapshot.project.snapshots.exclude(pk=snapshot.pk).filter(pk=int(number)).first()
