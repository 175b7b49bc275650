"""Strengths of models, against published fits, statsmodels, choix and evalica."""

from __future__ import annotations

import choix
import evalica
import numpy as np
import pytest
import statsmodels.api as sm

from annotate.stats.bradley_terry import ELO, Strengths, strengths, strengths_beside_style, style_difference
from annotate.stats.connection import LOSS, TIE, WIN
from annotate.stats.estimate import Reason, Undefined
from annotate.stats.plackett_luce import plackett_luce
from tests.bench.stats_reference import plackett_luce as by_formula

NONE = float("nan")
BASEBALL = np.array(
    [
        [0, 7, 9, 7, 7, 9, 11],
        [6, 0, 7, 5, 11, 9, 9],
        [4, 6, 0, 7, 7, 8, 12],
        [6, 8, 6, 0, 6, 7, 10],
        [6, 2, 6, 7, 0, 7, 12],
        [4, 4, 5, 6, 6, 0, 6],
        [2, 4, 1, 3, 1, 7, 0],
    ]
)
"""Games of the American League East in 1987 that the row won against the column: Milwaukee, Detroit, Toronto, New York,
Boston, Cleveland, Baltimore (Agresti 2002, "Categorical Data Analysis", table 10.10)."""
PUBLISHED = [1.5814, 1.4364, 1.2945, 1.2476, 1.1077, 0.6839, 0.0]
PUBLISHED_ERRORS = [0.3433, 0.3396, 0.3367, 0.3359, 0.3339, 0.3319]
"""Turner and Firth (2012), "Bradley–Terry models in R: the BradleyTerry2 package", section 2."""


def games(wins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Winner and loser of each game."""
    winner, loser = np.nonzero(wins)
    times = wins[winner, loser]
    return np.repeat(winner, times), np.repeat(loser, times)


def simulated(seed: int, n: int = 600, models: int = 5) -> tuple[np.ndarray, ...]:
    """First, second, outcome, with a third of ties, prompts, raters and one covariate of style."""
    draw = np.random.default_rng(seed)
    first = draw.integers(models, size=n)
    second = (first + draw.integers(1, models, n)) % models
    style = draw.normal(size=n)
    d = 0.4 * (first - second) + 0.5 * style
    utility = np.column_stack([d / 2, np.full(n, 0.2), -d / 2]) + draw.gumbel(size=(n, 3))
    return first, second, utility.argmax(axis=1), draw.integers(60, size=n), draw.integers(20, size=n), style[:, None]


def test_baseball_is_as_published():
    winner, loser = games(BASEBALL)
    found = strengths(
        winner,
        loser,
        np.zeros(len(winner)),
        models=7,
        anchor=6,
        prompts=np.arange(len(winner)),
        raters=None,
        rounds=4000,
    )
    assert [e.value / ELO for e in found.models] == pytest.approx(PUBLISHED, abs=5e-5)
    assert found.tie == 0
    errors = [(e.high - e.low) / 2 / 1.9687 / ELO for e in found.models[:6]]
    assert errors == pytest.approx(PUBLISHED_ERRORS, rel=0.12)  # every game its own cluster
    assert [e.n for e in found.models] == [78] * 7


def test_without_ties_strengths_equal_those_of_choix_and_evalica():
    winner, loser = games(BASEBALL)
    found = strengths(
        winner, loser, np.zeros(len(winner)), models=7, prompts=np.arange(len(winner)), raters=None, rounds=2
    )
    ours = np.array([e.value / ELO for e in found.models])
    by_choix = choix.opt_pairwise(7, list(zip(winner.tolist(), loser.tolist(), strict=True)), tol=1e-12)
    assert ours == pytest.approx(by_choix - by_choix[0], abs=1e-6)
    scores = evalica.bradley_terry(
        winner.tolist(), loser.tolist(), [evalica.Winner.X] * len(winner), tolerance=1e-14, limit=100_000
    ).scores
    by_evalica = np.log([scores[model] for model in range(7)])
    assert ours == pytest.approx(by_evalica - by_evalica[0], abs=1e-6)


def test_with_ties_they_equal_a_log_linear_fit_of_the_counts():
    # Critchlow and Fligner (1991): Davidson's model as a Poisson regression on pairs' counts, here by statsmodels.
    first, second, outcome, prompts, _raters, _style = simulated(0)
    found = strengths(first, second, outcome, models=5, prompts=prompts, raters=None, rounds=2)
    rows, counts = [], []
    pairs = [(i, j) for i in range(5) for j in range(i + 1, 5)]
    for number, (i, j) in enumerate(pairs):
        for result, (up, down, tie) in {WIN: (0.5, -0.5, 0), LOSS: (-0.5, 0.5, 0), TIE: (0, 0, 1)}.items():
            met = ((first == i) & (second == j) & (outcome == result)) | (
                (first == j) & (second == i) & (outcome == 2 - result)
            )
            row = np.zeros(5 + 1 + len(pairs))
            row[[i, j, 5, 6 + number]] = up, down, tie, 1
            rows.append(np.delete(row, 0))
            counts.append(met.sum())
    fitted = sm.GLM(counts, np.array(rows), family=sm.families.Poisson()).fit(tol=1e-14, maxiter=200)
    assert [e.value / ELO for e in found.models[1:]] == pytest.approx(fitted.params[:4], abs=1e-6)
    assert np.log(found.tie) == pytest.approx(fitted.params[4], abs=1e-6)


def test_style_and_its_intervals_equal_a_logistic_regression_with_clustered_errors():
    first, second, outcome, prompts, raters, style = simulated(1, n=3000)
    strict = outcome != TIE
    first, second, outcome, prompts, raters, style = (
        values[strict] for values in (first, second, outcome, prompts, raters, style)
    )
    found = strengths_beside_style(first, second, outcome, style, models=5, prompts=prompts, raters=raters)
    design = np.column_stack([np.eye(5)[first][:, 1:] - np.eye(5)[second][:, 1:], style])
    fitted = sm.Logit((outcome == WIN).astype(float), design).fit(disp=0, tol=1e-14, maxiter=100)
    values = [e.value / ELO for e in (*found.models[1:], *found.style)]
    assert values == pytest.approx(fitted.params, abs=1e-6)
    by_rater = sm.Logit((outcome == WIN).astype(float), design).fit(
        disp=0, tol=1e-14, cov_type="cluster", cov_kwds={"groups": raters, "use_correction": False}
    )
    ours = strengths_beside_style(first, second, outcome, style, models=5, prompts=None, raters=raters)
    errors = [(e.high - e.low) / 2 / 2.093024 / ELO for e in (*ours.models[1:], *ours.style)]  # t(0.975, 19)
    assert errors == pytest.approx(by_rater.bse * np.sqrt(20 / 19), rel=1e-5)


def test_the_bootstrap_s_intervals_are_about_as_wide_as_the_sandwich_s():
    first, second, outcome, prompts, raters, _style = simulated(2, n=4000)
    clusters = {"models": 5, "prompts": prompts, "raters": raters}
    drawn = strengths(first, second, outcome, **clusters, rounds=2000)
    formula = strengths_beside_style(first, second, outcome, np.empty((4000, 0)), **clusters)
    for one, other in zip(drawn.models[1:], formula.models[1:], strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-6)
        assert one.high - one.low == pytest.approx(other.high - other.low, rel=0.15)


def test_prompts_that_all_say_the_same_do_not_tell_how_much_others_would_differ():
    # Each of three prompts is won once and lost once.
    found = strengths([1] * 6, [0] * 6, [0, 2] * 3, models=2, prompts=[1, 1, 2, 2, 3, 3], raters=None)
    assert (found.models[1].value, found.models[1].interval) == (pytest.approx(0, abs=1e-6), None)


def test_who_is_named_first_does_not_matter():
    first, second, outcome, prompts, raters, style = simulated(3)
    turned = np.random.default_rng(3).random(len(first)) < 0.5
    one, other = np.where(turned, second, first), np.where(turned, first, second)
    result = np.where(turned, 2 - outcome, outcome)
    clusters = {"models": 5, "prompts": prompts, "raters": raters}
    assert strengths(one, other, result, **clusters, rounds=20) == strengths(
        first, second, outcome, **clusters, rounds=20
    )
    plain = strengths_beside_style(first, second, outcome, style, **clusters)
    swapped = strengths_beside_style(one, other, result, np.where(turned[:, None], -style, style), **clusters)
    assert swapped.style[0].value == pytest.approx(plain.style[0].value, abs=1e-9)


def test_the_anchor_only_moves_the_scale():
    first, second, outcome, prompts, _raters, _style = simulated(4)
    by_first = strengths(first, second, outcome, models=5, prompts=prompts, raters=None, rounds=20)
    by_third = strengths(first, second, outcome, models=5, anchor=2, prompts=prompts, raters=None, rounds=20)
    assert by_third.models[2].interval == [0, 0]
    moved = [e.value - by_first.models[2].value for e in by_first.models]
    assert [e.value for e in by_third.models] == pytest.approx(moved, abs=1e-6)
    assert by_third.models[0].interval == pytest.approx([-x for x in reversed(by_first.models[2].interval)], rel=0.5)


def test_style_is_the_difference_over_the_sum_in_standard_deviations():
    # 3 against 1 word: ½; 1 against 3: −½; no headers anywhere: 0. The deviation of ½, −½ is ½.
    found = style_difference([[3, 0], [1, 0]], [[1, 0], [3, 0]])
    assert found.tolist() == [[1, 0], [-1, 0]]


def test_style_that_never_differs_is_left_out_and_style_that_is_the_model_is_explained():
    first, second, outcome, prompts, raters, style = simulated(5)
    clusters = {"models": 5, "prompts": prompts, "raters": raters}
    alone = strengths_beside_style(first, second, outcome, style, **clusters)
    beside = strengths_beside_style(first, second, outcome, np.column_stack([np.zeros(len(style)), style]), **clusters)
    assert beside.style[0] == Undefined(Reason.NO_VARIATION, 600)
    assert beside.style[1].value == pytest.approx(alone.style[0].value, abs=1e-9)
    longer = (first - second)[:, None].astype(float)  # the higher a model's number, the longer its answers
    assert strengths_beside_style(first, second, outcome, longer, **clusters) == Undefined(Reason.CONFOUNDED, 600)


@pytest.mark.parametrize(
    ("comparisons", "models", "reason", "groups"),
    [
        ([], 2, Reason.NO_DATA, ()),
        ([(0, 0, WIN)], 1, Reason.ONE_MODEL, ()),
        ([(0, 1, TIE), (0, 1, TIE)], 2, Reason.ALL_TIES, ()),
        ([(0, 1, WIN), (1, 0, WIN), (2, 3, WIN), (3, 2, WIN)], 4, Reason.NOT_CONNECTED, ((0, 1), (2, 3))),
        ([(0, 1, WIN), (1, 0, WIN), (0, 2, WIN)], 3, Reason.NOT_CONNECTED, ((0, 1), (2,))),  # 2 never wins
        ([(0, 1, WIN), (1, 0, WIN)], 3, Reason.NOT_CONNECTED, ((0, 1), (2,))),  # 2 was never compared
        # Half won, half tied, none lost: the more A is ahead and the likelier ties are, the better.
        ([(0, 1, WIN), (0, 1, TIE)], 2, Reason.ONE_SIDED, ()),
        ([(0, 1, WIN), (1, 2, TIE), (2, 0, TIE)], 3, Reason.ONE_SIDED, ()),
    ],
)
def test_where_strengths_do_not_exist_it_says_why_and_which_groups_there_are(comparisons, models, reason, groups):
    first, second, outcome = np.array(comparisons, dtype=int).reshape(-1, 3).T
    found = strengths(first, second, outcome, models=models, prompts=np.arange(len(first)), raters=None)
    assert found == Undefined(reason, len(first), groups)


def test_ties_connect_models_where_something_bounds_them():
    # A and B beat each other, so that ties cannot grow without bound; C only tied with B.
    first, second, outcome = [0, 1, 1], [1, 0, 2], [WIN, WIN, TIE]
    found = strengths(first, second, outcome, models=3, prompts=[1, 2, 3], raters=None, rounds=10)
    assert isinstance(found, Strengths)
    assert [e.value for e in found.models] == pytest.approx([0, 0, 0], abs=1e-6)


def places(seed: int, n: int = 200, models: int = 5, unranked: float = 0.3) -> np.ndarray:
    draw = np.random.default_rng(seed)
    utility = np.linspace(1, 0, models) + draw.gumbel(size=(n, models))
    found = (-utility).argsort(axis=1).argsort(axis=1) + 1.0
    found[draw.random((n, models)) < unranked] = NONE
    return found


def test_strengths_from_rankings_equal_those_of_choix():
    rankings = places(0)
    lists = [
        [int(m) for m in np.argsort(row) if not np.isnan(row[m])] for row in rankings if (~np.isnan(row)).sum() > 1
    ]
    expected = choix.opt_rankings(5, lists, tol=1e-12)
    found = plackett_luce(rankings, prompts=np.arange(200), raters=None)
    assert [e.value / ELO for e in found] == pytest.approx(expected - expected[0], abs=1e-6)
    assert found[0].n == sum(0 in ranking for ranking in lists)


def test_tied_rankings_reach_the_highest_likelihood_of_the_formula():
    # −Σ_g [Σ_{i∈g} θ_i − |g|·logsumexp(g and below)]: where its derivatives, written out, are 0.
    rankings = np.ceil(places(1, unranked=0) / 2)
    found = plackett_luce(rankings, prompts=np.arange(200), raters=None)
    assert [e.value / ELO for e in found[1:]] == pytest.approx(by_formula(rankings.tolist(), 5), abs=1e-6)


def test_rankings_of_two_are_bradley_and_terry_s_model():
    winner, loser = games(BASEBALL)
    rows = np.full((len(winner), 7), NONE)
    rows[np.arange(len(winner)), winner] = 1
    rows[np.arange(len(winner)), loser] = 2
    clusters = {"anchor": 6, "prompts": np.arange(len(winner)), "raters": None}
    ranked = plackett_luce(rows, **clusters)
    compared = strengths_beside_style(
        winner, loser, np.zeros(len(winner)), np.empty((len(winner), 0)), models=7, **clusters
    )
    for one, other in zip(ranked, compared.models, strict=True):
        assert [one.value, *one.interval] == pytest.approx([other.value, *other.interval], abs=1e-6)


def test_rankings_that_connect_nothing_are_explained():
    assert plackett_luce(np.empty((0, 3)), prompts=[], raters=None) == Undefined(Reason.NO_DATA)
    assert plackett_luce([[1, 2, NONE]] * 3, prompts=[1, 2, 3], raters=None) == Undefined(
        Reason.NOT_CONNECTED, 3, ((0,), (1,), (2,))
    )
