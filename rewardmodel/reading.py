"""A decoder's states over rows of a prompt and its answers: end to end in one row, or each answer by itself.

Which of the two a model takes is tried on a short row when it is made (:func:`shares_rows`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rewardmodel import attention
from rewardmodel.backbone import may_share_rows, takes_positions
from rewardmodel.batching import Batch, Flat, Row, collate, flatten, pack, split_by_tokens, split_evenly
from rewardmodel.chat import Answer


def flat_states(trunk: Any, rows: Sequence[Row], dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Flat]:
    """States of rows that lie end to end without padding.

    :param trunk: a decoder without its head, whose attention is :data:`rewardmodel.attention.IMPLEMENTATION`.
    :param dtype: of its queries.
    :returns: [N, hidden size], and where the rows lie among the N tokens.
    """
    flat = flatten(rows, attention.SHORT_ROW, device)
    no_mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)  # four axes: transformers makes no other
    output = trunk(
        input_ids=flat.input_ids,
        position_ids=flat.position_ids,
        attention_mask=no_mask,
        layout=attention.lay_out(flat.common, flat.sizes, dtype, device),
        use_cache=False,
    )
    return output.last_hidden_state[0], flat


def padded_states(trunk: Any, rows: Sequence[Row], pad_id: int, device: torch.device) -> tuple[Tensor, Batch]:
    """States of rows of one answer each, padded on the right.

    :returns: [rows, L, hidden size], and the rows as tensors.
    """
    batch = collate(rows, pad_id, device)
    return trunk(**inputs_of(trunk, batch)).last_hidden_state, batch


def inputs_of(model: Any, batch: Batch) -> dict[str, Any]:
    """What a model is called with to read rows of one answer each."""
    positions = {"position_ids": batch.position_ids} if takes_positions(model) else {}
    mask = batch.segments.ge(0).long()
    return {"input_ids": batch.input_ids, "attention_mask": mask, "use_cache": False, **positions}


@torch.inference_mode()
def shares_rows(model: Any, trunk: Any, pad_id: int) -> bool:
    """Whether answers in one row are read as each by itself; then the model's attention is set for it.

    It is tried on a short row, in float32 on the CPU.

    :param model: a decoder with its head, its dropout off; ``trunk`` is its part below.
    """
    if not may_share_rows(model):
        return False
    ids = [number % model.config.get_text_config().vocab_size for number in range(3, 27)]
    prompt = tuple(ids[:6])
    answers = [Answer(prompt, tuple(ids[a:b])) for a, b in ((6, 9), (9, 15), (15, 24))]
    device = torch.device("cpu")
    states, batch = padded_states(trunk, pack(answers, False, len(ids)), pad_id, device)
    separate = states[batch.last_row, batch.last_column]
    model.set_attn_implementation(attention.IMPLEMENTATION)
    states, flat = flat_states(trunk, pack(answers, True, len(ids)), torch.float32, device)
    if (states[flat.last] - separate).norm() <= 1e-4 * separate.norm():
        return True
    model.set_attn_implementation("sdpa")
    return False


def tokens_of(answers: Sequence[Answer], shared: bool) -> int:
    """Tokens of the rows that answers to one prompt take.

    :param shared: whether they lie in one row; where not, padding is counted.
    """
    longest = max(len(answer.prompt) + len(answer.response) for answer in answers)
    if not shared:
        return len(answers) * longest
    return max(len(answer.prompt) for answer in answers) + sum(len(answer.response) for answer in answers)


def split(sizes: Sequence[int], budget: int, shared: bool) -> list[list[int]]:
    """Group items so that each group is one forward pass within a budget of tokens, padding included.

    :param shared: whether rows lie end to end.
    """
    return (split_evenly if shared else split_by_tokens)(sizes, budget)
