"""How often intervals hold what is true of all prompts and raters, in data sets of 200 prompts and 30 raters."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from annotate.stats.bradley_terry import Strengths, strengths
from annotate.stats.coefficients import cohen_kappa, fleiss_kappa, gwet_ac1, krippendorff_alpha
from annotate.stats.estimate import Estimate
from tests.bench.bar import Bar

RATERS, PROMPTS, VOTES, MODELS = 30, 200, 3, 6
TIE = 0.6
"""Davidson's ν."""
PROMPT_EFFECT = RATER_EFFECT = 0.5
"""Standard deviation of what a prompt, and a rater, adds to each model's strength, in natural logarithms."""
QUALITY, LENIENCY, NOISE = 1.0, 0.4, 0.7
"""Standard deviations of answers' quality, of raters, and of single scores, in points of the scale from 1 to 5."""
STRENGTHS = "Bradley–Terry strengths"
Integers = NDArray[np.int64]
Estimates = dict[str, list[Estimate]]


def bars(data_sets: int) -> Iterator[Bar]:
    """Shares of intervals that hold the truth, over all strengths and for each coefficient."""
    truth = {name: [e.value for e in estimates] for name, estimates in true_values().items()}
    with ProcessPoolExecutor(2, initializer=threadpool_limits, initargs=(1,)) as pool:
        found = list(pool.map(one_data_set, range(data_sets), chunksize=10))
    for name, values in truth.items():
        inside = [
            e.low is not None and e.high is not None and e.low <= value <= e.high
            for estimates in found
            for e, value in zip(estimates[name], values, strict=True)
        ]
        yield Bar(
            f"coverage of {name}, {data_sets:,} data sets",
            100 * sum(inside) / len(inside),
            "%",
            at_most=97,
            at_least=93,
        )


def one_data_set(seed: int) -> Estimates:
    """Estimates as anybody would make them."""
    return estimates(np.random.default_rng(1000 + seed), RATERS, PROMPTS, rounds=1_000)


def true_values() -> Estimates:
    """What the same models of data come to over very many prompts and raters."""
    return estimates(np.random.default_rng(2), 100 * RATERS, 1_000 * PROMPTS, rounds=2)


def estimates(draw: np.random.Generator, raters: int, prompts: int, *, rounds: int) -> Estimates:
    """Strengths without the anchor's, and coefficients of agreement."""
    first, second, outcome, of_prompt, of_rater = comparisons(draw, raters, prompts, VOTES, MODELS)
    fitted = strengths(first, second, outcome, models=MODELS, prompts=of_prompt, raters=of_rater, rounds=rounds)
    assert isinstance(fitted, Strengths)
    ratings = scores(draw, raters, prompts)
    of_two = scores_of_two(draw, prompts)
    agreement = {
        "ordinal α": krippendorff_alpha(*ratings[:3], "ordinal", prompts=ratings[3], rounds=rounds),
        "nominal α": krippendorff_alpha(*ratings[:3], "nominal", prompts=ratings[3], rounds=rounds),
        "interval α": krippendorff_alpha(*ratings[:3], "interval", prompts=ratings[3], rounds=rounds),
        "Fleiss's κ": fleiss_kappa(*ratings[:3], prompts=ratings[3], rounds=rounds),
        "Gwet's AC1": gwet_ac1(*ratings[:3], prompts=ratings[3], rounds=rounds),
        "Cohen's κ": cohen_kappa(*of_two, rounds=rounds),
        "Cohen's κ with quadratic weights": cohen_kappa(*of_two, quadratic=True, rounds=rounds),
    }
    return {
        STRENGTHS: list(fitted.models[1:]),
        **{name: [estimate] for name, estimate in agreement.items() if isinstance(estimate, Estimate)},
    }


def comparisons(
    draw: np.random.Generator, raters: int, prompts: int, votes: int, models: int
) -> tuple[Integers, Integers, Integers, Integers, Integers]:
    """First, second, outcome, prompt and rater of comparisons with ties, where prompts and raters have their tastes."""
    n = prompts * votes
    prompt, rater = np.repeat(np.arange(prompts), votes), distinct(draw, raters, prompts, votes)
    first = draw.integers(models, size=n)
    second = (first + draw.integers(1, models, n)) % models
    tastes = draw.normal(0, PROMPT_EFFECT, (prompts, models)), draw.normal(0, RATER_EFFECT, (raters, models))
    strength = np.linspace(0, 1, models)
    first_d, second_d = (strength[m] + tastes[0][prompt, m] + tastes[1][rater, m] for m in (first, second))
    half = (first_d - second_d) / 2
    utility = np.column_stack([half, np.full(n, np.log(TIE)), -half]) + draw.gumbel(size=(n, 3))
    return first, second, utility.argmax(axis=1), prompt, rater


def scores(draw: np.random.Generator, raters: int, prompts: int) -> tuple[Integers, Integers, Integers, Integers]:
    """Answer, rater, score from 1 to 5 and prompt, of two answers to each prompt by three raters each."""
    prompt = np.repeat(np.arange(prompts), 2 * VOTES)
    answer = np.repeat(np.arange(2 * prompts), VOTES)
    rater = np.repeat(distinct(draw, raters, prompts, VOTES).reshape(prompts, 1, VOTES), 2, axis=1).ravel()
    of_prompt, own = draw.normal(size=prompts)[prompt], draw.normal(size=2 * prompts)[answer]
    quality = QUALITY * (of_prompt + own) / np.sqrt(2)
    leniency = draw.normal(0, LENIENCY, raters)[rater]
    seen = 3 + quality + leniency + draw.normal(0, NOISE, len(answer))
    return answer, rater, np.clip(seen.round(), 1, 5).astype(np.int64), prompt


def scores_of_two(draw: np.random.Generator, prompts: int) -> Integers:
    """[2, prompts], scores from 1 to 5 by two raters, who are always the same: the second is the more lenient one."""
    quality = QUALITY * draw.normal(size=prompts)
    seen = 3 + quality + np.array([[0.0], [LENIENCY]]) + draw.normal(0, NOISE, (2, prompts))
    return np.clip(seen.round(), 1, 5).astype(np.int64)


def distinct(draw: np.random.Generator, raters: int, prompts: int, votes: int) -> Integers:
    """[prompts · votes], different raters for each prompt."""
    start = draw.integers(raters, size=(prompts, 1))
    if votes > raters // 4:
        raise ValueError("Too few raters to draw different ones for each prompt.")
    offsets = np.cumsum(draw.integers(1, raters // votes, size=(prompts, votes)), axis=1)
    return np.asarray((start + offsets) % raters).ravel()
