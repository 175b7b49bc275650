"""The tables of docs/ppo.md are what the code gives, and agree with each other by the formulas between them."""

from __future__ import annotations

import math
import re

import pytest

from tests.policy.conftest import ROOT
from tools.ppo_walkthrough import walk

PAGE = (ROOT / "docs" / "ppo.md").read_text()
ROUNDING = 3e-3
BETWEEN_MACHINES = 0.05
"""By how much a number may differ where another processor rounds differently; Adam makes much of little gradients."""


def rows_of(name: str) -> list[list[str]]:
    """The cells of one of the page's tables below its header."""
    [block] = re.findall(rf"<!-- begin: {name} -->\n(.*?)<!-- end -->", PAGE, flags=re.DOTALL)
    return cells_of(block)


def cells_of(block: str) -> list[list[str]]:
    lines = [line for line in block.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def columns(name: str) -> list[list[float]]:
    """The numbers of a table, column by column, without the first."""
    return [list(map(float, column)) for column in zip(*(row[1:] for row in rows_of(name)), strict=True)]


def test_scores_follow_from_the_answers():
    for (_number, _prompt, text, _tokens), (_n, score, ended, penalised, _relative) in zip(
        rows_of("answers"), rows_of("scores"), strict=True
    ):
        assert float(score) == pytest.approx(1 - 0.5 * abs(len(text.replace("⏎", " ").split()) - 6))
        assert float(penalised) == pytest.approx(float(score) - (ended == "False"))
    penalised, relative = (list(map(float, column)) for column in list(zip(*rows_of("scores"), strict=True))[3:])
    for one, other in ((0, 1), (1, 0), (2, 3), (3, 2)):
        assert relative[one] == pytest.approx(penalised[one] - penalised[other])


def test_rewards_and_advantages_follow_from_log_probabilities_and_values():
    sampler, old, parent, rewards, values, advantages, _whitened, weights = columns("tokens")
    figures = dict(rows_of("update"))
    beta, relative = float(figures["β"]), float(rows_of("scores")[0][4])
    for t, reward in enumerate(rewards):
        score = relative if t == len(rewards) - 1 else 0.0
        assert reward == pytest.approx(-beta * (old[t] - parent[t]) + score, abs=ROUNDING)
        assert weights[t] == pytest.approx(min(math.exp(old[t] - sampler[t]), 2.0), abs=ROUNDING)
    following = 0.0
    for t in reversed(range(len(rewards))):
        next_value = values[t + 1] if t + 1 < len(values) else 0.0
        following = rewards[t] + next_value - values[t] + 0.95 * following
        assert advantages[t] == pytest.approx(following, abs=10 * ROUNDING)


def test_ratios_follow_from_the_log_probabilities_before_and_after():
    advantages, old, new, ratios, clipped = columns("ratios")
    assert advantages == columns("tokens")[6]
    assert old == columns("tokens")[1]
    for before, after, ratio, bounded in zip(old, new, ratios, clipped, strict=True):
        assert ratio == pytest.approx(math.exp(after - before), rel=ROUNDING)
        assert bounded == min(max(ratio, 0.8), 1.2)


def test_the_next_coefficient_follows_from_the_kl():
    figures = dict(rows_of("update"))
    step = min(max(float(figures["kl"]) / 6 - 1, -0.2), 0.2) / 10
    assert float(figures["β of the next update"]) == pytest.approx(float(figures["β"]) * (1 + step), abs=1e-5)
    assert float(figures["largest distance of a ratio from 1 at the first step"]) < 1e-3
    assert figures["optimiser_steps"] == "2"


def test_the_page_shows_what_an_update_gives():
    for name, block in walk().items():
        for of_page, made in zip(rows_of(name), cells_of(block), strict=True):
            assert len(of_page) == len(made)
            for written, now in zip(of_page, made, strict=True):
                assert written == now or float(written) == pytest.approx(float(now), abs=BETWEEN_MACHINES)
