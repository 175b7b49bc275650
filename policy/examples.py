"""Answers to imitate, from a run's parquet file: checked, tokenised and mixed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch

from policy.methods import EXAMPLE_COLUMNS, EXAMPLES_FILE, OPTIONAL_EXAMPLE_COLUMNS, Source
from rewardmodel.chat import Answer, tokenize_answer
from rewardmodel.contract import JobError
from rewardmodel.tables import read_rows

ORIGINAL = "demonstration"
"""The source that is original data; all others are new."""


@dataclass(frozen=True)
class Example:
    """An answer to imitate, as token ids."""

    row_id: str
    answer: Answer
    weight: float
    """Of its tokens in the loss."""
    source: str

    @property
    def tokens(self) -> int:
        """Tokens of prompt and answer."""
        return len(self.answer.prompt) + len(self.answer.response)


@dataclass(frozen=True)
class Examples:
    """A run's examples by split; those of test prompts are left out."""

    train: list[Example]
    dev: list[Example]
    counts: dict[str, int] = field(default_factory=dict)
    """Rows by source, and rows left out by reason."""


def read_examples(run_path: Path, tokenizer: Any, max_tokens: int) -> Examples:
    """Read and check ``data/examples.parquet`` of a run directory.

    Answers that were cut off are left out and counted: their tokens would be followed by an end that was not theirs.

    :param max_tokens: longest prompt plus answer; rows that are longer are left out and counted.
    :raises JobError: naming the row and what is wrong with it, or that nothing is left to learn from.
    """
    splits: dict[str, list[Example]] = {"train": [], "dev": [], "test": []}
    counts = dict.fromkeys(get_args(Source), 0) | {"too_long": 0, "cut_off": 0}
    rows = read_rows(
        run_path / EXAMPLES_FILE,
        EXAMPLE_COLUMNS,
        optional=OPTIONAL_EXAMPLE_COLUMNS,
        without="there is nothing to imitate",
    )
    for number, row in enumerate(rows):
        _check_row(row, splits, f"Row {number} of {EXAMPLES_FILE} ({row['row_id']})")
        if row.get("cut_off"):
            counts["cut_off"] += 1
            continue
        answer = tokenize_answer(tokenizer, row["messages"], row["response"], max_tokens)
        if answer.prompt_cut or answer.response_cut:
            counts["too_long"] += 1
            continue
        splits[row["split"]].append(Example(row["row_id"], answer, row["weight"], row["source"]))
    for example in splits["train"]:
        counts[example.source] += 1
    if not splits["train"]:
        raise JobError(
            f"{EXAMPLES_FILE} holds no whole answer to a training prompt that fits {max_tokens} tokens, so there is "
            f"nothing to imitate; of its {len(rows)} rows {counts['too_long']} are longer, and {counts['cut_off']} "
            "were cut off before their end."
        )
    return Examples(splits["train"], splits["dev"], counts)


def mixed(examples: Sequence[Example], original_share: float | None, seed: int) -> list[Example]:
    """The training rows with a share of original data beside all new data.

    Original rows are drawn without replacement; once all are drawn, the draw begins again.

    :param original_share: from 0 to below 1; None takes every row once.
    :raises JobError: when one of the two kinds is missing.
    """
    if original_share is None:
        return list(examples)
    original = [example for example in examples if example.source == ORIGINAL]
    new = [example for example in examples if example.source != ORIGINAL]
    if not new:
        raise JobError("There are no edits and no preferred answers, so original_share cannot be kept: leave it out.")
    wanted = round(len(new) * original_share / (1 - original_share))
    if wanted and not original:
        raise JobError("There are no demonstrations, so original_share cannot be kept: set it to 0 or import some.")
    generator = torch.Generator().manual_seed(seed)
    drawn: list[Example] = []
    while len(drawn) < wanted:
        drawn += [original[index] for index in torch.randperm(len(original), generator=generator).tolist()]
    return new + drawn[:wanted]


def _check_row(row: dict[str, Any], splits: dict[str, list[Example]], place: str) -> None:
    for name in EXAMPLE_COLUMNS:
        if row[name] is None:
            raise JobError(f"{place} has no {name}.")
    if row["split"] not in splits:
        raise JobError(f"{place} has the split {row['split']!r}; it must be train, dev or test.")
    if row["source"] not in get_args(Source):
        raise JobError(f"{place} has the source {row['source']!r}; it must be one of {', '.join(get_args(Source))}.")
    if not 0 < row["weight"] < math.inf:
        raise JobError(f"{place} has the weight {row['weight']}; it must be a number above 0.")
    if any(not message or message["role"] is None or message["content"] is None for message in row["messages"]):
        raise JobError(f"{place} has a message without role or content.")
