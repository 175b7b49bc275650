"""What is counted of a snapshot as it is frozen: rows, sources, agreement, and the biases that are known to matter."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

from annotate.formats.writing.ranking import Ranking
from annotate.models import JudgementRevision, Snapshot
from annotate.services.aggregation import order_of
from annotate.services.guidelines import to_be_read, version_in_force
from annotate.services.recipe import Recipe
from annotate.services.rows import by_item
from annotate.stats.agreement import agreement
from annotate.stats.intervals import clustered_share


class Statistics:
    """Counts over rankings, taken as they go by."""

    def __init__(self) -> None:
        self.pairs = 0
        """Untied pairs."""
        self.demonstrations = 0
        self._rows: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._guidelines: Counter[str] = Counter()
        self._raters: dict[str, set[int]] = {}
        self._longer = self._unequal = self._first = self._shown = 0
        self._characters = self._answers = 0

    def add(self, ranking: Ranking) -> None:
        """Count a ranking, or an answer to imitate, of which there is nothing else to say."""
        self._kinds[ranking.kind] += 1
        self._sources[ranking.source] += 1
        if ranking.kind == "demonstration":
            self.demonstrations += 1
            self._rows[f"demonstrations_{ranking.split}"] += 1
            return
        lengths = [len(text) for text in ranking.responses]
        shown = ranking.provenance.get("shown") or []
        pairs = 0
        for better, worse in ranking.places():
            pairs += 1
            self._unequal += lengths[better] != lengths[worse]
            self._longer += lengths[better] > lengths[worse]
            if shown and None not in (shown[better], shown[worse]):
                self._shown += 1
                self._first += shown[better] < shown[worse]
        self.pairs += pairs
        self._rows[f"rankings_{ranking.split}"] += 1
        self._rows[f"pairs_{ranking.split}"] += pairs
        self._characters += sum(lengths)
        self._answers += len(lengths)
        if "raters" in ranking.provenance:
            self._raters.setdefault(ranking.origin, set()).update(ranking.provenance["raters"])
            self._guidelines.update(str(number) for number in ranking.provenance["guidelines"])

    def counts(self) -> dict[str, Any]:
        """The figures, as a snapshot keeps them."""
        return {
            **self._rows,
            "kinds": dict(sorted(self._kinds.items())),
            "sources": dict(sorted(self._sources.items())),
            "raters": {kind: len(raters) for kind, raters in sorted(self._raters.items())},
            "guidelines": dict(sorted(self._guidelines.items(), key=lambda entry: int(entry[0]))),
            "longer_preferred": {"share": _share(self._longer, self._unequal), "pairs": self._unequal},
            "first_preferred": {"share": _share(self._first, self._shown), "pairs": self._shown},
            "mean_characters": _share(self._characters, self._answers),
        }


def agreement_within(snapshot: Snapshot, recipe: Recipe) -> dict[str, Any]:
    """Mean agreement of two raters on an item that both judged under the same instructions.

    :returns: the ``mean`` over such ``pairs`` of judgements, its 95 % ``interval`` over their ``items``, None where
        there are fewer than two, and how many pairs are left ``apart``, since the instructions had changed.
    """
    values: list[float] = []
    items: list[int] = []
    apart, versions = 0, to_be_read(snapshot.project)
    revisions = JudgementRevision.objects.filter(snapshotrevision__snapshot=snapshot)
    for all_said in by_item(revisions, recipe, Counter()):
        for first, second in combinations(all_said, 2):
            under, before = (version_in_force(said.revision.guideline, versions) for said in (first, second))
            if under != before:
                apart += 1
                continue
            answers = sorted(first.answers)
            rows = [[float(order_of(said).get(pk, "nan")) for pk in answers] for said in (first, second)]
            if (value := agreement(*rows)) is not None:
                values.append(value)
                items.append(first.revision.judgement.item_id)
    found = clustered_share(values, items)
    return {
        "mean": found.value,
        "interval": found.interval,
        "pairs": len(values),
        "items": len(set(items)),
        "apart": apart,
    }


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None
