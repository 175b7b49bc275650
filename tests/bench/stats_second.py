"""How far each estimator is from its second implementation, on simulated data."""

from __future__ import annotations

from collections.abc import Iterator

import choix
import krippendorff
import numpy as np
import statsmodels.api as sm
from scipy import stats
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as fleiss_of_statsmodels

from annotate.stats.agreement import kendall_w
from annotate.stats.bradley_terry import ELO, Strengths, strengths, strengths_beside_style
from annotate.stats.calibration import temperature
from annotate.stats.coefficients import Metric, cohen_kappa, fleiss_kappa, krippendorff_alpha
from annotate.stats.intervals import share_interval
from annotate.stats.plackett_luce import plackett_luce
from tests.bench.bar import Bar

METRICS: tuple[Metric, ...] = ("nominal", "ordinal", "interval")


def bars() -> list[Bar]:
    """The largest difference of what is computed, and of what is fitted."""
    exact, fitted = dict(computed()), dict(fits())
    for name, difference in {**exact, **fitted}.items():
        print(f"{name}: {difference:.1e}")
    return [
        Bar(f"largest of {len(exact)} differences from second implementations", 1e9 * max(exact.values()), "·10⁻⁹", 1),
        Bar(f"largest of {len(fitted)}, fitted", 1e6 * max(fitted.values()), "·10⁻⁶", 1),
    ]


def computed() -> Iterator[tuple[str, float]]:
    """Agreement and intervals."""
    draw = np.random.default_rng(4)
    table = np.clip(draw.integers(1, 5, 300) + draw.integers(-1, 2, (6, 300)), 1, 5).astype(float)
    gaps = np.where(draw.random(table.shape) < 0.3, np.nan, table)
    raters, units = np.nonzero(~np.isnan(gaps))
    for metric in METRICS:
        ours = krippendorff_alpha(units, raters, gaps[raters, units], metric, rounds=2)
        yield f"{metric} α, krippendorff", apart(ours.value, krippendorff.alpha(gaps, level_of_measurement=metric))
    for weights in (None, "quadratic"):
        kappa = cohen_kappa(table[0], table[1], quadratic=weights is not None, rounds=2)
        yield f"κ of two, {weights}, scikit-learn", apart(kappa.value, cohen_kappa_score(*table[:2], weights=weights))
    every_rater, every_unit = np.indices(table.shape).reshape(2, -1)
    fleiss = fleiss_kappa(every_unit, every_rater, table.ravel(), rounds=2)
    yield "Fleiss's κ, statsmodels", apart(fleiss.value, fleiss_of_statsmodels(aggregate_raters(table.T)[0]))
    friedman = stats.friedmanchisquare(*table[:, :40].T).statistic
    yield "W, SciPy", apart(kendall_w(table[:, :40]), friedman / (6 * 39))
    wilson = stats.binomtest(23, 32).proportion_ci(method="wilson")
    yield "Wilson, SciPy", apart(share_interval([1] * 23 + [0] * 9).interval, [wilson.low, wilson.high])


def fits() -> Iterator[tuple[str, float]]:
    """Strengths and temperature."""
    draw = np.random.default_rng(5)
    n, models = 2_000, 6
    utility = np.linspace(1, 0, models) + draw.gumbel(size=(n, models))
    order = (-utility).argsort(axis=1)
    prompts = np.arange(n)
    ranked = plackett_luce(order.argsort(axis=1) + 1.0, prompts=prompts, raters=None)
    assert isinstance(ranked, tuple)
    expected = choix.opt_rankings(models, order.tolist(), tol=1e-12)
    yield "Plackett–Luce, choix", apart([e.value / ELO for e in ranked], expected - expected[0])
    winner, loser = order[:, 0], order[:, 3]
    compared = strengths(winner, loser, np.zeros(n), models=models, rounds=2, prompts=prompts, raters=None)
    assert isinstance(compared, Strengths)
    expected = choix.opt_pairwise(models, np.column_stack([winner, loser]).tolist(), tol=1e-12)
    yield "Bradley–Terry, choix", apart([e.value / ELO for e in compared.models], expected - expected[0])
    style = draw.normal(size=n)
    beside = strengths_beside_style(
        winner, loser, np.zeros(n), style[:, None], models=models, prompts=prompts, raters=None
    )
    assert isinstance(beside, Strengths)
    one_way = draw.random(n) < 0.5
    design = np.column_stack([np.eye(models)[winner][:, 1:] - np.eye(models)[loser][:, 1:], style])
    turned = np.where(one_way, 1.0, -1.0)[:, None] * design
    logit = sm.Logit(one_way.astype(float), turned).fit(disp=0, tol=1e-14, maxiter=100)
    ours = [e.value / ELO for e in (*beside.models[1:], *beside.style)]
    yield "Bradley–Terry with style, statsmodels", apart(ours, logit.params)
    margins = 3 * draw.normal(size=n)
    outcomes = (draw.random(n) < expit(margins / 2.5)).astype(float)
    logistic = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-12, max_iter=1000)
    logistic.fit(margins[:, None], outcomes)
    yield "temperature, scikit-learn", apart(temperature(margins, outcomes), 1 / logistic.coef_[0, 0])


def apart(ours: object, theirs: object) -> float:
    """The largest absolute difference."""
    return float(np.abs(np.subtract(np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float))).max())
