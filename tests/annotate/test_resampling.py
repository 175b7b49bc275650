"""Variances over prompts and raters at once, against statsmodels' two-way clustered covariance and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from annotate.stats.bradley_terry import strengths
from annotate.stats.resampling import Clusters, Spread, bootstrap, sandwich


def crossed(seed: int, *, by_prompt: float, by_rater: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values of 3,000 judgements of 300 prompts by 40 raters, with effects of both."""
    draw = np.random.default_rng(seed)
    prompts = np.repeat(np.arange(300), 10)
    raters = np.concatenate([draw.choice(40, 10, replace=False) for _prompt in range(300)])
    effects = by_prompt * draw.normal(size=300)[prompts] + by_rater * draw.normal(size=40)[raters]
    return effects + draw.normal(size=3000), prompts, raters


def mean(totals: np.ndarray) -> np.ndarray:
    """Sums over counts."""
    return totals[:, :1] / totals[:, 1:]


def test_the_sandwich_is_that_of_statsmodels():
    values, prompts, raters = crossed(0, by_prompt=0.5, by_rater=0.3)
    fitted = sm.OLS(values, np.ones(3000)).fit(
        cov_type="cluster", cov_kwds={"groups": np.column_stack([prompts, raters]), "use_correction": False}
    )
    influence = (values - values.mean())[:, None] / len(values)
    parts = [
        sandwich(influence, Clusters.of(of_prompts, of_raters)).variances[0] * (count - 1) / count
        for of_prompts, of_raters, count in (
            (prompts, None, 300),
            (None, raters, 40),
            (prompts * 40 + raters, None, 3000),
        )
    ]
    assert parts[0] + parts[1] - parts[2] == pytest.approx(fitted.cov_params()[0, 0], rel=1e-9)
    both = sandwich(influence, Clusters.of(prompts, raters))
    expected = parts[0] * 300 / 299 + parts[1] * 40 / 39 - parts[2] * 3000 / 2999
    assert both.variances[0] == pytest.approx(expected, rel=1e-9)
    # Satterthwaite (1946): as many degrees as make the mean square of the sum what the parts' are.
    by_prompt, by_rater = parts[0] * 300 / 299, parts[1] * 40 / 39
    assert both.degrees[0] == pytest.approx(expected**2 / (by_prompt**2 / 299 + by_rater**2 / 39), rel=1e-9)


def of_raters(draw: np.random.Generator, raters: int, *, by_rater: float) -> tuple[float, Spread, float]:
    """How far the mean of 200 prompts, judged by three of the raters or by both, is from its own, and from the raters'.

    Prompts have effects of standard deviation ½; each judgement's own is 1.
    """
    votes = min(raters, 3)
    prompts = np.repeat(np.arange(200), votes)
    pool = by_rater * draw.normal(size=raters)
    judges = np.argsort(draw.random((200, raters)), axis=1)[:, :votes].ravel()
    values = draw.normal(0, 0.5, 200)[prompts] + pool[judges] + draw.normal(size=len(prompts))
    error = values.mean()
    influence = (values - error)[:, None] / len(values)
    return error, sandwich(influence, Clusters.of(prompts, judges)), error - pool.mean()


def reach(spread: Spread) -> float:
    """Half of the interval."""
    (estimate,) = spread.estimates([0.0], 1)
    assert estimate.high is not None
    return estimate.high


@pytest.mark.parametrize("raters", [3, 4, 6, 10, 30])
@pytest.mark.parametrize("by_rater", [0.0, 0.15, 0.5])
def test_intervals_of_few_raters_cover_and_are_of_use(raters, by_rater):
    draw = np.random.default_rng(100 * raters)
    found = [of_raters(draw, raters, by_rater=by_rater) for _study in range(500)]
    reaches = np.array([reach(spread) for _error, spread, _own in found])
    inside = np.abs([error for error, _spread, _own in found]) <= reaches
    assert 0.92 <= inside.mean() <= 0.99  # of 500 at 95 %, 0.93 and more in 98 of 100
    if by_rater == 0:
        # Prompts alone would give 1.96·√((¼ + ⅓)/200) = 0.106.
        assert np.median(reaches) < 1.4 * 0.106


@pytest.mark.parametrize("by_rater", [0.0, 0.5])
def test_of_two_raters_the_interval_is_for_these_two(by_rater):
    draw = np.random.default_rng(1)
    found = [of_raters(draw, 2, by_rater=by_rater) for _study in range(500)]
    inside = [abs(own) <= reach(spread) for _error, spread, own in found]
    assert 0.92 <= np.mean(inside) <= 0.98
    assert [spread.degrees[0] for _error, spread, _own in found] == [199] * 500


def test_two_raters_without_an_effect_of_their_own_say_as_much_as_one_of_twice_the_prompts():
    # 600 independent votes at 60 %: 400·log10(0.6/0.4) = 70 points, ± 1.96 · 400/ln 10 · √(1/(600 · 0.24)) = 28.
    draw = np.random.default_rng(5)
    outcome = np.where(draw.random(600) < 0.6, 0, 2)
    prompts, raters = np.repeat(np.arange(300), 2), np.tile([0, 1], 300)
    found = strengths(np.ones(600, int), np.zeros(600, int), outcome, models=2, prompts=prompts, raters=raters)
    strength = found.models[1]
    assert (strength.high - strength.low) / 2 == pytest.approx(28.4, rel=0.1)


@pytest.mark.parametrize(("by_prompt", "by_rater"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)])
def test_the_bootstrap_agrees_with_the_sandwich(by_prompt, by_rater):
    values, prompts, raters = crossed(1, by_prompt=by_prompt, by_rater=by_rater)
    clusters = Clusters.of(prompts, raters)
    rows = np.column_stack([values, np.ones(3000)])
    found = bootstrap(rows, mean, clusters, rounds=4000).variances[0]
    expected = sandwich((values - values.mean())[:, None] / 3000, clusters).variances[0]
    assert found == pytest.approx(expected, rel=0.2)


def test_names_may_be_anything_and_the_seed_decides():
    values, prompts, raters = crossed(2, by_prompt=0.5, by_rater=0.5)
    rows = np.column_stack([values, np.ones(3000)])
    names = Clusters.of([f"prompt {p}" for p in prompts], [f"rater {r}" for r in raters])
    by_name = bootstrap(rows, mean, names, rounds=50, seed=3).variances[0]
    numbered = Clusters.of(np.char.add("prompt ", prompts.astype(str)), np.char.add("rater ", raters.astype(str)))
    assert bootstrap(rows, mean, numbered, rounds=50, seed=3).variances[0] == by_name
    assert bootstrap(rows, mean, numbered, rounds=50, seed=4).variances[0] != by_name


def test_one_prompt_gives_no_interval():
    rows = np.column_stack([[1.0, 0.0, 1.0], np.ones(3)])
    (estimate,) = bootstrap(rows, mean, Clusters.of([5, 5, 5], None), rounds=10).estimates([2 / 3], 3)
    assert (estimate.value, estimate.interval) == (2 / 3, None)
