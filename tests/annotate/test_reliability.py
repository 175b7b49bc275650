"""How often raters are right where nobody knows it: the interval holds what simulated raters are, or none is given."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from annotate.stats.estimate import Estimate, Reason, Undefined
from annotate.stats.reliability import reliabilities

Votes = tuple[np.ndarray, np.ndarray, np.ndarray]


def votes(draw: np.random.Generator, right: list[float], *, items: int, overlap: int) -> Votes:
    """Pairs, raters and outcomes 0 or 2 of raters who are right so often, each pair an item of its own."""
    truth = draw.integers(2, size=items)
    who = np.argsort(draw.random((items, len(right))), axis=1)[:, :overlap]
    correct = draw.random((items, overlap)) < np.array(right)[who]
    outcomes = 2 * np.where(correct, truth[:, None], 1 - truth[:, None])
    return np.repeat(np.arange(items), overlap), who.ravel(), outcomes.ravel()


def measured(given: Votes, raters: int) -> list[Estimate | Undefined]:
    pairs, who, outcomes = given
    return reliabilities(pairs, who, outcomes, pairs, raters=raters)


@pytest.mark.parametrize(
    ("right", "overlap", "items"),
    [
        ([0.8, 0.8, 0.8], 3, 200),
        ([0.9, 0.9, 0.5], 3, 200),
        ([0.8, 0.8, 0.8, 0.8, 0.8, 0.5], 3, 200),
        ([0.8, 0.8, 0.8], 3, 40),
        ([0.95, 0.95, 0.95], 3, 15),
    ],
)
def test_the_interval_holds_what_raters_are_as_often_as_it_says(right: list[float], overlap: int, items: int) -> None:
    draw = np.random.default_rng(1)
    inside = []
    for _data_set in range(20):
        for found, truth in zip(
            measured(votes(draw, right, items=items, overlap=overlap), len(right)), right, strict=True
        ):
            if found.low is not None and found.high is not None:
                inside.append(found.low <= truth <= found.high)
    # Of 60 at 95 %, 57 on average with a standard deviation of 1.7; those of one data set go together.
    assert len(inside) >= 30
    assert np.mean(inside) >= 0.88


@pytest.mark.parametrize("right", [[0.5, 0.5, 0.5], [0.9, 0.5, 0.5]])
def test_where_raters_agree_by_chance_nothing_is_said(right: list[float]) -> None:
    draw = np.random.default_rng(2)
    found = [each for _n in range(40) for each in measured(votes(draw, right, items=200, overlap=3), 3)]
    undefined = [each for each in found if isinstance(each, Undefined)]
    assert {each.reason for each in undefined} == {Reason.BY_CHANCE}
    assert len(undefined) >= 0.9 * len(found)  # 5 % of α's intervals miss, half of them above


@pytest.mark.parametrize(("right", "overlap"), [([0.5, 0.5], 2), ([0.8, 0.8, 0.8, 0.8, 0.8, 0.5], 2)])
def test_two_raters_of_a_pair_do_not_tell_who_is_right(right: list[float], overlap: int) -> None:
    given = votes(np.random.default_rng(3), right, items=200, overlap=overlap)
    assert measured(given, len(right)) == [Undefined(Reason.NO_THREE, 400)] * len(right)


def test_a_rater_who_never_errs_is_as_sure_as_a_share_of_so_many_items() -> None:
    outcomes = np.repeat([0, 2], 18)
    found = reliabilities(
        np.repeat(np.arange(12), 3), np.tile([0, 1, 2], 12), outcomes, np.repeat(range(12), 3), raters=3
    )
    expected = stats.binomtest(12, 12).proportion_ci(method="wilson")
    for each in found:
        assert (each.value, each.n) == (pytest.approx(1), 12)
        assert each.interval == pytest.approx([expected.low, 1])


def test_pairs_of_one_item_tell_no_more_than_one() -> None:
    pairs, who, outcomes = votes(np.random.default_rng(4), [0.9, 0.9, 0.9], items=60, overlap=3)
    once = reliabilities(pairs, who, outcomes, pairs, raters=3)
    often = reliabilities(
        np.concatenate([pairs + 60 * copy for copy in range(4)]),
        *(np.tile(v, 4) for v in (who, outcomes, pairs)),
        raters=3,
    )
    for one, other in zip(once, often, strict=True):
        assert isinstance(one, Estimate)
        assert other.value == pytest.approx(one.value, abs=0.01)
        assert other.interval == pytest.approx(one.interval, abs=0.02)
        assert other.n == 60


def test_each_rater_without_enough_to_go_by_is_told_what_is_missing() -> None:
    pairs, who, outcomes = votes(np.random.default_rng(5), [0.9, 0.9, 0.9], items=30, overlap=3)
    # The fourth judged three of the pairs, the fifth and sixth one that only they judged, the seventh one alone.
    pairs = np.concatenate([pairs, [0, 1, 2, 30, 30, 31]])
    who, outcomes = np.concatenate([who, [3, 3, 3, 4, 5, 6]]), np.concatenate([outcomes, [0, 0, 2, 0, 2, 0]])
    found = reliabilities(pairs, who, outcomes, pairs, raters=8)
    assert all(isinstance(each, Estimate) for each in found[:3])
    assert found[3:] == [
        Undefined(Reason.TOO_FEW, 3),
        Undefined(Reason.NO_THREE),
        Undefined(Reason.NO_THREE),
        Undefined(Reason.NO_OVERLAP),
        Undefined(Reason.NO_DATA),
    ]
