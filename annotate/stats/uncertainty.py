"""How little a reward model knows of the order of some answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import entr, expit


def mean_pair_entropy(scores: Sequence[float], variances: Sequence[float] | None = None) -> float:
    """Mean entropy of the pairs' outcomes under the Bradley–Terry model: what a judgement of the item would tell.

    P(i ≻ j) = σ(s_i − s_j); a pair's entropy is 1 bit where both are equally likely and 0 where the order is
    certain. Judging the most uncertain first is uncertainty sampling (Lewis and Gale 1994, "A sequential
    algorithm for training text classifiers").

    Of an ensemble, P is averaged over a normal distribution of the difference, σ(m / √(1 + π v / 8)), so that a pair on
    which its members disagree counts as open: MacKay (1992), "The evidence framework applied to classification
    networks", section 3.2. Scores of two answers are taken to vary independently.

    :param scores: [K ≥ 2] in units of the Bradley–Terry model; of an ensemble, means.
    :param variances: [K] of an ensemble's scores, in the square of these units.
    :returns: bits, from 0 to 1.
    """
    values = np.asarray(scores, dtype=np.float64)
    first, second = np.triu_indices(len(values), k=1)
    spread = np.zeros(len(values)) if variances is None else np.asarray(variances, dtype=np.float64)
    shrunk = np.sqrt(1 + np.pi / 8 * (spread[first] + spread[second]))
    probability = expit((values[first] - values[second]) / shrunk)
    return float(np.mean(entr(probability) + entr(1 - probability)) / np.log(2))
