"""Losses against hand calculations and against plain float64 Python that shares no code with them."""

import itertools
import math

import pytest
import torch

from rewardmodel.losses import (
    centring_penalty,
    hinge_loss,
    listmle_loss,
    logistic_loss,
    pair_margins,
    preferred_pairs,
    ranking_loss,
)

NAMES = ["logistic", "hinge", "listwise-hinge", "listmle"]


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
