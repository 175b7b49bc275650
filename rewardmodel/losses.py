"""Losses on one ranking: what a rater's order and ratings of K answers say about their scores.

Every function takes the scores and ranks of one prompt's answers and returns one number, so all
pairs of a prompt weigh as one element of a batch (Ouyang et al. 2022, "Training language models
to follow instructions with human feedback", section 3.5: pairs of one prompt are correlated).

``ranks`` is [K] int64: 1 is best, equal numbers are a tie, 0 is unranked. A partial ranking is its
top k: unranked answers stand below all ranked ones, in no order among themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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


def tied_pairs(ranks: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs of ranked answers that share a rank.

    :param ranks: [K] int64, 0 is unranked.
    :returns: indices of the two answers, [pairs] int64 each.
    """
    same = (ranks[:, None] == ranks[None, :]) & (ranks[:, None] > 0)
    one, other = torch.nonzero(same.triu(diagonal=1), as_tuple=True)
    return one, other


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


def davidson_loss(scores: Tensor, ranks: Tensor, tie_odds: float = 1.0) -> Tensor:
    """−log of the probability of each comparison where ties are an outcome, mean over preferred and tied pairs.

    With Z = e^{r_i} + e^{r_j} + ν e^{(r_i+r_j)/2}: P(i ≻ j) = e^{r_i}/Z and P(tie) = ν e^{(r_i+r_j)/2}/Z. All
    are divided by e^{(r_i+r_j)/2} first, so that only differences of scores are exponentiated.

    Source: Davidson 1970, "On extending the Bradley–Terry model to accommodate ties in paired comparison experiments".

    :param scores: [K] float.
    :param ranks: [K] int64 with at least one preferred or tied pair.
    :param tie_odds: ν above 0; a tie of equal answers has probability ν / (2 + ν).
    :returns: scalar.
    """
    preferred = pair_margins(scores, ranks) / 2
    one, other = tied_pairs(ranks)
    tied = (scores[one] - scores[other]) / 2
    log_ties = math.log(tie_odds)
    numerators = torch.cat([preferred, torch.full_like(tied, log_ties)])
    halves = torch.cat([preferred, tied])
    outcomes = torch.stack([halves, -halves, torch.full_like(halves, log_ties)])
    return (torch.logsumexp(outcomes, 0) - numerators).mean()


def regression_loss(scores: Tensor, ratings: Tensor) -> Tensor:
    """Squared distance of scores from ratings, mean over the rated answers.

    Source: Wang et al. 2024, "HelpSteer2-Preference", section 4.1.

    :param scores: [K] float.
    :param ratings: [K] float, NaN where an answer has none; at least one has.
    :returns: scalar.
    """
    rated = ~ratings.isnan()
    return (scores[rated] - ratings[rated]).square().mean()


def centring_penalty(scores: Tensor, ranks: Tensor) -> Tensor:
    """(r_w + r_l)², mean over the preferred pairs: differences alone leave the level of scores free.

    Source: Eisenstein et al. 2023, "Helping or herding?", section 2.

    :param scores: [K] float.
    :param ranks: [K] int64 with at least one preferred pair.
    :returns: scalar.
    """
    better, worse = preferred_pairs(ranks)
    return (scores[better] + scores[worse]).square().mean()


@dataclass(frozen=True)
class Objective:
    """What training minimises on a ranking: a weighted sum of one relative and one absolute loss, and centring."""

    relative: Loss = "listmle"
    relative_weight: float = 1.0
    regression_weight: float = 0.0
    centring: float = 0.01
    tie_odds: float = 1.0

    def learns_from(self, ranks: Tensor, ratings: Tensor) -> bool:
        """Whether a row says anything to this objective: an order (or, to Davidson's model, a tie), or ratings."""
        return self._has_order(ranks) or (self.regression_weight > 0 and not bool(ratings.isnan().all()))

    def _has_order(self, ranks: Tensor) -> bool:
        compared = len(preferred_pairs(ranks)[0])
        if self.relative == "davidson":
            compared += len(tied_pairs(ranks)[0])
        return self.relative_weight > 0 and compared > 0

    def loss(self, scores: Tensor, ranks: Tensor, ratings: Tensor, margin: float = 0.0) -> Tensor:
        """The weighted sum on one ranking, without centring; what a row does not say adds nothing.

        :param scores: [K] float.
        :param ranks: [K] int64, 0 is unranked.
        :param ratings: [K] float, NaN where an answer has none.
        :param margin: by how much the preferred answer should be ahead; only the logistic loss uses it.
        :returns: scalar.
        """
        total = scores.new_zeros(())
        if self._has_order(ranks):
            total = total + self.relative_weight * self._relative_loss(scores, ranks, margin)
        if self.regression_weight > 0 and not bool(ratings.isnan().all()):
            total = total + self.regression_weight * regression_loss(scores, ratings.to(scores))
        return total

    def _relative_loss(self, scores: Tensor, ranks: Tensor, margin: float) -> Tensor:
        match self.relative:
            case "logistic":
                return logistic_loss(scores, ranks, margin)
            case "hinge" | "listwise-hinge":
                return hinge_loss(scores, ranks)
            case "listmle":
                return listmle_loss(scores, ranks)
            case "davidson":
                return davidson_loss(scores, ranks, self.tie_odds)

    def penalty(self, scores: Tensor, ranks: Tensor) -> Tensor:
        """The weighted centring penalty of one ranking; 0 where no answer is preferred.

        :returns: scalar.
        """
        if not len(preferred_pairs(ranks)[0]):
            return scores.new_zeros(())
        return self.centring * centring_penalty(scores, ranks)
