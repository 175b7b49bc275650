"""How little a reward model knows of the order of some answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import entr, expit


def mean_pair_entropy(scores: Sequence[float]) -> float:
    """Mean entropy of the pairs' outcomes under the Bradley–Terry model: what a judgement of the item would tell.

    P(i ≻ j) = σ(s_i − s_j); a pair's entropy is 1 bit where both are equally likely and 0 where the order is
    certain. Judging the most uncertain first is uncertainty sampling (Lewis and Gale 1994, "A sequential
    algorithm for training text classifiers").

    :param scores: [K ≥ 2] in units of the Bradley–Terry model.
    :returns: bits, from 0 to 1.
    """
    values = np.asarray(scores, dtype=np.float64)
    first, second = np.triu_indices(len(values), k=1)
    probability = expit(values[first] - values[second])
    return float(np.mean(entr(probability) + entr(1 - probability)) / np.log(2))
