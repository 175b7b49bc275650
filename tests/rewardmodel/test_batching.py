"""Rows, masks and groups by hand."""

import pytest
import torch

from rewardmodel import attention
from rewardmodel.attention import _block_mask, lay_out, tree_attention
from rewardmodel.batching import collate, flatten, pack, split_by_tokens, split_evenly, tree_mask
from rewardmodel.chat import Answer

ONE, OTHER = (1, 2), (3,)
ANSWERS = [Answer(ONE, (10,)), Answer(OTHER, (20, 21)), Answer(ONE, (11, 12, 13))]


def test_answers_to_one_prompt_share_a_row():
    rows = pack(ANSWERS, share_prompts=True, max_row_tokens=100)
    assert [(row.prompt, row.responses, row.places) for row in rows] == [
        (ONE, ((10,), (11, 12, 13)), (0, 2)),
        (OTHER, ((20, 21),), (1,)),
    ]
    assert [row.tokens for row in rows] == [6, 3]


def test_a_full_row_takes_no_further_answer():
    assert [row.places for row in pack(ANSWERS, share_prompts=True, max_row_tokens=5)] == [(0,), (1,), (2,)]


def test_without_sharing_every_answer_has_its_row():
    assert [row.places for row in pack(ANSWERS, share_prompts=False, max_row_tokens=100)] == [(0,), (1,), (2,)]


def test_a_batch_says_where_each_answer_ends_and_starts_each_at_the_prompts_end():
    batch = collate(pack(ANSWERS, share_prompts=True, max_row_tokens=100), pad_id=0, device=torch.device("cpu"))
    assert batch.input_ids.tolist() == [[1, 2, 10, 11, 12, 13], [3, 20, 21, 0, 0, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 2, 3, 4], [0, 1, 2, 0, 0, 0]]
    assert batch.segments.tolist() == [[0, 0, 1, 2, 2, 2], [0, 1, 1, -1, -1, -1]]
    assert list(zip(batch.last_row.tolist(), batch.last_column.tolist(), strict=True)) == [(0, 2), (0, 5), (1, 2)]


def test_rows_end_to_end_say_where_each_answer_ends():
    flat = flatten(pack(ANSWERS, share_prompts=True, max_row_tokens=100), 100, torch.device("cpu"))
    assert flat.input_ids.tolist() == [[1, 2, 10, 11, 12, 13, 3, 20, 21]]
    assert flat.position_ids.tolist() == [[0, 1, 2, 2, 3, 4, 0, 1, 2]]
    assert flat.last.tolist() == [2, 5, 8]
    assert (flat.common, flat.sizes) == (0, ((2, 1, 3), (1, 2)))


def test_what_all_prompts_begin_with_lies_before_the_rows_once():
    rows = pack([Answer((1, 2, 3), (10,)), Answer((1, 2), (20, 21))], share_prompts=True, max_row_tokens=100)
    flat = flatten(rows, 100, torch.device("cpu"))
    assert flat.input_ids.tolist() == [[1, 2, 3, 10, 20, 21]]
    assert flat.position_ids.tolist() == [[0, 1, 2, 3, 2, 3]]
    assert flat.last.tolist() == [3, 5]
    assert (flat.common, flat.sizes) == (2, ((1, 1), (0, 2)))
    assert flatten(rows, 3, torch.device("cpu")).common == 0  # a row is too long to share
    assert flatten(rows[:1], 100, torch.device("cpu")).common == 0


SIZES = ((4, 2, 3), (0, 3, 1), (5, 2), (1, 1, 1, 1))
"""Rows by the tokens of their prompt and answers, one without a prompt of its own."""


def dense_mask(common: int) -> torch.Tensor:
    """[N, N] bool by the plain rule: not later, and common to all or, in the same row, of the prompt or own answer."""
    own = [(row, part) for row, sizes in enumerate(SIZES, 1) for part, size in enumerate(sizes) for _ in range(size)]
    tokens = [(0, 0)] * common + own

    def sees(query: int, key: int) -> bool:
        (row, part), (other, segment) = tokens[query], tokens[key]
        return key <= query and (other == 0 or (other == row and segment in (0, part)))

    return torch.tensor([[sees(query, key) for key in range(len(tokens))] for query in range(len(tokens))])


@pytest.mark.parametrize(
    ("common", "short_row", "one_block"),
    [(0, 0, 0), (0, 6, 320), (0, 512, 320), (0, 512, 0), (5, 512, 320), (5, 512, 0)],
    ids=["by answer", "both", "under masks", "by blocks", "after a common beginning", "by blocks after it"],
)
def test_attention_is_that_under_the_dense_mask_with_its_gradients(monkeypatch, common, short_row, one_block):
    monkeypatch.setattr(attention, "SHORT_ROW", short_row)
    monkeypatch.setattr(attention, "ONE_BLOCK", one_block)
    monkeypatch.setattr(attention, "BLOCK", 3)
    mask = dense_mask(common)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, heads, len(mask), 8, dtype=torch.float64, generator=generator, requires_grad=True)
        for heads in (4, 2, 2)
    )
    layout = lay_out(common, SIZES, torch.float64, torch.device("cpu"))
    ours, _weights = tree_attention(torch.nn.Module(), query, key, value, None, layout=layout, scaling=0.3)
    keys, values = key.repeat_interleave(2, 1), value.repeat_interleave(2, 1)
    logits = (0.3 * query @ keys.transpose(2, 3)).masked_fill(~mask, -torch.inf)
    plain = (logits.softmax(-1) @ values).transpose(1, 2)
    torch.testing.assert_close(ours, plain)
    weights = torch.randn(plain.shape, dtype=torch.float64, generator=generator)
    grads = [torch.autograd.grad((result * weights).sum(), (query, key, value)) for result in (ours, plain)]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("common", [0, 5])
def test_the_block_mask_of_flexattention_is_the_dense_mask(common):
    from torch.nn.attention.flex_attention import create_mask

    blocks = _block_mask(common, SIZES, torch.device("cpu"))
    length = len(dense_mask(common))
    assert torch.equal(create_mask(blocks.mask_mod, None, None, length, length, device="cpu")[0, 0], dense_mask(common))


def test_even_groups_are_as_few_as_fit_and_of_like_sums():
    groups = split_evenly([5, 90, 7, 300, 6, 80], budget=200)
    assert sorted(sorted(group) for group in groups) == [[0, 1, 2, 4, 5], [3]]  # 300 is over the budget by itself
    sums = [
        sum((50, 40, 30, 30, 20, 10)[index] for index in group) for group in split_evenly([50, 40, 30, 30, 20, 10], 100)
    ]
    assert sums == [90, 90]


def test_items_that_fit_in_no_fewer_groups_get_one_each():
    assert sorted(split_evenly([60, 60, 60], budget=100)) == [[0], [1], [2]]
    assert split_evenly([], budget=100) == []


def test_a_token_sees_the_prompt_and_its_own_answer_up_to_itself():
    mask = tree_mask(torch.tensor([[0, 0, 1, 2, 2, -1]]))
    assert mask.shape == (1, 1, 6, 6)
    assert mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]


def test_groups_hold_items_of_like_size_within_the_budget_and_every_item_once():
    sizes = [5, 90, 7, 300, 6, 80]
    groups = split_by_tokens(sizes, budget=200)
    assert groups == [[3], [1, 5], [2, 4, 0]]  # 300 is over the budget by itself; 2 · 90 fits, 3 · 90 does not
