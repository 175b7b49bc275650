"""Rankings from a run's parquet file: checked and tokenised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rewardmodel.chat import Answer, tokenize_answer
from rewardmodel.contract import OPTIONAL_RANKING_COLUMNS, RANKING_COLUMNS, RANKINGS_FILE, JobError
from rewardmodel.losses import Objective, preferred_pairs
from rewardmodel.tables import read_rows

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Ranking:
    """One rater's order of the answers to one prompt, as token ids."""

    row_id: str
    prompt_id: str
    answers: tuple[Answer, ...]
    ranks: Tensor
    """[K] int64: 1 is best, equal numbers are a tie, 0 is unranked."""
    weight: float
    """Weight of the row in the loss."""
    characters: tuple[int, ...]
    """Length of each answer's text."""
    ratings: Tensor
    """[K] float64: absolute scores with mean 0 and deviation 1 over the training rows, NaN where there is none."""
    margin: float = 0.0
    """By how much the preferred answer's score should be ahead."""
    cut_off: tuple[bool, ...] = ()
    """Whether each answer was cut off before its end; empty where that is not known."""

    @property
    def tokens(self) -> int:
        """Tokens of the answers and of one prompt."""
        return max(len(a.prompt) for a in self.answers) + sum(len(a.response) for a in self.answers)


@dataclass(frozen=True)
class Rankings:
    """A run's rankings by split, with what was left out of them."""

    train: list[Ranking]
    dev: list[Ranking]
    test: list[Ranking]
    counts: dict[str, int]
    """Rows left out and answers cut, by reason."""


def read_rankings(run_path: Path, tokenizer: Any, max_tokens: int, objective: Objective | None = None) -> Rankings:
    """Read and check ``data/rankings.parquet`` of a run directory.

    Rows that say nothing to the objective (all ties, or fewer than two answers ranked, and no ratings
    that it wants) or weigh nothing are left out and counted.

    :param max_tokens: longest prompt plus answer; longer prompts lose their beginning.
    :param objective: what training minimises; ListMLE when None.
    :raises JobError: naming the row and what is wrong with it, or that nothing is left to train on.
    """
    objective = objective or Objective()
    splits: dict[str, list[Ranking]] = {split: [] for split in SPLITS}
    counts = {"without_preference": 0, "without_weight": 0, "prompts_cut": 0, "answers_cut": 0}
    split_of: dict[str, str] = {}
    rows = read_rows(
        run_path / RANKINGS_FILE,
        RANKING_COLUMNS,
        optional=OPTIONAL_RANKING_COLUMNS,
        without="a reward model needs rankings to learn from",
    )
    for number, row in enumerate(rows):
        _check_row(row, f"Row {number} of {RANKINGS_FILE} ({row['row_id']})")
        known = split_of.setdefault(row["prompt_id"], row["split"])
        if known != row["split"]:
            raise JobError(
                f"Prompt {row['prompt_id']} is in the splits {known} and {row['split']} of {RANKINGS_FILE}; "
                "a prompt must lie in one split only."
            )
        ranks, ratings = _ranks(row), _ratings(row)
        if not objective.learns_from(ranks, ratings):
            counts["without_preference"] += 1
        elif row["weight"] == 0:
            counts["without_weight"] += 1
        else:
            ranking = _tokenize(row, tokenizer, max_tokens, ranks, ratings)
            counts["prompts_cut"] += any(answer.prompt_cut for answer in ranking.answers)
            counts["answers_cut"] += sum(answer.response_cut > 0 for answer in ranking.answers)
            splits[row["split"]].append(ranking)
    if not splits["train"]:
        raise JobError(_why_nothing_to_train(rows, counts))
    mean, deviation = _check_training_rows(splits["train"], objective)
    for split, found in splits.items():
        splits[split] = [replace(ranking, ratings=(ranking.ratings - mean) / deviation) for ranking in found]
    return Rankings(splits["train"], splits["dev"], splits["test"], counts)


def _check_training_rows(rankings: Sequence[Ranking], objective: Objective) -> tuple[float, float]:
    """Refuse rows that all say the same.

    :returns: mean and standard deviation of the ratings.
    :raises JobError: when no answer is preferred, or all ratings are equal, and the objective learns from nothing else.
    """
    ratings = torch.cat([ranking.ratings for ranking in rankings])
    rated = ratings[~ratings.isnan()]
    deviation = rated.std(correction=0).item() if len(rated) else 0.0
    if objective.regression_weight > 0 and deviation == 0:
        raise JobError(
            f"The {len(rated)} ratings of train answers in {RANKINGS_FILE} are all equal, so there is nothing to learn "
            "from them: collect others, or set regression_weight to 0."
        )
    if objective.regression_weight == 0 and not any(len(preferred_pairs(ranking.ranks)[0]) for ranking in rankings):
        raise JobError(
            f"All {len(rankings)} train rankings in {RANKINGS_FILE} are ties, so there is nothing to learn from them."
        )
    return (rated.mean().item(), deviation) if deviation > 0 else (0.0, 1.0)


def _check_row(row: dict[str, Any], place: str) -> None:
    for name in RANKING_COLUMNS:
        if row[name] is None:
            raise JobError(f"{place} has no {name}.")
    if row["split"] not in SPLITS:
        raise JobError(f"{place} has the split {row['split']!r}; it must be train, dev or test.")
    if len(row["responses"]) < 2:
        raise JobError(f"{place} has fewer than 2 responses, so it ranks nothing.")
    if len(row["ranks"]) != len(row["responses"]):
        raise JobError(f"{place} has {len(row['responses'])} responses but {len(row['ranks'])} ranks.")
    if any(text is None for text in row["responses"]):
        raise JobError(f"{place} has a response without text.")
    if any(rank is not None and rank < 1 for rank in row["ranks"]):
        raise JobError(f"{place} has a rank below 1; 1 is best and null is unranked.")
    if not (math.isfinite(row["weight"]) and row["weight"] >= 0):
        raise JobError(f"{place} has the weight {row['weight']}; it must be a number of at least 0.")
    if any(not message or message["role"] is None or message["content"] is None for message in row["messages"]):
        raise JobError(f"{place} has a message without role or content.")
    if not 0 <= (row.get("margin") or 0.0) < math.inf:
        raise JobError(f"{place} has the margin {row['margin']}; it must be a number of at least 0.")
    ratings = row.get("ratings")
    if ratings is not None and len(ratings) != len(row["responses"]):
        raise JobError(f"{place} has {len(row['responses'])} responses but {len(ratings)} ratings.")
    cut_off = row.get("cut_off")
    if cut_off is not None and len(cut_off) != len(row["responses"]):
        raise JobError(
            f"{place} has {len(row['responses'])} responses but says of {len(cut_off)} if they were cut off."
        )
    if any(rating is not None and not math.isfinite(rating) for rating in ratings or ()):
        raise JobError(f"{place} has a rating that is no number; null is for answers without one.")


def _ranks(row: dict[str, Any]) -> Tensor:
    return torch.tensor([rank or 0 for rank in row["ranks"]])


def _ratings(row: dict[str, Any]) -> Tensor:
    ratings = row.get("ratings") or [None] * len(row["responses"])
    return torch.tensor([math.nan if rating is None else rating for rating in ratings], dtype=torch.float64)


def _why_nothing_to_train(rows: Sequence[dict[str, Any]], counts: dict[str, int]) -> str:
    if not rows:
        return f"{RANKINGS_FILE} holds no rankings; a reward model needs some to learn from."
    train = sum(row["split"] == "train" for row in rows)
    if not train:
        return f"{RANKINGS_FILE} holds {len(rows)} rankings but none in the train split."
    return (
        f"None of the {train} train rankings in {RANKINGS_FILE} prefers one answer to another with a weight above 0: "
        f"in all splits, {counts['without_preference']} say nothing to this loss (ties, say) and "
        f"{counts['without_weight']} weigh 0."
    )


def _tokenize(row: dict[str, Any], tokenizer: Any, max_tokens: int, ranks: Tensor, ratings: Tensor) -> Ranking:
    return Ranking(
        row_id=row["row_id"],
        prompt_id=row["prompt_id"],
        answers=tuple(tokenize_answer(tokenizer, row["messages"], text, max_tokens) for text in row["responses"]),
        ranks=ranks,
        weight=row["weight"],
        characters=tuple(map(len, row["responses"])),
        ratings=ratings,
        margin=row.get("margin") or 0.0,
        cut_off=tuple(map(bool, row.get("cut_off") or ())),
    )
