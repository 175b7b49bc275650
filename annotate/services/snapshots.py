"""Snapshots: judgements frozen into rankings that training and exports read.

How a judgement becomes rankings: its ranks, or where it has none the order of its mean scores, make
one ranking with ties; each edit makes another, the edited text above the original. Every rater's
judgement of an item stands for itself, unless an adjudication stands for them all.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from annotate.models import (
    Comparison,
    JudgementRevision,
    Project,
    Purpose,
    Snapshot,
    SnapshotComparison,
    SnapshotRevision,
    User,
)
from annotate.services import Refused, audit
from annotate.services.ondemand import counted_revisions
from annotate.services.places import places

CHUNK = 2000
LONGEST_NAME = 80
"""Characters."""


@dataclass(frozen=True)
class Ranking:
    """Answers to one prompt in a rater's order."""

    row_id: str
    prompt_id: str
    split: str
    messages: list[dict[str, str]]
    responses: list[str]
    ranks: list[int | None]
    weight: float = 1.0

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Each untied pair of ranked answers, the better one first."""
        for better, upper in zip(self.responses, self.ranks, strict=True):
            for worse, lower in zip(self.responses, self.ranks, strict=True):
                if upper is not None and lower is not None and upper < lower:
                    yield better, worse


def create_snapshot(
    *, project: Project, actor: User | None, name: str = "", kinds: Sequence[str] = (User.Kind.HUMAN,)
) -> Snapshot:
    """Freeze the project's current judgements and comparisons.

    Equal content makes no second snapshot: the earlier one is returned.

    :param name: free text; the next of v1, v2, … when empty.
    :param kinds: whose judgements: of people unless asked otherwise.
    :raises Refused: when there is nothing to learn from, or the name is taken or will not do.
    """
    if len(name) > LONGEST_NAME or "\x00" in name:
        raise Refused(_("A snapshot's name has at most %(most)d characters.") % {"most": LONGEST_NAME}, place="name")
    with transaction.atomic():
        Project.objects.select_for_update().get(pk=project.pk)
        revisions = list(_current_revisions(project, kinds).values_list("pk", flat=True))
        comparisons = list(project.comparisons.order_by("pk").values_list("pk", flat=True))
        digest, counts = hashlib.sha256(), Counter[str]()
        prompts: dict[str, set[str]] = {"train": set(), "dev": set(), "test": set()}
        for ranking in _rankings(revisions, comparisons):
            digest.update(canonical_line(ranking))
            counts[f"rankings_{ranking.split}"] += 1
            counts[f"pairs_{ranking.split}"] += sum(1 for _pair in ranking.pairs())
            prompts[ranking.split].add(ranking.prompt_id)
        if not sum(count for key, count in counts.items() if key.startswith("pairs_")):
            raise Refused(
                _("There are no comparisons yet: rate some items, giving different ranks or scores, and try again.")
            )
        sha256 = digest.hexdigest()
        existing = project.snapshots.filter(sha256=sha256).first()
        if existing is not None:
            return existing
        name = name or f"v{project.snapshots.count() + 1}"
        if project.snapshots.filter(name=name).exists():
            raise Refused(_("There is a snapshot %(name)s already.") % {"name": name}, place="name")
        snapshot = Snapshot.objects.create(
            project=project,
            name=name,
            sha256=sha256,
            recipe={"kinds": list(kinds), "purposes": [Purpose.COLLECT], "aggregation": "adjudicated or every rater"},
            counts={**counts, **{f"prompts_{split}": len(ids) for split, ids in prompts.items()}},
            created_by=actor,
        )
        SnapshotRevision.objects.bulk_create(
            (SnapshotRevision(snapshot=snapshot, revision_id=pk) for pk in revisions), batch_size=CHUNK
        )
        SnapshotComparison.objects.bulk_create(
            (SnapshotComparison(snapshot=snapshot, comparison_id=pk) for pk in comparisons), batch_size=CHUNK
        )
        audit.record("froze", snapshot, actor=actor, project=project, sha256=sha256)
    return snapshot


def rankings(snapshot: Snapshot) -> Iterator[Ranking]:
    """A snapshot's rankings, rebuilt from the revisions and comparisons that it lists."""
    return _rankings(
        snapshot.revision_entries.order_by("revision_id").values_list("revision_id", flat=True),
        snapshot.comparison_entries.order_by("comparison_id").values_list("comparison_id", flat=True),
    )


def canonical_line(ranking: Ranking) -> bytes:
    """The bytes of a ranking that a snapshot's hash is taken over."""
    return (json.dumps(asdict(ranking), ensure_ascii=False, sort_keys=True) + "\n").encode("utf-8", "surrogatepass")


def _current_revisions(project: Project, kinds: Sequence[str]) -> QuerySet[JudgementRevision]:
    counted = counted_revisions(purpose=Purpose.COLLECT, kinds=kinds)
    return counted.filter(judgement__slot__project=project).order_by("pk")


def _rankings(revision_ids: Iterable[int], comparison_ids: Iterable[int]) -> Iterator[Ranking]:
    for chunk in _chunks(revision_ids):
        revisions = (
            JudgementRevision.objects.filter(pk__in=chunk)
            .select_related("judgement__item__prompt")
            .prefetch_related("judgement__item__completions", "ranks", "scores", "edits__edited")
            .order_by("pk")
        )
        for revision in revisions:
            yield from _of_revision(revision)
    for chunk in _chunks(comparison_ids):
        pairs = Comparison.objects.filter(pk__in=chunk).select_related("prompt", "chosen", "rejected").order_by("pk")
        for pair in pairs:
            yield Ranking(
                row_id=f"comparison-{pair.pk}",
                prompt_id=str(pair.prompt_id),
                split=pair.prompt.split,
                messages=pair.prompt.messages,
                responses=[pair.chosen.text, pair.rejected.text],
                ranks=[1, 2],
            )


def _of_revision(revision: JudgementRevision) -> Iterator[Ranking]:
    prompt = revision.judgement.item.prompt
    texts = {c.pk: c.text for c in revision.judgement.item.completions.all()}
    ranks = places(revision)
    order = sorted(texts)
    shared = {"prompt_id": str(prompt.pk), "split": prompt.split, "messages": prompt.messages}
    if len(ranks) > 1:
        yield Ranking(
            row_id=f"revision-{revision.pk}",
            responses=[texts[pk] for pk in order],
            ranks=[ranks.get(pk) for pk in order],
            **shared,
        )
    for edit in sorted(revision.edits.all(), key=lambda e: e.completion_id):
        yield Ranking(
            row_id=f"revision-{revision.pk}-edit-{edit.completion_id}",
            responses=[edit.edited.text, texts[edit.completion_id]],
            ranks=[1, 2],
            **shared,
        )


def _chunks(ids: Iterable[int]) -> Iterator[list[int]]:
    ordered = list(ids)
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]
