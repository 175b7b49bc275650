"""How far each estimator is from its second implementation, on simulated data.

Where a library has the estimator, it is that; else the formula is written out in :mod:`tests.bench.stats_reference`.
"""

from __future__ import annotations

from collections.abc import Iterator

import choix
import evalica
import krippendorff
import numpy as np
import statsmodels.api as sm
from sacrebleu.metrics.bleu import BLEU
from scipy import stats
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score, precision_recall_curve, precision_recall_fscore_support
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as fleiss_of_statsmodels
from statsmodels.stats.proportion import proportion_confint

from annotate.stats.agreement import agreement, kendall_tau_b, kendall_w
from annotate.stats.bias import position_bias, self_agreement
from annotate.stats.bradley_terry import ELO, Strengths, strengths, strengths_beside_style
from annotate.stats.calibration import calibration, temperature
from annotate.stats.coefficients import Metric, cohen_kappa, fleiss_kappa, gwet_ac1, krippendorff_alpha
from annotate.stats.dawid_skene import Truth, dawid_skene
from annotate.stats.estimate import Estimate, Undefined
from annotate.stats.intervals import clustered_mean, clustered_share, mean_interval, share_interval
from annotate.stats.plackett_luce import plackett_luce
from annotate.stats.raters import drift
from annotate.stats.resampling import Clusters, Floats, Members, sandwich
from annotate.stats.reward_models import Classification, best_threshold, classification, reliability
from annotate.stats.sequences import bernstein_sequence, betting_sequence
from annotate.stats.texts import rouge_l, text_metrics
from annotate.stats.uncertainty import mean_pair_entropy
from annotate.stats.winrates import two_way_mean, win_rate
from tests.bench import stats_reference as reference
from tests.bench.bar import Bar

METRICS: tuple[Metric, ...] = ("nominal", "ordinal", "interval")
Differences = Iterator[tuple[str, float]]


def bars() -> list[Bar]:
    """The largest difference of what is computed, and of what is fitted or solved for."""
    exact, fitted = computed(), fits()
    for name, difference in {**exact, **fitted}.items():
        print(f"{name}: {difference:.1e}")
    return [
        Bar(f"largest of {len(exact)} differences from second implementations", 1e9 * max(exact.values()), "·10⁻⁹", 1),
        Bar(f"largest of {len(fitted)}, fitted or solved for", 1e6 * max(fitted.values()), "·10⁻⁶", 1),
    ]


def computed() -> dict[str, float]:
    """By the name of the estimator and its second implementation."""
    return dict([*_agreement(), *_intervals(), *_reward_models(), *_texts()])


def fits() -> dict[str, float]:
    """The same of strengths, reliability, temperature and bets."""
    return dict([*_strengths(), *_others()])


def _agreement() -> Differences:
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
    again = self_agreement(table[0], table[1])
    expected = [np.mean(table[0] == table[1]), cohen_kappa_score(*table[:2])]
    yield "self-agreement, scikit-learn", apart([again.same.value, again.beyond_chance.value], expected)
    every_rater, every_unit = np.indices(table.shape).reshape(2, -1)
    fleiss = fleiss_kappa(every_unit, every_rater, table.ravel(), rounds=2)
    yield "Fleiss's κ, statsmodels", apart(fleiss.value, fleiss_of_statsmodels(aggregate_raters(table.T)[0]))
    rows = [column[~np.isnan(column)].tolist() for column in gaps.T]
    for name, coefficient, ac1 in (("Fleiss's κ with gaps", fleiss_kappa, False), ("Gwet's AC1", gwet_ac1, True)):
        found = coefficient(units, raters, gaps[raters, units], rounds=2)
        yield f"{name}, written out", apart(found.value, reference.gwet(rows, ac1=ac1))
    one, other = table[0, :60].tolist(), table[1, :60].tolist()
    yield "τ-b, written out", apart(kendall_tau_b(one, other), reference.kendall_tau_b(one, other))
    yield "agreement of rankings, written out", apart(agreement(one, other), reference.fagin(one, other))
    friedman = stats.friedmanchisquare(*table[:, :40].T).statistic
    yield "W, SciPy", apart(kendall_w(table[:, :40]), friedman / (6 * 39))


def _intervals() -> Differences:
    draw = np.random.default_rng(6)
    wilson = stats.binomtest(23, 32).proportion_ci(method="wilson")
    outcomes = [1] * 23 + [0] * 9
    for name, interval in (("Wilson", share_interval(outcomes)), ("position bias", position_bias(outcomes))):
        yield f"{name}, SciPy", apart([interval.value, *_ends(interval)], [23 / 32, wilson.low, wilson.high])
    votes, of = draw.integers(0, 3, 400) / 2, draw.integers(0, 90, 400)
    by_prompt = [votes[of == prompt].mean() for prompt in np.unique(of)]
    rate, n = win_rate(votes, of), len(by_prompt)
    expected = proportion_confint(n * np.mean(by_prompt), n, method="wilson")
    yield "win-rate with ties, statsmodels", apart([rate.value, *_ends(rate)], [np.mean(by_prompt), *expected])
    x = draw.normal(size=40)
    t = stats.ttest_1samp(x, 0).confidence_interval()
    yield "mean, SciPy", apart(_ends(mean_interval(x)), [t.low, t.high])
    welch = stats.ttest_ind(x[20:], x[:20], equal_var=False)
    change = welch.confidence_interval()
    moved = drift(x / 10)
    yield "drift, SciPy", apart(_ends(moved), [change.low / 10, change.high / 10])
    clustered = sm.OLS(votes, np.ones(400)).fit(
        cov_type="cluster", cov_kwds={"groups": of, "df_correction": True}, use_t=True
    )
    yield "clustered mean, statsmodels", apart(_ends(clustered_mean(votes, of)), clustered.conf_int()[0])
    p, quantile = votes.mean(), stats.norm.ppf(0.975) / stats.t.ppf(0.975, n - 1)
    worth = min(p * (1 - p) / clustered.cov_params()[0, 0], 400) * quantile**2
    expected = proportion_confint(p * worth, worth, method="wilson")
    yield "clustered share, statsmodels", apart(_ends(clustered_share(votes, of)), expected)
    raters = draw.integers(0, 30, 400)
    cells = np.unique(np.column_stack([of, raters]), axis=0, return_inverse=True)[1]
    psi = (votes - p)[:, None] / 400
    variances = [_variance(votes, groups) for groups in (of, raters, cells)]
    both = variances[0] + max(variances[1] - variances[2], 0)
    degrees = both**2 / (variances[0] ** 2 / (n - 1) + variances[1] ** 2 / 29)
    spread = sandwich(psi, Clusters.of(of, raters))
    yield (
        "variance over prompts and raters, statsmodels",
        apart([spread.variances[0], spread.degrees[0]], [both, degrees]),
    )
    yield "mean over prompts and raters, NumPy", apart(two_way_mean(votes, of, raters, rounds=2).value, p)


def _variance(values: Floats, groups: Members) -> float:
    """Of a clustered mean, by statsmodels."""
    fitted = sm.OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": groups})
    return float(fitted.cov_params()[0, 0])


def _reward_models() -> Differences:
    draw = np.random.default_rng(7)
    p = draw.random(500)
    y = (draw.random(500) < p**2).astype(float)
    right, stated = calibration_curve(y, p, n_bins=10)
    counts = np.histogram(p, bins=10, range=(0, 1))[0]
    error = (counts * np.abs(right - stated)).sum() / 500
    yield "calibration error, scikit-learn", apart(calibration(p, y).error, error)  # type: ignore[union-attr]
    margins = draw.normal(size=500)
    sure = expit(np.abs(margins))
    means = stats.binned_statistic(sure, [sure, margins > 0], bins=10, range=(0.5, 1)).statistic
    counts = np.histogram(sure, bins=10, range=(0.5, 1))[0]
    expected = np.nansum(counts * np.abs(means[0] - means[1])) / 500
    yield "calibration error of choices, SciPy", apart(reliability(margins, np.arange(500)).error, expected)  # type: ignore[union-attr]
    scores, good = draw.normal(size=300).round(1), draw.random(300) < 0.4
    scores += good
    precision, recall, thresholds = precision_recall_curve(good, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    best = float(thresholds[np.argmax(f1[:-1])])
    yield "threshold of the greatest F1, scikit-learn", apart(best_threshold(scores, good), best)
    found = classification(scores, good, np.arange(300), threshold=best)
    assert isinstance(found, Classification)
    expected = precision_recall_fscore_support(good, scores >= best, average="binary")[:3]
    ours = [found.precision.value, found.recall.value, found.f1.value]
    yield "precision, recall and F1, scikit-learn", apart(ours, expected)
    chance = expit(scores[:6, None] - scores[None, :6])[np.triu_indices(6, k=1)]
    entropy = np.mean([stats.entropy([each, 1 - each], base=2) for each in chance])
    yield "entropy of pairs, SciPy", apart(mean_pair_entropy(scores[:6].tolist()), entropy)


def _texts() -> Differences:
    draw = np.random.default_rng(8)
    words = ["fox", "hare", "runs", "sits", "the", "a"]
    answers, known = ([" ".join(draw.choice(words, size)) for size in draw.integers(3, 9, 30)] for _side in range(2))
    bleu = text_metrics(answers, known, rounds=2)["BLEU"]
    yield "BLEU, sacrebleu", apart(bleu.value, BLEU().corpus_score(answers, [known]).score)
    pairs = [(one.split(), other.split()) for one, other in zip(answers, known, strict=True)]
    expected = [2 * reference.longest_common(*pair) / (len(pair[0]) + len(pair[1])) for pair in pairs]
    yield "ROUGE-L, all subsequences", apart([rouge_l(*pair) for pair in pairs], expected)


def _strengths() -> Differences:
    draw = np.random.default_rng(5)
    n, models = 2_000, 6
    utility = np.linspace(1, 0, models) + draw.gumbel(size=(n, models))
    order = (-utility).argsort(axis=1)
    prompts = np.arange(n)
    ranks = order.argsort(axis=1) + 1.0
    ranked = plackett_luce(ranks[:200], prompts=prompts[:200], raters=None)
    expected = choix.opt_rankings(models, order[:200].tolist(), tol=1e-12)
    yield "Plackett–Luce, choix", apart(_logarithms(ranked), expected - expected[0])
    tied = np.where(draw.random((200, models)) < 0.2, np.nan, np.ceil(ranks[:200] / 2))
    ours = _logarithms(plackett_luce(tied, prompts=prompts[:200], raters=None))
    yield "Plackett–Luce with ties, written out", apart(ours[1:], reference.plackett_luce(tied.tolist(), models))
    winner, loser = order[:, 0], order[:, 3]
    compared = strengths(winner, loser, np.zeros(n), models=models, rounds=2, prompts=prompts, raters=None)
    expected = choix.opt_pairwise(models, np.column_stack([winner, loser]).tolist(), tol=1e-12)
    yield "Bradley–Terry, choix", apart(_logarithms(compared), expected - expected[0])
    all_won = [evalica.Winner.X] * n
    scores = evalica.bradley_terry(winner.tolist(), loser.tolist(), all_won, tolerance=1e-14, limit=100_000).scores
    expected = np.log([scores[model] for model in range(models)])
    yield "Bradley–Terry, evalica", apart(_logarithms(compared), expected - expected[0])
    style = draw.normal(size=n)
    beside = strengths_beside_style(
        winner, loser, np.zeros(n), style[:, None], models=models, prompts=prompts, raters=None
    )
    assert isinstance(beside, Strengths)
    one_way = draw.random(n) < 0.5
    design = np.column_stack([np.eye(models)[winner][:, 1:] - np.eye(models)[loser][:, 1:], style])
    turned = np.where(one_way, 1.0, -1.0)[:, None] * design
    logit = sm.Logit(one_way.astype(float), turned).fit(disp=0, tol=1e-14, maxiter=100)
    ours = [*_logarithms(beside)[1:], *(e.value / ELO for e in beside.style)]
    yield "Bradley–Terry with style, statsmodels", apart(ours, logit.params)
    outcome = np.where(draw.random(400) < 0.3, 1, np.where(draw.random(400) < 0.6, 0, 2))
    games = winner[:400], loser[:400], outcome
    davidson = strengths(*games, models=models, rounds=2, prompts=prompts[:400], raters=None)
    assert isinstance(davidson, Strengths)
    ours = [*_logarithms(davidson)[1:], np.log(davidson.tie)]
    yield (
        "Davidson's ties, written out",
        apart(ours, reference.davidson(*(side.tolist() for side in games), models=models)),
    )


def _logarithms(found: object) -> list[float]:
    """Strengths in natural logarithms."""
    models = found.models if isinstance(found, Strengths) else found
    assert isinstance(models, tuple)
    return [estimate.value / ELO for estimate in models]


def _others() -> Differences:
    draw = np.random.default_rng(9)
    truth = draw.integers(0, 3, 200)
    units, raters = np.indices((200, 5)).reshape(2, -1)
    said = np.where(draw.random(1000) < 0.5 + raters / 10, truth[units], draw.integers(0, 3, 1000))
    found = dawid_skene(units, raters, said)
    assert isinstance(found, Truth)
    shares, right = reference.dawid_skene(units.tolist(), raters.tolist(), said.tolist(), steps=200)
    yield "Dawid–Skene, written out", apart([*found.shares, *found.reliability], [*shares, *right])
    margins = 3 * draw.normal(size=2000)
    outcomes = (draw.random(2000) < expit(margins / 2.5)).astype(float)
    logistic = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-12, max_iter=1000)
    logistic.fit(margins[:, None], outcomes)
    yield "temperature, scikit-learn", apart(temperature(margins, outcomes), 1 / logistic.coef_[0, 0])
    x = draw.choice([0, 0.5, 1], size=60, p=[0.25, 0.2, 0.55])
    for planned in (None, 60):
        bounds = betting_sequence(x, planned=planned)
        low, high = (reference.betting_lower(side.tolist(), planned=planned) for side in (x, 1 - x))
        yield f"bets, planned {planned}, written out", apart([*bounds.low, *bounds.high], [*low, *(1 - high)])
    bounds = bernstein_sequence(x)
    low, high = (reference.bernstein_lower(side.tolist()) for side in (x, 1 - x))
    yield "empirical Bernstein, written out", apart([*bounds.low, *bounds.high], [*low, *(1 - high)])


def _ends(found: Estimate | Undefined) -> list[float]:
    assert found.interval is not None
    return found.interval


def apart(ours: object, theirs: object) -> float:
    """The largest absolute difference; without bound where one of them is no number."""
    differences = np.abs(np.subtract(np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)))
    return float(np.where(np.isnan(differences), np.inf, differences).max())
