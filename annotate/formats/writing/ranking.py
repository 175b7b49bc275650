"""What every form is written from: answers to one prompt in somebody's order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Messages = list[dict[str, str]]
Kind = Literal["order", "edit", "norm", "both bad", "comparison", "ranked", "demonstration"]


@dataclass(frozen=True)
class Ranking:
    """Answers to one prompt in an order, ties and unranked answers included, with where it comes from."""

    row_id: str
    prompt_id: str
    split: str
    messages: Messages
    responses: list[str]
    ranks: list[int | None]
    """1 is best, equals are a tie, None is unranked."""
    weight: float = 1.0
    kind: Kind = "order"
    """What it was made from: ranks or scores, an edit, verdicts on a norm, an answer that all are bad, an imported pair
    or ranking, or an imported answer to imitate, which stands alone."""
    origin: str = "human"
    """Who judged: human, simulated or ai, or *imported* for pairs that came without a rater."""
    source: str = "human"
    """The origin, or the name under which a pair was imported."""
    strength: float | None = None
    """By how much the better one is better, in the source's own unit."""
    models: list[str] = field(default_factory=list)
    """What wrote each answer."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Numbers of the records that it was made from."""
    scores: list[float] = field(default_factory=list)
    """Of each answer, where the source gives them; more is better."""

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Each untied pair of ranked answers, the better one first."""
        for better, worse in self.places():
            yield self.responses[better], self.responses[worse]

    def places(self) -> Iterator[tuple[int, int]]:
        """Each untied pair of ranked, different answers by their places in `responses`, the better one first."""
        for better, upper in enumerate(self.ranks):
            for worse, lower in enumerate(self.ranks):
                if upper is None or lower is None or upper >= lower:
                    continue
                if self.responses[better] != self.responses[worse]:
                    yield better, worse

    def strength_of(self, better: int, worse: int) -> float | None:
        """How much better one answer is than another, in the source's own unit.

        :param better, worse: places in `responses`.
        """
        return self.scores[better] - self.scores[worse] if self.scores else self.strength

    def to_imitate(self) -> list[str]:
        """The answers that are good by themselves."""
        return [self.responses[place] for place in self.places_to_imitate()]

    def places_to_imitate(self) -> list[int]:
        """Their places in `responses`."""
        if self.kind == "demonstration":
            return list(range(len(self.responses)))
        return [place for place, label in enumerate(self.labels()) if label]

    def in_order(self) -> list[tuple[int | None, str]]:
        """The answers with their ranks, the best first and the unranked last."""
        ranked = zip(self.ranks, self.responses, strict=True)
        return sorted(ranked, key=lambda answer: (answer[0] is None, answer[0] or 0))

    def labels(self) -> list[bool | None]:
        """Whether each answer is good by itself: above another and below none; None where nothing says so.

        Where all are bad, each is bad.
        """
        if self.kind == "both bad":
            return [False] * len(self.responses)
        ranked = [rank for rank in self.ranks if rank is not None]
        if len(set(ranked)) < 2:
            return [None] * len(self.responses)
        best, worst = min(ranked), max(ranked)
        return [True if rank == best else False if rank == worst else None for rank in self.ranks]
