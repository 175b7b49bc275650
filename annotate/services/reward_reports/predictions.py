"""What a reward model said of the answers of dev and test when its training ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow.parquet as pq

from annotate.models import Run
from annotate.services.files import run_folder
from rewardmodel.contract import PREDICTIONS_FILE

COLUMNS = ["row_id", "prompt_id", "split", "rank", "score", "members", "characters"]


@dataclass
class Predicted:
    """A ranking of dev or test as the model scored it."""

    prompt: str
    split: str
    ranks: list[int | None] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    members: list[list[float]] = field(default_factory=list)
    """Each answer's score by each member of an ensemble."""
    characters: list[int] = field(default_factory=list)

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Places of the answers of each pair of which one is preferred, that one first."""
        for better, upper in enumerate(self.ranks):
            for worse, lower in enumerate(self.ranks):
                if upper is not None and lower is not None and upper < lower:
                    yield better, worse

    def margins(self) -> Iterator[float]:
        """The score of the preferred answer less that of the other, of each such pair."""
        for better, worse in self.pairs():
            yield self.scores[better] - self.scores[worse]

    def margins_of_members(self) -> Iterator[list[float]]:
        """The same by each member of an ensemble."""
        for better, worse in self.pairs():
            yield [upper - lower for upper, lower in zip(self.members[better], self.members[worse], strict=True)]

    def labelled(self) -> Iterator[tuple[float, bool]]:
        """Scores of the answers in the first and in the last place, and whether it is the first; none of a tie."""
        places = {rank for rank in self.ranks if rank is not None}
        if len(places) > 1:
            for rank, score in zip(self.ranks, self.scores, strict=True):
                if rank in (min(places), max(places)):
                    yield score, rank == min(places)


def read(run: Run) -> dict[str, Predicted] | None:
    """Predictions of the model that a run trained, by row; None where they are not on this machine."""
    path = run_folder(run) / PREDICTIONS_FILE
    if not path.is_file():
        return None
    found: dict[str, Predicted] = {}
    for batch in pq.ParquetFile(path).iter_batches(columns=COLUMNS):
        for row in batch.to_pylist():
            ranking = found.setdefault(row["row_id"], Predicted(row["prompt_id"], row["split"]))
            ranking.ranks.append(row["rank"])
            ranking.scores.append(row["score"])
            ranking.members.append(row["members"])
            ranking.characters.append(row["characters"])
    return found


def margins_of(rankings: Iterable[Predicted]) -> tuple[list[float], list[str]]:
    """Score differences of all preferred pairs, and the prompt of each."""
    margins, prompts = [], []
    for ranking in rankings:
        own = list(ranking.margins())
        margins += own
        prompts += [ranking.prompt] * len(own)
    return margins, prompts
