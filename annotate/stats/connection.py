"""Whether strengths can be fitted at all, and if not, which models cannot be compared with which."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import NegativeCycleError, bellman_ford, connected_components

from annotate.stats.estimate import Reason, Undefined

WIN, TIE, LOSS = 0, 1, 2


def existence(
    first: NDArray[np.int64], second: NDArray[np.int64], outcome: NDArray[np.int64], models: int
) -> Undefined | None:
    """Why Davidson's likelihood of comparisons has no maximum; None where it has one.

    Without ties there is one just where every model can be reached from every other along wins (Ford 1957, "Solution
    of a ranking problem from binary comparisons"). With ties these count both ways, and moreover ν must not grow
    without bound: there must be no strengths by which all wins have a lead of at least 1 and all ties one of at most
    1, for along those, stretched, with ν to match, the likelihood only rises.

    :param outcome: int [n], 0 where the first one won, 1 for a tie, 2 where the second one did.
    """
    n = len(outcome)
    if n == 0:
        return Undefined(Reason.NO_DATA)
    if models < 2:
        return Undefined(Reason.ONE_MODEL, n)
    tied = outcome == TIE
    if tied.all():
        return Undefined(Reason.ALL_TIES, n)
    better = np.where(outcome == LOSS, second, first)
    worse = np.where(outcome == LOSS, first, second)
    wins = _edges(better[~tied], worse[~tied], models)
    ties = _edges(better[tied], worse[tied], models)
    if undefined := unconnected((wins + ties + ties.T) > 0, n):
        return undefined
    if tied.any() and _ties_without_bound(wins, (ties + ties.T) > 0):
        return Undefined(Reason.ONE_SIDED, n)
    return None


def unconnected(beats: NDArray[np.bool_], n: int) -> Undefined | None:
    """The groups within which every model can be reached from every other; None where that is all of them.

    :param beats: bool [models, models], whether the row's model ever stood above, or beside, the column's.
    """
    count, group = connected_components(sparse.csr_array(beats), directed=True, connection="strong")
    if count == 1:
        return None
    groups = [tuple(np.flatnonzero(group == number).tolist()) for number in range(count)]
    return Undefined(Reason.NOT_CONNECTED, n, tuple(sorted(groups)))


def _edges(from_: NDArray[np.int64], to: NDArray[np.int64], models: int) -> NDArray[np.bool_]:
    found = np.zeros((models, models), dtype=bool)
    found[from_, to] = True
    return found


def _ties_without_bound(wins: NDArray[np.bool_], ties: NDArray[np.bool_]) -> bool:
    """Whether s_j − s_i ≤ −1 for wins and ≤ 1 for ties can hold: just where no cycle of these is negative."""
    lengths = np.where(wins, -1.0, np.where(ties, 1.0, 0.0))
    try:
        bellman_ford(sparse.csr_array(lengths), directed=True)
    except NegativeCycleError:
        return False
    return True
