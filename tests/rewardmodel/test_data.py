"""Rankings as they come from a file: what is refused, what is left out, and in which order they are trained on."""

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rewardmodel.chat import tokenize_answer
from rewardmodel.contract import JobError
from rewardmodel.data import read_rankings
from rewardmodel.fit import training_steps
from rewardmodel.losses import Objective
from tests.rewardmodel.conftest import byte_tokenizer
from tests.rewardmodel.rankings import ranking_row, write_rankings

TOKENIZER = byte_tokenizer()
USER = [{"role": "user", "content": "Hi"}]
PROMPT = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def read(tmp_path: Path, *rows: dict, max_tokens: int = 200, objective: Objective | None = None):
    write_rankings(tmp_path, rows)
    return read_rankings(tmp_path, TOKENIZER, max_tokens, objective)


def test_it_reads_ranks_with_ties_and_unranked_answers(tmp_path):
    rankings = read(tmp_path, ranking_row(responses=["a", "b", "c", "d"], ranks=[2, 1, None, 2]))
    assert rankings.train[0].ranks.tolist() == [2, 1, 0, 2]


def test_an_answer_is_the_rendered_chat_then_the_text_then_the_end_token(tmp_path):
    (ranking,) = read(tmp_path, ranking_row(messages=USER, responses=["yes", "no"])).train
    assert TOKENIZER.decode(ranking.answers[0].prompt) == PROMPT
    assert TOKENIZER.decode(ranking.answers[0].response) == "yes<|im_end|>"


def test_an_empty_chat_is_put_as_an_empty_turn(tmp_path):
    (ranking,) = read(tmp_path, ranking_row(messages=[])).train
    assert TOKENIZER.decode(ranking.answers[0].prompt) == "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"


def test_splits_are_kept_apart(tmp_path):
    rows = [ranking_row(prompt_id=split, split=split) for split in ("train", "dev", "test")]
    rankings = read(tmp_path, *rows)
    assert [[r.prompt_id for r in part] for part in (rankings.train, rankings.dev, rankings.test)] == [
        ["train"],
        ["dev"],
        ["test"],
    ]


def test_a_long_chat_loses_its_beginning_and_the_answer_stays_whole():
    answer = tokenize_answer(TOKENIZER, USER, "yes", 10)
    assert TOKENIZER.decode(answer.prompt) == "stant\n"
    assert TOKENIZER.decode(answer.response) == "yes<|im_end|>"
    assert len(answer.prompt) + answer.prompt_cut == len(TOKENIZER(PROMPT)["input_ids"])


def test_an_answer_longer_than_the_limit_keeps_its_beginning_and_its_end_token():
    answer = tokenize_answer(TOKENIZER, USER, "abcdefgh", 5)
    assert answer.prompt == ()
    assert TOKENIZER.decode(answer.response) == "abcd<|im_end|>"
    assert answer.response_cut == 4


def test_what_was_cut_and_left_out_is_counted(tmp_path):
    rankings = read(
        tmp_path,
        ranking_row(responses=["a", "b" * 50]),
        ranking_row(ranks=[1, 1]),
        ranking_row(ranks=[None, None]),
        ranking_row(weight=0.0),
        max_tokens=40,
    )
    assert len(rankings.train) == 1
    assert rankings.counts == {"without_preference": 2, "without_weight": 1, "prompts_cut": 1, "answers_cut": 1}


def test_one_ranked_answer_among_unranked_ones_is_a_preference(tmp_path):
    assert len(read(tmp_path, ranking_row(ranks=[1, None])).train) == 1


def test_ties_are_kept_for_a_loss_that_learns_from_them(tmp_path):
    rows = [ranking_row(), ranking_row(ranks=[1, 1]), ranking_row(ranks=[None, None])]
    assert len(read(tmp_path, *rows, objective=Objective("davidson")).train) == 2


def test_ratings_are_brought_to_mean_zero_and_deviation_one_by_those_of_training(tmp_path):
    rows = [
        ranking_row(ranks=[None, None], ratings=[1.0, 5.0]),
        ranking_row(ranks=[None, None], ratings=[3.0, None]),
        ranking_row(prompt_id="p2", split="test", ratings=[3.0, 7.0]),
    ]
    rankings = read(tmp_path, *rows, objective=Objective(relative_weight=0.0, regression_weight=1.0))
    spread = math.sqrt(8 / 3)  # of 1, 5 and 3
    assert rankings.train[0].ratings.tolist() == pytest.approx([-2 / spread, 2 / spread])
    assert rankings.train[1].ratings.tolist() == pytest.approx([0.0, math.nan], nan_ok=True)
    assert rankings.test[0].ratings.tolist() == pytest.approx([0.0, 4 / spread])


def test_a_margin_is_read_where_the_file_has_one(tmp_path):
    rankings = read(tmp_path, ranking_row(margin=0.75), ranking_row(margin=None), ranking_row())
    assert [ranking.margin for ranking in rankings.train] == [0.75, 0.0, 0.0]


@pytest.mark.parametrize(
    ("rows", "objective", "sentence"),
    [
        ([ranking_row(ranks=[1, 1])], Objective("davidson"), "All 1 train rankings .* are ties"),
        ([ranking_row(ratings=[4.0, 4.0])], Objective(regression_weight=1.0), "The 2 ratings .* are all equal"),
        ([ranking_row()], Objective(regression_weight=1.0), "The 0 ratings .* are all equal"),
        ([ranking_row(ratings=[4.0])], None, "has 2 responses but 1 ratings"),
        ([ranking_row(ratings=[4.0, math.nan])], None, "has a rating that is no number"),
        ([ranking_row(cut_off=[True])], None, "has 2 responses but says of 1 if they were cut off"),
        ([ranking_row(margin=-1.0)], None, "has the margin -1.0"),
    ],
)
def test_margins_ratings_and_ties_that_teach_nothing_are_refused(tmp_path, rows, objective, sentence):
    with pytest.raises(JobError, match=sentence):
        read(tmp_path, *rows, objective=objective)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "holds no rankings; a reward model needs some"),
        ([ranking_row(split="test")], "holds 1 rankings but none in the train split"),
        ([ranking_row(ranks=[1, 1])], "None of the 1 train rankings"),
        ([ranking_row(), ranking_row(split="test")], "Prompt p1 is in the splits train and test"),
        ([ranking_row(split="validation")], "Row 0 .*has the split 'validation'"),
        ([ranking_row(), ranking_row(responses=["a"], ranks=[1])], "Row 1 .*has fewer than 2 responses"),
        ([ranking_row(ranks=[1])], "has 2 responses but 1 ranks"),
        ([ranking_row(ranks=[0, 1])], "has a rank below 1"),
        ([ranking_row(weight=math.nan)], "has the weight nan"),
        ([ranking_row(weight=-1.0)], "has the weight -1.0"),
        ([ranking_row(responses=["a", None])], "has a response without text"),
        ([ranking_row(messages=[{"role": "user", "content": None}])], "has a message without role or content"),
        ([ranking_row(prompt_id=None)], "Row 0 .*has no prompt_id"),
    ],
)
def test_a_bad_file_is_refused_with_the_place_and_the_reason(tmp_path, rows, sentence):
    with pytest.raises(JobError, match=sentence):
        read(tmp_path, *rows)


def test_a_missing_file_a_file_of_another_kind_and_a_missing_column_are_refused(tmp_path):
    with pytest.raises(JobError, match="is missing; a reward model needs rankings"):
        read_rankings(tmp_path, TOKENIZER, 100)
    path = write_rankings(tmp_path, [ranking_row()])
    pq.write_table(pq.read_table(path).drop_columns("weight"), path)
    with pytest.raises(JobError, match="lacks the column weight"):
        read_rankings(tmp_path, TOKENIZER, 100)
    path.write_text("row_id,prompt_id\n")
    with pytest.raises(JobError, match="is not a parquet file"):
        read_rankings(tmp_path, TOKENIZER, 100)


def test_each_epoch_takes_every_ranking_once():
    sizes = [(7 * n) % 50 + 1 for n in range(45)]
    steps = list(training_steps(sizes, 4, seed=1, epoch=0))
    assert sorted(index for step in steps for index in step) == list(range(45))
    assert [len(step) for step in steps].count(4) == 11


def test_the_order_follows_from_seed_and_epoch_alone():
    sizes = list(range(1, 41))

    def order(seed, epoch):
        return list(training_steps(sizes, 4, seed=seed, epoch=epoch))

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_rankings_of_like_length_share_a_step_so_that_little_is_padding():
    sizes = [10, 500] * 64
    padded = sum(max(sizes[i] for i in step) * len(step) for step in training_steps(sizes, 4, seed=0, epoch=0))
    assert padded < 1.2 * sum(sizes)  # in file order it is almost twice their sum


def test_a_table_whose_columns_have_wider_types_is_read_too(tmp_path):
    path = write_rankings(tmp_path, [ranking_row()])
    table = pq.read_table(path)
    place = table.column_names.index("ranks")
    pq.write_table(table.set_column(place, "ranks", table["ranks"].cast(pa.list_(pa.int64()))), path)
    assert read_rankings(tmp_path, TOKENIZER, 100).train[0].ranks.tolist() == [1, 2]
