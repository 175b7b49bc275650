"""The simulated rater says what its formula says, as often as its formula says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from annotate.models import Judgement, Membership, User
from annotate.services.simulate import judge_everything
from annotate.simulated import hidden_preference, quintile_edges, rank, score
from tests.annotate.factory import collect_items, world


@pytest.mark.parametrize(
    ("text", "h"),
    [
        (" ".join(["word"] * 40) + ".", 1.0),
        (" ".join(["word"] * 40), 0.0),
        (" ".join(["word"] * 20) + "。", 1 - 0.5 * math.log(2)),
        ("- a\n- b", 1 - 0.5 * math.log(20)),
        ("1. a\n2) b!", 1 + 1 - 0.5 * math.log(10)),
        ("- only one line", -0.5 * math.log(40 / 3)),
        ('He said "stop."', 1 - 0.5 * math.log(40 / 3)),
        ("", -0.5 * math.log(40)),
    ],
)
def test_the_hidden_preference_is_the_stated_sum(text: str, h: float) -> None:
    assert hidden_preference(text) == pytest.approx(h, abs=1e-12)


def test_a_pair_is_ordered_with_the_stated_probability() -> None:
    # h differs by 0.5·ln 2 = 0.3466, so P = σ(0.3466 / 0.25) = 0.8 within a standard error of 0.009.
    better, worse = " ".join(["word"] * 40), " ".join(["word"] * 20)
    wins = [rank([worse, better], seed=seed) == [2, 1] for seed in range(2000)]
    assert np.mean(wins) == pytest.approx(0.8, abs=0.036)


def test_a_ranking_is_decided_by_seed_and_texts_not_by_their_order() -> None:
    texts = ["one.", "two two", "three three three", "four"]
    forward, backward = rank(texts, seed=3), rank(texts[::-1], seed=3)
    assert forward == backward[::-1]
    assert sorted(forward) == [1, 2, 3, 4]


def test_equal_texts_share_a_rank_without_a_gap() -> None:
    ranks = rank(["same", "same", "other words here."], seed=1)
    assert ranks[0] == ranks[1]
    assert set(ranks) == {1, 2}


def test_scores_are_quintiles() -> None:
    texts = [" ".join(["word"] * n) for n in range(1, 41)]
    scores = score(texts, quintile_edges(texts))
    assert [scores.count(value) for value in (1, 2, 3, 4, 5)] == [8, 8, 8, 8, 8]
    assert scores == sorted(scores)


@pytest.mark.django_db
def test_it_judges_every_slot_once_and_is_marked_as_simulated() -> None:
    stage = world(prompts=3, overlap=2)
    collect_items(stage)
    assert judge_everything(project=stage.project, seed=1) == 6
    assert Judgement.objects.count() == 6
    assert set(Judgement.objects.values_list("rater__kind", flat=True)) == {User.Kind.SIMULATED}
    assert Membership.objects.filter(project=stage.project, user__kind="simulated").count() == 2
    assert judge_everything(project=stage.project, seed=1) == 0
