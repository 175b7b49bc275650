"""Attention over rows that lie end to end in one long row without padding, each one prompt with its answers.

A token sees the earlier tokens of the prompt and of its own answer, and itself; what all prompts begin with, such as a
system prompt, lies there once, before all rows, and is seen by all. On the CPU a short row is two plain
matrix products under its mask, which beats the fused kernel there; a long row is one fused causal pass over the prompt
and the first answer and one over each further answer with the prompt's keys before its own, so that its memory stays
linear. On CUDA it is FlexAttention with a block mask.

Registered with transformers under :data:`IMPLEMENTATION`; called without a layout it is transformers' own SDPA, so
a backbone that carries it still works everywhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout as dropout_of
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

IMPLEMENTATION = "hone_tree"
SHORT_ROW = 1024
"""Tokens up to which a row's attention is computed under a dense mask."""
ONE_BLOCK = 320
"""Tokens up to which that is one product of all queries and all keys."""
BLOCK = 128
"""Queries of a longer row that are computed at once, over the keys up to the last of them."""


@dataclass(frozen=True)
class Layout:
    """Where the rows, their prompts and their answers lie in a row of N tokens."""

    common: int
    """Tokens that come before all rows; 0 where a row is a long one."""
    rows: tuple[tuple[int, ...], ...]
    """Of each row the tokens of the prompt, then of each answer."""
    masks: tuple[tuple[Tensor, ...], ...]
    """Of each row what is added to logits: of a short one [L, common + L]; of a long one, for each further answer, [its
    tokens, the prompt's and its tokens]."""
    blocks: Any = None
    """The same as a block mask of FlexAttention, where that is used."""


def lay_out(common: int, rows: Sequence[tuple[int, ...]], dtype: torch.dtype, device: torch.device) -> Layout:
    """Describe rows that lie end to end.

    :param common: tokens that come before all rows; 0 unless all rows are short.
    :param rows: of each row the tokens of the prompt, then of each answer.
    :param dtype: of the queries.
    """
    if device.type == "cuda":
        return Layout(common, tuple(rows), (), _block_mask(common, rows, device))
    return Layout(common, tuple(rows), tuple(_masks(common, row, dtype, device) for row in rows))


def _masks(common: int, row: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    prompt, *answers = row
    if sum(row) <= SHORT_ROW:
        mask = _later_hidden(sum(row), common, dtype, device)
        start = prompt
        for answer in answers:
            mask[start : start + answer, common + prompt : common + start] = -torch.inf
            start += answer
        return (mask,)
    return tuple(_later_hidden(answer, prompt, dtype, device) for answer in answers[1:])


def _later_hidden(length: int, before: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A causal mask of queries that have keys before them, [length, before + length]."""
    return torch.full((length, before + length), -torch.inf, dtype=dtype, device=device).triu_(before + 1)


def _block_mask(common: int, rows: Sequence[tuple[int, ...]], device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    lengths = torch.tensor([common, *(sum(sizes) for sizes in rows)])
    row = torch.repeat_interleave(lengths).to(device)
    segments = [torch.zeros(common, dtype=torch.int64), *(torch.repeat_interleave(torch.tensor(own)) for own in rows)]
    segment = torch.cat(segments).to(device)

    def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        own = (segment[key] == 0) | (segment[key] == segment[query])
        return (query >= key) & ((row[query] == row[key]) & own | (row[key] == 0))

    return create_block_mask(sees, B=None, H=None, Q_LEN=len(row), KV_LEN=len(row), device=str(device))


def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    layout: Layout | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention in the form that transformers calls.

    :param query: [1, heads, N, d].
    :param key: [1, key-value heads, N, d]; ``value`` likewise.
    :param attention_mask: ignored where there is a layout.
    :returns: [1, N, heads, d], and no weights.
    """
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    if layout.blocks is not None:
        return flex_attention_forward(module, query, key, value, layout.blocks, scaling=scaling, dropout=dropout)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    lengths = [layout.common, *(sum(row) for row in layout.rows)]
    (q, *queries), (k, *keys), (v, *values) = (tensor.split(lengths, dim=2) for tensor in (query, key, value))
    outputs = []
    if layout.common:
        causal = _later_hidden(layout.common, 0, query.dtype, query.device)
        outputs.append(_under_mask(q, k, v, causal, dropout, scaling))
        keys = [torch.cat([k, own], dim=2) for own in keys]
        values = [torch.cat([v, own], dim=2) for own in values]
    for q, k, v, row, masks in zip(queries, keys, values, layout.rows, layout.masks, strict=True):
        if sum(row) <= SHORT_ROW:
            outputs.append(_under_mask(q, k, v, masks[0], dropout, scaling))
        else:
            outputs.append(_by_answer(q, k, v, row, masks, dropout, scaling))
    return torch.cat(outputs, dim=1), None


def _under_mask(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout: float, scaling: float) -> Tensor:
    """Attention of one short row, [1, L, heads, d], a block of queries after the other.

    The query heads that share keys are one taller matrix.

    :param mask: [L, keys], of which the last L are the row's own.
    """
    _one, heads, length, size = query.shape
    shared, before = key.shape[1], key.shape[2] - length
    queries = (query[0] * scaling).view(shared, heads // shared, length, size)
    keys, values = key[0].transpose(1, 2), value[0]
    outputs = []
    step = length if length <= ONE_BLOCK else BLOCK
    for start in range(0, length, step):
        end = min(start + step, length)
        block = queries[:, :, start:end].reshape(shared, -1, size)
        seen = before + end
        logits = torch.bmm(block, keys[:, :, :seen]).view(heads, end - start, seen)
        weights = dropout_of(logits.add_(mask[start:end, :seen]).softmax(-1), dropout)
        output = torch.bmm(weights.view(shared, -1, seen), values[:, :seen])
        outputs.append(output.view(heads, end - start, size).transpose(0, 1))
    return torch.cat(outputs)[None]


def _by_answer(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    row: tuple[int, ...],
    masks: Sequence[Tensor],
    dropout: float,
    scaling: float,
) -> Tensor:
    """Attention of one long row, [1, L, heads, d]."""
    prompt, first, *further = row
    repeats = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, repeats), repeat_kv(value, repeats)
    queries, keys, values = (tensor.split([prompt + first, *further], dim=2) for tensor in (query, key, value))
    outputs = [
        scaled_dot_product_attention(queries[0], keys[0], values[0], dropout_p=dropout, is_causal=True, scale=scaling)
    ]
    for number, mask in enumerate(masks, start=1):
        own_keys, own_values = (torch.cat([part[0][:, :, :prompt], part[number]], dim=2) for part in (keys, values))
        outputs.append(
            scaled_dot_product_attention(queries[number], own_keys, own_values, mask, dropout_p=dropout, scale=scaling)
        )
    return torch.cat([output.transpose(1, 2) for output in outputs], dim=1)


AttentionInterface.register(IMPLEMENTATION, tree_attention)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)
