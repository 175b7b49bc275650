"""How the generations of a policy compare: strengths on one scale, and each against each other one.

Whose judgements go in is the caller's: people, AI judges and the simulated rater are never measured together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from annotate.stats.bradley_terry import Strengths, strengths
from annotate.stats.estimate import Estimate, Undefined
from annotate.stats.resampling import ROUNDS
from annotate.stats.winrates import win_rate_matrix


@dataclass(frozen=True)
class Generations:
    """What blind comparisons say of generations."""

    strengths: Strengths | Undefined
    """In points of 400·log10 above generation 0."""
    win_rates: list[list[Estimate | Undefined]]
    """The row's against the column's; n counts prompts."""


def generation_table(
    first: ArrayLike,
    second: ArrayLike,
    outcome: ArrayLike,
    *,
    generations: int,
    prompts: ArrayLike,
    raters: ArrayLike | None,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Generations:
    """Compare generations 0 to ``generations`` − 1.

    :param first: int [n], the number of the one generation.
    :param second: int [n], of the other.
    :param outcome: int [n], 0 where the first one won, 1 for a tie, 2 where the second one did.
    :param prompts: [n], names.
    :param raters: [n], names; None where the pool is stated as fixed.
    """
    share = 1 - np.asarray(outcome, dtype=np.float64) / 2
    return Generations(
        strengths(first, second, outcome, models=generations, prompts=prompts, raters=raters, rounds=rounds, seed=seed),
        win_rate_matrix(first, second, share, prompts, models=generations),
    )
