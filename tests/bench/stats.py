"""Whether "better" can be trusted: false alarms under peeking, power, coverage, speed, and second implementations.

Studies and data sets are simulated with known truth. ``HONE_BENCH_STUDIES`` makes a smaller run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from annotate.stats.bradley_terry import Strengths, strengths
from annotate.stats.intervals import share_interval
from annotate.stats.sequences import evidence_above
from tests.bench import stats_coverage, stats_second
from tests.bench.bar import Bar

STUDIES = int(os.environ.get("HONE_BENCH_STUDIES", 5_000))
PEEK = 20
PLANNED = 400
"""Prompts that the bets are sized for."""
LONGEST = 1_000
"""Prompts after which a study without a difference is given up."""
COMPARISONS, ROUNDS = 1_000_000, 1_000


def run() -> list[Bar]:
    """All figures; shares in per cent."""
    return [*peeking(), *stats_coverage.bars(max(STUDIES // 5, 2)), speed(), *stats_second.bars()]


def peeking() -> Iterator[Bar]:
    """How often studies pass that look after every 20 prompts."""
    draw = np.random.default_rng(1)
    alike = share_interval(passes((draw.random((STUDIES, LONGEST)) < 0.5).astype(float)))
    assert alike.value is not None
    assert alike.high is not None
    name = f"{STUDIES:,} studies without a difference that ever pass in {LONGEST:,} prompts"
    yield Bar(name, 100 * alike.value, "%", at_most=5)
    yield Bar("the same, upper 95 % limit", 100 * alike.high, "%", at_most=6)
    better = passes((draw.random((STUDIES, 600)) < 0.6).astype(float))
    yield Bar("studies with a win-rate of 60 % that pass by 600 prompts", 100 * better.mean(), "%", at_least=90)
    both = passes(two_raters(draw, STUDIES, 600))
    yield Bar("the same, two raters a prompt with an intraclass correlation of 1/6", 100 * both.mean(), "%")


def passes(outcomes: NDArray[np.float64]) -> NDArray[np.float64]:
    """[studies], 1 where the lower bound passed ½ at some look; outcomes [studies, prompts]."""
    return (evidence_above(outcomes, planned=PLANNED)[:, PEEK - 1 :: PEEK] >= 1).any(axis=1).astype(float)


def two_raters(draw: np.random.Generator, studies: int, prompts: int) -> NDArray[np.float64]:
    """Mean votes of two raters where each prompt has a chance of its own, Beta(3, 2): they agree on 60 % of prompts."""
    chance = draw.beta(3, 2, (studies, prompts, 1))
    return np.asarray((draw.random((studies, prompts, 2)) < chance).mean(axis=2))


def speed() -> Bar:
    """A million comparisons of 20 models with ties, 50,000 prompts, 200 raters."""
    draw = np.random.default_rng(3)
    data = stats_coverage.comparisons(draw, raters=200, prompts=COMPARISONS // 20, votes=20, models=20)
    first, second, outcome, prompts, raters = data
    began = time.monotonic()
    found = strengths(first, second, outcome, models=20, prompts=prompts, raters=raters, rounds=ROUNDS)
    seconds = time.monotonic() - began
    assert isinstance(found, Strengths)
    return Bar(f"{COMPARISONS:,} comparisons, 20 models, {ROUNDS:,} bootstrap rounds", seconds, "s", at_most=60)
