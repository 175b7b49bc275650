"""Snapshots: judgements and imported data frozen into rankings that training and exports read.

A snapshot lists what it was made from, is named by the SHA-256 of its rankings, and gives the same rankings whenever
they are made again from the list (:mod:`annotate.services.rows`).
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from django.core.exceptions import EmptyResultSet
from django.db import connection, transaction
from django.db.models import Model, QuerySet
from django.utils.translation import gettext as _

from annotate.formats.writing.ranking import Ranking
from annotate.models import (
    JudgementRevision,
    Project,
    Prompt,
    Snapshot,
    SnapshotComparison,
    SnapshotDemonstration,
    SnapshotRankedList,
    SnapshotRevision,
    Split,
    User,
)
from annotate.services import Refused, audit
from annotate.services.heartbeat import OnProgress
from annotate.services.recipe import Recipe, recipe_of, stored_recipe
from annotate.services.rows import rankings
from annotate.services.selection import select
from annotate.services.statistics import Statistics, agreement_within

LONGEST_NAME = 80
"""Characters."""
AT_ONCE = 20_000
"""Comparisons that the request which asks for them also reads; more are a worker's."""
AN_ORDER = 10
"""Times as long as a comparison that a judgement or a ranking takes."""
FIRST_FORM = ("row_id", "prompt_id", "split", "messages", "responses", "ranks", "weight")
"""Fields that the hash of snapshots of the first form is taken over."""

Records = QuerySet[Any, Any]


class _Known(Exception):
    """Takes a snapshot back whose content an earlier one has."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot


def create_snapshot(
    *,
    project: Project,
    actor: User | None,
    name: str = "",
    recipe: Recipe | None = None,
    on_progress: OnProgress | None = None,
) -> Snapshot:
    """Freeze what a recipe takes of the project as it is now.

    Equal content makes no second snapshot: the earlier one is returned.

    :param name: free text; the next of v1, v2, … when empty.
    :param recipe: people's judgements and all imported data unless asked otherwise.
    :raises Refused: when there is nothing to learn from, or the name is taken or will not do.
    """
    recipe = recipe or Recipe()
    check_name(name)
    with transaction.atomic():
        # Raters' answers, which refer to the project, need not wait for this lock.
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        try:
            with transaction.atomic():
                snapshot = _frozen(project, actor, name, recipe, on_progress or (lambda stage, done, total: None))
        except _Known as known:
            return known.snapshot
        audit.record("froze", snapshot, actor=actor, project=project, sha256=snapshot.sha256)
    return snapshot


def check_name(name: str) -> None:
    """See that a snapshot can have a name.

    :raises Refused: when it cannot.
    """
    if len(name) > LONGEST_NAME or "\x00" in name:
        raise Refused(_("A snapshot's name has at most %(most)d characters.") % {"most": LONGEST_NAME}, place="name")


def is_short(*, orders: Sequence[Records], others: Sequence[Records]) -> bool:
    """Whether so many records are read while somebody waits.

    :param orders: judgements and rankings, which take their time.
    """
    count = sum(records[: AT_ONCE + 1].count() for records in others)
    return count + AN_ORDER * sum(records[: AT_ONCE + 1].count() for records in orders) <= AT_ONCE


def is_quick(project: Project) -> bool:
    """Whether a snapshot of a project is frozen while somebody waits."""
    revisions = JudgementRevision.objects.filter(judgement__slot__project=project)
    return is_short(
        orders=[revisions, project.ranked_lists.all()],
        others=[project.comparisons.all(), project.demonstrations.all()],
    )


def canonical_line(ranking: Ranking, form: int) -> bytes:
    """The bytes of a ranking that a snapshot's hash is taken over.

    :param form: version of the snapshot's rows.
    """
    if form == 1:
        fields = {name: value for name, value in asdict(ranking).items() if name in FIRST_FORM}
        return (json.dumps(fields, ensure_ascii=False, sort_keys=True) + "\n").encode()
    fields = vars(ranking) if form >= 3 else {name: value for name, value in vars(ranking).items() if name != "scores"}
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


@dataclass(frozen=True)
class SplitCounts:
    """How much a snapshot holds of one split."""

    split: Split
    prompts: int
    rankings: int
    pairs: int
    demonstrations: int


def splits_of(snapshot: Snapshot) -> list[SplitCounts]:
    """What a snapshot holds, split by split."""
    counts = snapshot.counts
    return [
        SplitCounts(
            split, *(counts.get(f"{what}_{split}", 0) for what in ("prompts", "rankings", "pairs", "demonstrations"))
        )
        for split in Split
    ]


def content_sha256(snapshot: Snapshot) -> str:
    """The hash of a snapshot's rankings, made again from what it lists."""
    _recipe, form = recipe_of(snapshot.recipe)
    digest = hashlib.sha256()
    for ranking in rankings(snapshot):
        digest.update(canonical_line(ranking, form))
    return digest.hexdigest()


def _frozen(project: Project, actor: User | None, name: str, recipe: Recipe, on_progress: OnProgress) -> Snapshot:
    """List what the recipe takes, make the rankings of that list, and close the snapshot with their hash."""
    on_progress("choosing", 0, 0)
    chosen = select(project, recipe)
    snapshot = Snapshot.objects.create(
        project=project,
        name=secrets.token_hex(16),
        sha256="",
        recipe=stored_recipe(recipe),
        counts={},
        created_by=actor,
    )
    _list(SnapshotRevision, snapshot, "revision_id", chosen.revisions)
    _list(SnapshotComparison, snapshot, "comparison_id", chosen.comparisons)
    _list(SnapshotRankedList, snapshot, "ranked_list_id", chosen.ranked_lists)
    _list(SnapshotDemonstration, snapshot, "demonstration_id", chosen.demonstrations)
    _recipe, form = recipe_of(snapshot.recipe)
    digest, statistics, left_out = hashlib.sha256(), Statistics(), Counter[str]()
    read, entries = 0, sum(chosen.by_source.values())

    def on_read(more: int) -> None:
        nonlocal read
        read += more
        on_progress("freezing", read, entries)

    on_progress("freezing", 0, entries)
    for ranking in rankings(snapshot, left_out, on_read):
        digest.update(canonical_line(ranking, form))
        statistics.add(ranking)
    if not statistics.pairs and not statistics.demonstrations:
        raise Refused(
            _("There are no comparisons yet: rate some items, giving different ranks or scores, and try again.")
        )
    sha256 = digest.hexdigest()
    existing = project.snapshots.filter(sha256=sha256).first()
    if existing is not None:
        raise _Known(existing)
    name = name or f"v{project.snapshots.count()}"  # this one is counted
    if project.snapshots.filter(name=name).exists():
        raise Refused(_("There is a snapshot %(name)s already.") % {"name": name}, place="name")
    snapshot.counts = {
        **statistics.counts(),
        **_prompts(snapshot),
        "left_out": [
            *({"what": one.what, "reason": one.reason, "count": one.count} for one in chosen.left_out),
            *({"what": "answers", "reason": why, "count": count} for why, count in sorted(left_out.items())),
        ],
        "entries": chosen.by_source,
        "agreement": agreement_within(snapshot, recipe),
    }
    snapshot.name, snapshot.sha256 = name, sha256
    snapshot.save(update_fields=["name", "sha256", "counts"])
    return snapshot


def _list(through: type[Model], snapshot: Snapshot, column: str, records: QuerySet[Any]) -> None:
    """Enter records into a snapshot's list, inside the database."""
    try:
        sql, parameters = records.order_by("pk").values("pk").query.sql_with_params()
    except EmptyResultSet:  # Django sees that nothing can be found
        return
    table = through._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (snapshot_id, {column}) SELECT %s, chosen.id FROM ({sql}) AS chosen(id)",
            [snapshot.pk, *parameters],
        )


def _prompts(snapshot: Snapshot) -> dict[str, int]:
    """Prompts by split."""
    found = [
        Prompt.objects.filter(**{f"{path}__snapshot": snapshot}).order_by().values_list("pk", "split")
        for path in (
            "items__judgements__revisions__snapshotrevision",
            "comparisons__snapshotcomparison",
            "ranked_lists__snapshotrankedlist",
            "completions__demonstration__snapshotdemonstration",
        )
    ]
    sql, parameters = found[0].union(*found[1:]).query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT split, count(*) FROM ({sql}) AS found(id, split) GROUP BY split", parameters)
        return {f"prompts_{split}": count for split, count in cursor.fetchall()}
