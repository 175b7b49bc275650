"""Second implementations that no library has: each formula written out, slow and plain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from math import exp, inf, log, prod, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, root

Floats = NDArray[np.float64]
Table = Sequence[Sequence[float]]
"""A row of ratings for each unit, without those that are missing."""


def fagin(first: Sequence[float], second: Sequence[float]) -> float:
    """Share of pairs ordered alike, half for a pair that only one ranking ties."""
    found = []
    for i, j in combinations(range(len(first)), 2):
        a, b = first[i] - first[j], second[i] - second[j]
        found.append(1.0 if a * b > 0 or a == b == 0 else 0.0 if a * b < 0 else 0.5)
    return sum(found) / len(found)


def kendall_tau_b(first: Sequence[float], second: Sequence[float]) -> float:
    """Concordant less discordant pairs over the geometric mean of the pairs that each does not tie."""
    signs = [
        ((first[i] > first[j]) - (first[i] < first[j]), (second[i] > second[j]) - (second[i] < second[j]))
        for i, j in combinations(range(len(first)), 2)
    ]
    return sum(a * b for a, b in signs) / sqrt(sum(a != 0 for a, _b in signs) * sum(b != 0 for _a, b in signs))


def gwet(table: Table, *, ac1: bool) -> float:
    """AC1, or Fleiss's κ, of units with different numbers of ratings: Gwet (2014), chapter 2."""
    categories = sorted({value for row in table for value in row})
    agreed = [
        sum(n * (n - 1) for n in Counter(row).values()) / (len(row) * (len(row) - 1)) for row in table if len(row) > 1
    ]
    held = [sum(row.count(c) / len(row) for row in map(list, table)) / len(table) for c in categories]
    if ac1:
        by_chance = sum(share * (1 - share) for share in held) / (len(categories) - 1)
    else:
        by_chance = sum(share**2 for share in held)
    mean = sum(agreed) / len(agreed)
    return (mean - by_chance) / (1 - by_chance)


def dawid_skene(
    units: Sequence[int], raters: Sequence[int], labels: Sequence[int], *, steps: int
) -> tuple[Floats, Floats]:
    """Shares of classes, and each rater's probability to be right: the equations one by one."""
    classes = range(max(labels) + 1)
    said: dict[int, list[tuple[int, int]]] = {}
    for unit, rater, label in zip(units, raters, labels, strict=True):
        said.setdefault(unit, []).append((rater, label))
    belief = {u: [sum(label == j for _r, label in own) / len(own) for j in classes] for u, own in said.items()}
    for _step in range(steps):
        shares = [sum(of[j] for of in belief.values()) / len(belief) for j in classes]
        errors = np.zeros((max(raters) + 1, len(classes), len(classes)))
        for unit, own in said.items():
            for rater, label in own:
                errors[rater, :, label] += belief[unit]
        errors /= errors.sum(axis=2, keepdims=True)
        for unit, own in said.items():
            weight = [shares[j] * prod(errors[rater, j, label] for rater, label in own) for j in classes]
            belief[unit] = [w / sum(weight) for w in weight]
    right = [sum(shares[j] * of_rater[j, j] for j in classes) for of_rater in errors]
    return np.array(shares), np.array(right)


def davidson(first: Sequence[int], second: Sequence[int], outcome: Sequence[int], *, models: int) -> Floats:
    """[models], strengths above the first model's and log ν, where all first derivatives of the likelihood are 0."""

    def slope(at: Floats) -> Floats:
        theta, nu = np.concatenate([[0.0], at[:-1]]), exp(at[-1])
        found = np.zeros(models + 1)
        for i, j, result in zip(first, second, outcome, strict=True):
            up, down = exp((theta[i] - theta[j]) / 2), exp((theta[j] - theta[i]) / 2)
            all_three = up + down + nu
            pull = (1 - result) / 2 - (up - down) / (2 * all_three)
            found[i] += pull
            found[j] -= pull
            found[models] += (result == 1) - nu / all_three
        return found[1:]

    return _zero(slope, models)


def plackett_luce(places: Sequence[Sequence[float]], models: int) -> Floats:
    """[models − 1], strengths above the first model's of rankings with ties: −Σ_g [Σ_g θ − |g|·logsumexp(g and below)].

    Unranked answers are NaN.
    """

    def slope(at: Floats) -> Floats:
        theta = np.concatenate([[0.0], at])
        found = np.zeros(models)
        for row in places:
            for level in sorted({place for place in row if place == place}):
                group = [m for m in range(models) if row[m] == level]
                below = [m for m in range(models) if row[m] >= level]
                total = sum(exp(theta[m]) for m in below)
                for m in group:
                    found[m] += 1
                for m in below:
                    found[m] -= len(group) * exp(theta[m]) / total
        return found[1:]

    return _zero(slope, models - 1)


def betting_lower(outcomes: Sequence[float], *, planned: int | None) -> Floats:
    """[n], the highest mean so far against which a capital of 1 has grown to 40: Waudby-Smith and Ramdas (2024)."""
    bets = _bets(outcomes, planned=planned)
    found, best = [], 0.0
    for t in range(1, len(outcomes) + 1):

        def above(mean: float, t: int = t) -> float:
            most = 0.5 / mean if mean > 0 else inf
            return sum(log(1 + min(bets[k], most) * (outcomes[k] - mean)) for k in range(t)) - log(40)

        if above(best) > 0:
            best = brentq(above, best, 1, xtol=1e-13)
        found.append(best)
    return np.array(found)


def bernstein_lower(outcomes: Sequence[float]) -> Floats:
    """[n], theorem 2 of the same: of weights that were fixed before each outcome, mean less what luck explains."""
    weights = [min(bet, 0.5) for bet in _bets(outcomes, planned=None)]
    found, best, total, weighted, cost = [], 0.0, 0.0, 0.0, log(40)
    for t, (x, weight) in enumerate(zip(outcomes, weights, strict=True)):
        before = (0.5 + sum(outcomes[:t])) / (t + 1)
        cost += (x - before) ** 2 * (-log(1 - weight) - weight)
        total, weighted = total + weight, weighted + weight * x
        best = max(best, (weighted - cost) / total)
        found.append(best)
    return np.array(found)


def _bets(outcomes: Sequence[float], *, planned: int | None) -> list[float]:
    """√(2 ln 40 / (σ̂² t ln(1 + t))), σ̂² as if an outcome of ½ with variance ¼ had come before."""
    found, squares = [], 0.25
    for t, x in enumerate(outcomes, start=1):
        found.append(sqrt(2 * log(40) / (squares / t * (planned or t * log(1 + t)))))
        squares += (x - (0.5 + sum(outcomes[:t])) / (t + 1)) ** 2
    return found


def _zero(slope: Callable[[Floats], Floats], size: int) -> Floats:
    found = root(slope, np.zeros(size), tol=1e-13)
    if np.abs(slope(found.x)).max() > 1e-8:
        raise ArithmeticError("The derivatives are not 0 where they should be.")
    return np.asarray(found.x)


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence, by trying all of the shorter one's."""
    short, long = sorted((one, other), key=len)
    for size in range(len(short), 0, -1):
        for places in combinations(range(len(short)), size):
            rest = iter(long)
            if all(short[place] in rest for place in places):
                return size
    return 0
