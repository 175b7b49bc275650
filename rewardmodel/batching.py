"""How answers become batches: a prompt shared by several answers is encoded once.

A row holds one prompt and one or more of its answers, ``[prompt | answer A | answer B …]``. Each
answer sees the prompt and itself, and its positions go on from the prompt's end, so a decoder's
states are those of separate rows. Rows lie end to end in one long row (:func:`flatten`) or are padded
on the right (:func:`collate`); which token is an answer's last follows from lengths, never from the
padding id, because a model may pad with its end token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rewardmodel.chat import Answer

PADDING = -1
PROMPT = 0


@dataclass(frozen=True)
class Row:
    """One prompt with some of its answers."""

    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]
    places: tuple[int, ...]
    """Where each answer stands in the list that was packed."""

    @property
    def tokens(self) -> int:
        """Tokens in the row, without padding."""
        return len(self.prompt) + sum(map(len, self.responses))


@dataclass(frozen=True)
class Batch:
    """Rows as tensors, right-padded to the longest, L."""

    input_ids: Tensor
    """[rows, L] int64."""
    position_ids: Tensor
    """[rows, L] int64: distance from the start of the prompt."""
    segments: Tensor
    """[rows, L] int64: 0 for the prompt, 1, 2, … for its answers, -1 for padding."""
    last_row: Tensor
    """[answers] int64: the row of each answer's last token."""
    last_column: Tensor
    """[answers] int64: the column of each answer's last token."""


def pack(answers: Sequence[Answer], share_prompts: bool, max_row_tokens: int) -> list[Row]:
    """Lay answers into rows, those to the same prompt together.

    :param share_prompts: False gives every answer a row of its own.
    :param max_row_tokens: a row takes no further answer that would make it longer.
    :returns: rows whose ``places`` are a permutation of ``range(len(answers))``.
    """
    rows: list[Row] = []
    open_rows: dict[tuple[int, ...], int] = {}
    for place, answer in enumerate(answers):
        index = open_rows.get(answer.prompt) if share_prompts else None
        if index is not None and rows[index].tokens + len(answer.response) <= max_row_tokens:
            row = rows[index]
            rows[index] = Row(row.prompt, (*row.responses, answer.response), (*row.places, place))
        else:
            open_rows[answer.prompt] = len(rows)
            rows.append(Row(answer.prompt, (answer.response,), (place,)))
    return rows


def split_by_tokens(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Cut items into groups of like size that stay within a budget when padded to their longest.

    :param sizes: tokens of each item; an item larger than the budget becomes a group of its own.
    :param budget: most tokens of a group, padding included.
    :returns: groups of indices, largest items first, so that a lack of memory shows at once.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        if groups and sizes[groups[-1][0]] * (len(groups[-1]) + 1) <= budget:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def split_evenly(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Cut items into as few groups as keep within a budget without padding, of sums as equal as may be.

    The largest item left goes to the lightest group (Graham 1969, longest processing time first).

    :param sizes: tokens of each item; an item larger than the budget becomes a group of its own.
    :param budget: most tokens of a group.
    :returns: groups of indices, none empty.
    """
    fewest = max(1, math.ceil(sum(min(size, budget) for size in sizes) / budget))
    for count in range(fewest, len(sizes) + 1):
        groups: list[list[int]] = [[] for _group in range(count)]
        sums = [0] * count
        for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
            lightest = sums.index(min(sums))
            groups[lightest].append(index)
            sums[lightest] += sizes[index]
        if all(total <= budget or len(group) == 1 for total, group in zip(sums, groups, strict=True)):
            return [group for group in groups if group]
    return [[index] for index in range(len(sizes))]


@dataclass(frozen=True)
class Flat:
    """Rows end to end, N tokens in all, after what all their prompts begin with."""

    input_ids: Tensor
    """[1, N] int64."""
    position_ids: Tensor
    """[1, N] int64: distance from the start of the own prompt."""
    last: Tensor
    """[answers] int64: the place of each answer's last token."""
    common: int
    """Tokens that all prompts begin with; they lie there once."""
    sizes: tuple[tuple[int, ...], ...]
    """Of each row the tokens of the rest of the prompt, then of each answer."""


def flatten(rows: Sequence[Row], longest_sharing: int, device: torch.device) -> Flat:
    """Lay rows end to end and note where each answer ends.

    :param longest_sharing: where a row has more tokens, nothing is taken out before the rows.
    """
    shared = len(rows) > 1 and max(row.tokens for row in rows) <= longest_sharing
    common = _common_beginning([row.prompt for row in rows]) if shared else 0
    ids = list(rows[0].prompt[:common])
    positions = list(range(common))
    last: list[int] = []
    for row in rows:
        ids += row.prompt[common:]
        positions += range(common, len(row.prompt))
        for response in row.responses:
            ids += response
            positions += range(len(row.prompt), len(row.prompt) + len(response))
            last.append(len(ids) - 1)
    return Flat(
        torch.tensor([ids], device=device),
        torch.tensor([positions], device=device),
        torch.tensor(last, device=device),
        common,
        tuple((len(row.prompt) - common, *map(len, row.responses)) for row in rows),
    )


def _common_beginning(prompts: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all prompts begin with: as many as the first and the last in order of content."""
    first, last = min(prompts), max(prompts)
    differ = (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return next(differ, min(len(first), len(last)))


def collate(rows: Sequence[Row], pad_id: int, device: torch.device) -> Batch:
    """Pad rows on the right and note where each answer ends."""
    length = max(row.tokens for row in rows)
    input_ids = torch.full((len(rows), length), pad_id)
    position_ids = torch.zeros((len(rows), length), dtype=torch.int64)
    segments = torch.full((len(rows), length), PADDING)
    last_row, last_column = [], []
    for index, row in enumerate(rows):
        end = len(row.prompt)
        input_ids[index, :end] = torch.tensor(row.prompt, dtype=torch.int64)
        position_ids[index, :end] = torch.arange(end)
        segments[index, :end] = PROMPT
        for number, response in enumerate(row.responses, start=1):
            start, end = end, end + len(response)
            input_ids[index, start:end] = torch.tensor(response, dtype=torch.int64)
            position_ids[index, start:end] = len(row.prompt) + torch.arange(len(response))
            segments[index, start:end] = number
            last_row.append(index)
            last_column.append(end - 1)
    return Batch(
        input_ids.to(device),
        position_ids.to(device),
        segments.to(device),
        torch.tensor(last_row, device=device),
        torch.tensor(last_column, device=device),
    )


def tree_mask(segments: Tensor) -> Tensor:
    """Which token may attend to which in rows of one prompt and several answers.

    A token sees the earlier tokens of the prompt and of its own answer, and itself; padding sees
    only itself, because a row of a mask without any token gives no number.

    :param segments: [rows, L] int64, as in :class:`Batch`.
    :returns: [rows, 1, L, L] bool, True where the query (third axis) sees the key (fourth).
    """
    length = segments.shape[1]
    query, key = segments[:, :, None], segments[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    itself = torch.eye(length, dtype=torch.bool, device=segments.device)
    mask = causal & (query != PADDING) & ((key == PROMPT) | (key == query)) | itself
    return mask[:, None]
