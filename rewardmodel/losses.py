"""Losses on one ranking: what a rater's order of K answers says about their scores.

Every function takes the scores and ranks of one prompt's answers and returns one number, so all
pairs of a prompt weigh as one element of a batch (Ouyang et al. 2022, "Training language models
to follow instructions with human feedback", section 3.5: pairs of one prompt are correlated).

``ranks`` is [K] int64: 1 is best, equal numbers are a tie, 0 is unranked. A partial ranking is its
top k: unranked answers stand below all ranked ones, in no order among themselves.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rewardmodel.contract import Loss


def preferred_pairs(ranks: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs of a ranking in which one answer is preferred; ties are left out.

    :param ranks: [K] int64, 0 is unranked.
    :returns: indices of the preferred and of the other answer, [pairs] int64 each.
    """
    order = torch.where(ranks > 0, ranks, ranks.max() + 1)
    better, worse = torch.nonzero(order[:, None] < order[None, :], as_tuple=True)
    return better, worse


def pair_margins(scores: Tensor, ranks: Tensor) -> Tensor:
    """Score differences r_w − r_l of a ranking's preferred pairs.

    :param scores: [K] float.
    :param ranks: [K] int64, 0 is unranked.
    :returns: [pairs] float; positive where the scores agree with the rater.
    """
    better, worse = preferred_pairs(ranks)
    return scores[better] - scores[worse]


def logistic_loss(scores: Tensor, ranks: Tensor, margin: float = 0.0) -> Tensor:
    """−log σ(r_w − r_l − margin), mean over the preferred pairs.

    Source: Bradley and Terry 1952; Ouyang et al. 2022, equation 1; with a margin, Touvron et al.
    2023, "Llama 2", equation 2.

    :param scores: [K] float.
    :param ranks: [K] int64 with at least one preferred pair.
    :returns: scalar.
    """
    return functional.softplus(margin - pair_margins(scores, ranks)).mean()


def hinge_loss(scores: Tensor, ranks: Tensor) -> Tensor:
    """max(0, 1 − (r_w − r_l)), mean over the preferred pairs: the listwise hinge.

    With the pairs of a ranking as one element, the pairwise and the listwise hinge are this one
    number: the sum over all i ≻ j divided by the number of untied pairs.

    Source: Herbrich, Graepel and Obermayer 2000, "Large margin rank boundaries for ordinal regression".

    :param scores: [K] float.
    :param ranks: [K] int64 with at least one preferred pair.
    :returns: scalar.
    """
    return functional.relu(1 - pair_margins(scores, ranks)).mean()


def listmle_loss(scores: Tensor, ranks: Tensor) -> Tensor:
    """−log of the Plackett–Luce probability of the ranking.

    The answers of a tie group g are each drawn from the group and all below it:
    −Σ_g [Σ_{i∈g} r_i − |g|·logsumexp(g and below)] (Breslow's approximation for ties). Unranked
    answers appear only below.

    Source: Xia et al. 2008, "Listwise approach to learning to rank", section 4.2; Breslow 1974 for ties.

    :param scores: [K] float.
    :param ranks: [K] int64.
    :returns: scalar.
    """
    loss = scores.new_zeros(())
    for rank in torch.unique(ranks[ranks > 0]):
        group = scores[ranks == rank]
        group_and_below = scores[(ranks >= rank) | (ranks == 0)]
        loss = loss + len(group) * torch.logsumexp(group_and_below, 0) - group.sum()
    return loss


def ranking_loss(name: Loss, scores: Tensor, ranks: Tensor) -> Tensor:
    """The loss of a job's name for it on one ranking.

    :param scores: [K] float.
    :param ranks: [K] int64 with at least one preferred pair.
    :returns: scalar.
    """
    match name:
        case "logistic":
            return logistic_loss(scores, ranks)
        case "hinge" | "listwise-hinge":
            return hinge_loss(scores, ranks)
        case "listmle":
            return listmle_loss(scores, ranks)


def centring_penalty(scores: Tensor, ranks: Tensor) -> Tensor:
    """(r_w + r_l)², mean over the preferred pairs: differences alone leave the level of scores free.

    Source: Eisenstein et al. 2023, "Helping or herding?", section 2.

    :param scores: [K] float.
    :param ranks: [K] int64 with at least one preferred pair.
    :returns: scalar.
    """
    better, worse = preferred_pairs(ranks)
    return (scores[better] + scores[worse]).square().mean()
