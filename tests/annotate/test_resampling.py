"""Variances over prompts and raters at once, against statsmodels' two-way clustered covariance and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from annotate.stats.resampling import Clusters, bootstrap, sandwich


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
    assert both.degrees == 39


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
