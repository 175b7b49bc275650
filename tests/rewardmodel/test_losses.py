"""Losses against hand calculations and against plain float64 Python that shares no code with them."""

import itertools
import math
from typing import get_args

import pytest
import torch

from rewardmodel.contract import Loss
from rewardmodel.losses import (
    Objective,
    centring_penalty,
    davidson_loss,
    hinge_loss,
    listmle_loss,
    logistic_loss,
    pair_margins,
    preferred_pairs,
    regression_loss,
    tied_pairs,
)

NAMES = get_args(Loss)
UNRATED = torch.full((4,), math.nan)


def ranking_loss(name, scores, ranks):
    return Objective(name).loss(scores, ranks, UNRATED[: len(ranks)])


def tensors(scores, ranks):
    return torch.tensor(scores, dtype=torch.float64), torch.tensor(ranks)


def plackett_luce(scores, order):
    """Probability of drawing the answers in this order, each by a softmax over those still there."""
    probability, left = 1.0, list(order)
    while left:
        probability *= math.exp(scores[left[0]]) / sum(math.exp(scores[i]) for i in left)
        left.pop(0)
    return probability


def test_logistic_loss_of_odds_three_to_one_is_log_four_thirds():
    assert logistic_loss(*tensors([0.0, math.log(3)], [2, 1])).item() == pytest.approx(math.log(4 / 3))


def test_logistic_loss_with_a_margin_moves_the_point_of_even_odds():
    assert logistic_loss(*tensors([1.5, 0.0], [1, 2]), margin=1.5).item() == pytest.approx(math.log(2))


def test_logistic_loss_of_a_ranking_is_the_mean_over_its_untied_pairs():
    scores = [0.3, -1.0, 2.0, 0.7]
    pairs = [(0, 1), (0, 2), (3, 1), (3, 2), (1, 2)]  # ranks 1, 2, 3, 1: the pair (0, 3) is a tie
    expected = sum(math.log(1 + math.exp(scores[j] - scores[i])) for i, j in pairs) / 5
    assert logistic_loss(*tensors(scores, [1, 2, 3, 1])).item() == pytest.approx(expected)


def test_listwise_hinge_is_divided_by_the_number_of_untied_pairs():
    # margins 0.5, 2 and 1.5: only the first is below 1, by 0.5
    assert hinge_loss(*tensors([2.0, 1.5, 0.0], [1, 2, 3])).item() == pytest.approx(0.5 / 3)
    # with a tie of the last two: margins 0.5 and 2
    assert hinge_loss(*tensors([2.0, 1.5, 0.0], [1, 2, 2])).item() == pytest.approx(0.5 / 2)


def test_hinge_loss_of_a_wrong_pair_grows_by_its_margin():
    assert hinge_loss(*tensors([0.0, 3.0], [1, 2])).item() == pytest.approx(4.0)


def test_listmle_of_a_full_ranking_is_the_plackett_luce_probability():
    # 3/6 · 2/3 · 1/1 = 1/3
    assert listmle_loss(*tensors([math.log(1), math.log(2), math.log(3)], [3, 2, 1])).item() == pytest.approx(
        math.log(3)
    )


def test_listmle_of_every_order_sums_to_probability_one_and_agrees_with_a_product_of_softmaxes():
    scores, total = [0.4, -1.3, 2.2, 0.9], 0.0
    for order in itertools.permutations(range(4)):
        ranks = [order.index(i) + 1 for i in range(4)]
        loss = listmle_loss(*tensors(scores, ranks)).item()
        assert loss == pytest.approx(-math.log(plackett_luce(scores, order)))
        total += math.exp(-loss)
    assert total == pytest.approx(1.0)


def test_listmle_draws_each_answer_of_a_tie_group_from_the_group_and_all_below():
    # group {1, 2} of {1, 2, 3}: (1/6)(2/6), then 3/3: −log(1/18)
    assert listmle_loss(*tensors([math.log(1), math.log(2), math.log(3)], [1, 1, 2])).item() == pytest.approx(
        math.log(18)
    )


def test_listmle_of_a_partial_ranking_is_the_probability_of_its_top_k():
    scores = [0.4, -1.3, 2.2, 0.9]
    expected = sum(plackett_luce(scores, [2, 0, *rest]) for rest in ([1, 3], [3, 1]))
    assert listmle_loss(*tensors(scores, [2, 0, 1, 0])).item() == pytest.approx(-math.log(expected))


def test_unranked_answers_stand_below_ranked_ones_and_in_no_order_among_themselves():
    better, worse = preferred_pairs(torch.tensor([0, 2, 1, 0]))
    assert set(zip(better.tolist(), worse.tolist(), strict=True)) == {(2, 1), (2, 0), (2, 3), (1, 0), (1, 3)}


def test_margins_are_positive_where_scores_agree_with_the_rater():
    assert pair_margins(*tensors([3.0, 1.0], [1, 2])).tolist() == [2.0]
    assert pair_margins(*tensors([3.0, 1.0], [2, 1])).tolist() == [-2.0]


def test_centring_penalty_is_the_mean_squared_sum_of_a_pair():
    # sums 3, −1 and 0 over three pairs
    assert centring_penalty(*tensors([1.0, 2.0, -2.0], [1, 2, 3])).item() == pytest.approx((9 + 1 + 0) / 3)


def davidson_by_hand(scores, pairs, ties, nu):
    """Plain exponentials, as the paper writes them; scores small enough not to overflow."""
    losses = []
    for i, j in [*pairs, *ties]:
        tie = nu * math.exp((scores[i] + scores[j]) / 2)
        z = math.exp(scores[i]) + math.exp(scores[j]) + tie
        losses.append(-math.log((tie if (i, j) in ties else math.exp(scores[i])) / z))
    return sum(losses) / len(losses)


def test_davidson_gives_equal_answers_a_third_each_way_at_even_tie_odds():
    assert davidson_loss(*tensors([0.7, 0.7], [1, 2])).item() == pytest.approx(math.log(3))
    assert davidson_loss(*tensors([0.7, 0.7], [1, 1])).item() == pytest.approx(math.log(3))


def test_davidson_of_odds_four_to_one():
    # strengths 4 and 1, tie 2·ν = 1 at ν = 1/2: 4/6, 1/6, 1/6
    assert davidson_loss(*tensors([math.log(4), 0.0], [1, 2]), tie_odds=0.5).item() == pytest.approx(math.log(6 / 4))
    assert davidson_loss(*tensors([math.log(4), 0.0], [1, 1]), tie_odds=0.5).item() == pytest.approx(math.log(6))


def test_davidson_of_a_ranking_is_the_mean_over_its_preferred_and_tied_pairs():
    scores = [0.3, -1.0, 2.0, 0.7]
    expected = davidson_by_hand(scores, [(0, 1), (0, 2), (3, 1), (3, 2), (1, 2)], [(0, 3)], nu=0.8)
    assert davidson_loss(*tensors(scores, [1, 2, 3, 1]), tie_odds=0.8).item() == pytest.approx(expected)


def test_davidson_with_hardly_any_ties_is_the_logistic_loss():
    given = tensors([0.3, -1.0, 2.0], [2, 1, 3])
    assert davidson_loss(*given, tie_odds=1e-12).item() == pytest.approx(logistic_loss(*given).item())


def test_unranked_answers_are_no_ties():
    assert [part.tolist() for part in tied_pairs(torch.tensor([0, 1, 0, 1, 1]))] == [[1, 1, 3], [3, 4, 4]]


def test_regression_is_the_mean_squared_error_of_the_rated_answers():
    scores, ratings = torch.tensor([1.0, -2.0, 5.0]), torch.tensor([0.5, math.nan, 2.0])
    assert regression_loss(scores, ratings).item() == pytest.approx((0.25 + 9) / 2)


def test_an_objective_adds_a_relative_and_an_absolute_loss_by_their_weights():
    objective = Objective("hinge", relative_weight=2.0, regression_weight=0.5)
    scores, ratings = torch.tensor([0.5, 0.0]), torch.tensor([1.5, 0.0])  # hinge 0.5, squared error 0.5
    assert objective.loss(scores, torch.tensor([1, 2]), ratings).item() == pytest.approx(2 * 0.5 + 0.5 * 0.5)


def test_what_a_row_does_not_say_adds_nothing():
    objective = Objective("logistic", regression_weight=1.0)
    scores = torch.tensor([1.0, 0.0])
    only_rated = objective.loss(scores, torch.tensor([0, 0]), torch.tensor([0.0, math.nan]))
    only_ranked = objective.loss(scores, torch.tensor([1, 2]), UNRATED[:2])
    assert only_rated.item() == pytest.approx(1.0)
    assert only_ranked.item() == pytest.approx(math.log(1 + math.exp(-1)))


@pytest.mark.parametrize(
    ("objective", "ranks", "rating", "learns"),
    [
        (Objective("logistic"), [1, 1], math.nan, False),
        (Objective("davidson"), [1, 1], math.nan, True),
        (Objective("davidson"), [0, 0], math.nan, False),
        (Objective("logistic"), [1, 1], 3.0, False),
        (Objective("logistic", regression_weight=1.0), [1, 1], 3.0, True),
        (Objective("logistic", relative_weight=0.0, regression_weight=1.0), [1, 2], math.nan, False),
    ],
)
def test_an_objective_knows_which_rows_teach_it(objective, ranks, rating, learns):
    assert objective.learns_from(torch.tensor(ranks), torch.tensor([rating, rating])) is learns


def test_a_margin_of_a_row_moves_its_logistic_loss():
    loss = Objective("logistic").loss(torch.tensor([1.5, 0.0]), torch.tensor([1, 2]), UNRATED[:2], margin=1.5)
    assert loss.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("scores", [[0.3, -1.0], [1e4, -1e4], [-1e4, 1e4]])
def test_pairs_agree_with_torchs_own_losses(scores):
    given, ranks = torch.tensor(scores, dtype=torch.float64), torch.tensor([1, 2])
    logistic = torch.nn.functional.binary_cross_entropy_with_logits(
        given[0] - given[1], torch.ones((), dtype=given.dtype)
    )
    hinge = torch.nn.functional.margin_ranking_loss(given[:1], given[1:], torch.ones(1), margin=1.0)
    assert logistic_loss(given, ranks).item() == pytest.approx(logistic.item())
    assert listmle_loss(given, ranks).item() == pytest.approx(logistic.item())  # of two answers it is the same
    assert hinge_loss(given, ranks).item() == pytest.approx(hinge.item())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scores", [[0.5, -1.0, 2.0, 0.25], [1e4, -1e4, 0.0, 12.0], [-1e4, 1e4, 3.0, 12.0]])
def test_bfloat16_scores_give_the_loss_of_their_values(name, scores):
    ranks = torch.tensor([1, 2, 3, 2])
    rounded = torch.tensor(scores, dtype=torch.bfloat16, requires_grad=True)
    loss = ranking_loss(name, rounded, ranks)
    loss.backward()
    assert loss.item() == pytest.approx(ranking_loss(name, rounded.detach().double(), ranks).item(), rel=0.02, abs=0.01)
    assert torch.isfinite(rounded.grad).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ranks", [[1, 2, 3, 4], [2, 1, 2, 3], [0, 1, 0, 2]])
def test_gradients_agree_with_finite_differences(name, ranks):
    scores = torch.tensor([0.31, -0.52, 0.97, 0.11], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: ranking_loss(name, s, torch.tensor(ranks)), (scores,))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scores", [[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [1e4, 1e4, 1e4]])
def test_losses_and_gradients_are_finite_at_scores_of_ten_thousand(name, scores):
    scores = torch.tensor(scores, requires_grad=True)
    loss = ranking_loss(name, scores, torch.tensor([1, 2, 3]))
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize("name", NAMES)
def test_moving_scores_towards_the_rating_lowers_every_loss(name):
    ranks = torch.tensor([2, 1, 3])
    agreeing, neutral, opposed = (torch.tensor(s) for s in ([0.0, 1.0, -1.0], [0.0, 0.0, 0.0], [0.0, -1.0, 1.0]))
    assert ranking_loss(name, agreeing, ranks) < ranking_loss(name, neutral, ranks) < ranking_loss(name, opposed, ranks)
