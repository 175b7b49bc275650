"""Reliability without known answers: the data of Dawid and Skene (1979), and a second implementation in plain loops."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

from annotate.stats.dawid_skene import Truth, dawid_skene
from annotate.stats.estimate import Reason, Undefined

ANAESTHETISTS = """
111 1 1 1 1|333 4 3 3 4|112 2 1 2 2|222 3 1 2 1|222 3 2 2 2|222 3 3 2 2|122 2 1 1 1|333 3 4 3 3|222 2 2 2 3|232 2 2 2 3|
444 4 4 4 4|222 3 3 4 3|111 1 1 1 1|222 3 2 1 2|121 1 1 1 1|111 2 1 1 1|111 1 1 1 1|111 1 1 1 1|222 2 2 2 1|222 1 3 2 2|
222 2 2 2 2|222 2 2 2 1|222 3 2 2 2|221 2 2 2 2|111 1 1 1 1|111 1 1 1 1|232 2 2 2 2|111 1 1 1 1|111 1 1 1 1|112 1 1 2 1|
111 1 1 1 1|333 3 2 3 3|111 1 1 1 1|222 2 2 2 2|222 3 2 3 2|433 4 3 4 3|221 2 2 3 2|232 3 2 3 3|333 3 4 3 2|111 1 1 1 1|
111 1 1 1 1|121 2 1 1 1|232 2 2 2 2|121 1 1 1 1|222 2 2 2 2
"""
"""Table 1: fitness of 45 patients for anaesthesia, from 1 to 4, by five observers, of whom the first judged thrice."""


def votes() -> tuple[list[int], list[int], list[int]]:
    """Patients, observers and classes from 0."""
    found = [
        (patient, observer, int(said) - 1)
        for patient, row in enumerate(ANAESTHETISTS.replace("\n", "").split("|"))
        for observer, each in enumerate(row.split())
        for said in each
    ]
    units, raters, labels = zip(*found, strict=True)
    return list(units), list(raters), list(labels)


def by_loops(units, raters, labels, steps=2000):
    """The equations one by one: shares of classes, errors, and the classes of units."""
    unit_range, rater_range, classes = range(max(units) + 1), range(max(raters) + 1), range(max(labels) + 1)
    said = {}
    for u, r, label in zip(units, raters, labels, strict=True):
        said.setdefault(u, []).append((r, label))
    t = [[sum(label == j for _r, label in said[u]) / len(said[u]) for j in classes] for u in unit_range]
    for _step in range(steps):
        p = [sum(t[u][j] for u in unit_range) / len(unit_range) for j in classes]
        e = [[[0.0 for _l in classes] for _j in classes] for _r in rater_range]
        for u in unit_range:
            for r, label in said[u]:
                for j in classes:
                    e[r][j][label] += t[u][j]
        e = [[[x / sum(row) if sum(row) else 0.0 for x in row] for row in of_rater] for of_rater in e]
        for u in unit_range:
            weight = [p[j] * prod(e[r][j][label] for r, label in said[u]) for j in classes]
            t[u] = [w / sum(weight) for w in weight]
    return np.array(p), np.array(e), np.array(t)


def test_the_anaesthetists_are_as_published():
    found = dawid_skene(*votes())
    assert isinstance(found, Truth)
    assert found.converged
    assert found.shares.round(2).tolist() == [0.40, 0.42, 0.11, 0.07]  # table 2


def test_it_equals_the_equations_in_plain_loops():
    found = dawid_skene(*votes())
    shares, errors, classes = by_loops(*votes())
    assert found.shares == pytest.approx(shares, abs=1e-6)
    assert found.errors == pytest.approx(errors, abs=1e-6)
    assert found.classes == pytest.approx(classes, abs=1e-6)


def test_it_finds_who_guesses():
    draw = np.random.default_rng(0)
    truth = draw.integers(2, size=500)
    accuracy = np.array([0.95, 0.85, 0.75, 0.5])
    units, raters = np.repeat(np.arange(500), 4), np.tile(np.arange(4), 500)
    labels = np.where(draw.random(2000) < accuracy[raters], truth[units], 1 - truth[units])
    found = dawid_skene(units, raters, labels)
    assert found.reliability == pytest.approx(accuracy, abs=0.05)


def test_a_unit_that_nobody_judged_and_a_rater_who_said_nothing_are_known_as_unknown():
    units, raters, labels = votes()
    found = dawid_skene([u + 1 for u in units], [r + 1 for r in raters], labels)
    assert found.classes[0].tolist() == found.shares.tolist()
    assert np.isnan(found.reliability[0])


def test_what_cannot_be_said_is_said_with_its_reason():
    assert dawid_skene([], [], []) == Undefined(Reason.NO_DATA)
    assert dawid_skene([0, 1], [3, 3], [0, 1]) == Undefined(Reason.ONE_RATER, 2)
    assert dawid_skene([0, 1], [2, 3], [0, 1]) == Undefined(Reason.NO_OVERLAP, 2)
    assert dawid_skene([0, 0], [2, 3], [1, 1]) == Undefined(Reason.NO_VARIATION, 2)
