"""Rows, masks and groups by hand."""

import torch

from rewardmodel.batching import collate, pack, split_by_tokens, tree_mask
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
