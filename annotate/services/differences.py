"""How one snapshot differs from another: in what they list, and in their recipes. Counted inside the database."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

from django.db import connection

from annotate.models import Comparison, Judgement, Snapshot
from annotate.services.recipe import recipe_of

SAMPLE = 5
"""Records of each kind that are shown."""

JUDGEMENTS = """
SELECT judgement, min(old) AS old, min(new) AS new FROM (
    SELECT r.judgement_id AS judgement, e.revision_id AS old, NULL::bigint AS new
    FROM annotate_snapshotrevision e JOIN annotate_judgementrevision r ON r.id = e.revision_id
    WHERE e.snapshot_id = %(old)s
    UNION ALL
    SELECT r.judgement_id, NULL, e.revision_id
    FROM annotate_snapshotrevision e JOIN annotate_judgementrevision r ON r.id = e.revision_id
    WHERE e.snapshot_id = %(new)s
) listed GROUP BY judgement
"""
IMPORTED = """
SELECT {column}_id AS {column}, bool_or(snapshot_id = %(old)s) AS old, bool_or(snapshot_id = %(new)s) AS new
FROM annotate_snapshot{table} WHERE snapshot_id IN (%(old)s, %(new)s) GROUP BY {column}_id
"""


@dataclass(frozen=True)
class Difference:
    """What a later snapshot has otherwise than an earlier one."""

    judgements: dict[str, int]
    """How many were added, removed and changed, which is that another version is listed, and how many are the same."""
    comparisons: dict[str, int]
    """The same of imported pairs, which never change."""
    ranked_lists: dict[str, int]
    demonstrations: dict[str, int]
    judgement_samples: dict[str, list[Judgement]]
    comparison_samples: dict[str, list[Comparison]]
    recipe: list[tuple[str, Any, Any]]
    """Fields in which the recipes differ, with the value of each."""

    @property
    def is_empty(self) -> bool:
        """Whether both list the same."""
        listed = (self.judgements, self.comparisons, self.ranked_lists, self.demonstrations)
        return not any(count for counts in listed for name, count in counts.items() if name != "same")


def difference(old: Snapshot, new: Snapshot) -> Difference:
    """Compare two snapshots of one project."""
    changes = {
        "added": "old IS NULL",
        "removed": "new IS NULL",
        "changed": "old <> new",
        "same": "old = new",
    }
    judgements, judgement_ids = _counted(JUDGEMENTS, "judgement", changes, old, new)
    changes = {"added": "NOT old", "removed": "NOT new", "same": "old AND new"}
    comparisons, comparison_ids = _imported("comparison", changes, old, new)
    ranked_lists, _ids = _imported("ranked_list", changes, old, new)
    demonstrations, _ids = _imported("demonstration", changes, old, new)
    judged = Judgement.objects.select_related("item__prompt", "rater").in_bulk(list(chain(*judgement_ids.values())))
    compared = Comparison.objects.select_related("prompt").in_bulk(list(chain(*comparison_ids.values())))
    before, after = (vars(recipe_of(snapshot.recipe)[0]) for snapshot in (old, new))
    return Difference(
        judgements,
        comparisons,
        ranked_lists,
        demonstrations,
        {name: [judged[pk] for pk in ids] for name, ids in judgement_ids.items()},
        {name: [compared[pk] for pk in ids] for name, ids in comparison_ids.items()},
        [(name, before[name], after[name]) for name in before if before[name] != after[name]],
    )


def _imported(
    column: str, changes: dict[str, str], old: Snapshot, new: Snapshot
) -> tuple[dict[str, int], dict[str, list[int]]]:
    listed = IMPORTED.format(column=column, table=column.replace("_", ""))
    return _counted(listed, column, changes, old, new)


def _counted(
    listed: str, key: str, changes: dict[str, str], old: Snapshot, new: Snapshot
) -> tuple[dict[str, int], dict[str, list[int]]]:
    """How many of each change there are, and the first few of each but what is the same."""
    columns = ", ".join(
        f"count(*) FILTER (WHERE {condition}), (array_agg({key} ORDER BY {key}) FILTER (WHERE {condition}))[:{SAMPLE}]"
        for condition in changes.values()
    )
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns} FROM ({listed}) AS compared", {"old": old.pk, "new": new.pk})
        found = cursor.fetchone()
    counts = dict(zip(changes, found[::2], strict=True))
    samples = {name: ids or [] for name, ids in zip(changes, found[1::2], strict=True) if name != "same"}
    return counts, samples
