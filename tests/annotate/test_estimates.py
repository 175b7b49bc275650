"""How long an improvement of the policy will take, by the rule and by earlier runs, and what a limit on time does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from annotate.models import Run
from annotate.services import space
from annotate.services.estimates import RULE_OVERHEAD, RULE_SECONDS, estimate
from annotate.services.improving import Wish
from annotate.services.methods import Method
from tests.annotate.asking import improve
from tests.annotate.factory import World, collect_items, run, world
from tests.annotate.judged import ids_of, ranks
from tests.annotate.judged import judge as judge_as
from tests.annotate.lineage import ended, turn

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage() -> World:
    return world(prompts=9, max_tokens=12)


def test_updates_and_their_size_are_heeded_by_the_estimate(stage: World) -> None:
    """The stage has 3 training prompts."""
    turn(stage)
    usual = estimate(stage.project, Wish(method=Method.PPO))
    asked = {"updates": 5, "prompts_per_update": 2, "samples_per_prompt": 6}
    assert usual.units == 9 * 3 * 4
    assert estimate(stage.project, Wish(method=Method.PPO, settings=asked)).units == 5 * 2 * 6


def test_the_estimate_is_the_rule_until_a_run_was_measured(stage: World, tiny: Path) -> None:
    turn(stage)
    wish = Wish(method=Method.PPO, samples=1000)
    ruled = estimate(stage.project, wish)
    cores = len(os.sched_getaffinity(0))
    each = RULE_SECONDS[Method.PPO] * space.parameters_of(tiny) / 135e6 * 12 / 64 * 2 / cores
    assert ruled.seconds == pytest.approx(1000 * each + RULE_OVERHEAD)
    assert (ruled.units, ruled.measured) == (1000, False)
    updates = [{"samples": 50, "samples_per_second": 0.5}, {"samples": 50, "samples_per_second": 0.5}]
    result = {"metrics": {"updates": updates}, "seconds": {"load": 20.0, "ppo": 200.0, "publish": 5.0}}
    run(stage.project, "improve", result=result, **ended())
    measured = estimate(stage.project, wish)
    assert (measured.seconds, measured.measured) == (pytest.approx(1000 * 2 + 25), True)
    other = estimate(stage.project, Wish(method=Method.BEST_OF_N))
    assert not other.measured


def test_a_limit_on_time_bounds_the_estimate() -> None:
    stage = world(prompts=3)
    collect_items(stage)
    judge_as(stage, ranks(ids_of(stage), 1, 2, 3, 4))
    result = {
        "metrics": {
            "counts": {"train": 8},
            "training": {"steps": 10, "tokens": 1600, "tokens_per_second": 2.0},
        },
        "seconds": {"load": 1.0, "train": 800.0, "publish": 1.0},
    }
    run(stage.project, "improve", selection={"method": "dpo"}, job={"rankings_per_step": 4}, result=result, **ended())
    free = estimate(stage.project, Wish(method=Method.DPO, settings={"epochs": 10}))
    assert (free.seconds, free.units) == (pytest.approx(10 * 20 + 2), 10)
    short = estimate(stage.project, Wish(method=Method.DPO, minutes=1.0, settings={"epochs": 10}))
    assert (short.seconds, short.units) == (pytest.approx(62.0), 3)


def test_a_limit_on_time_gives_ppo_as_many_answers_as_fit_in_by_the_last_run() -> None:
    """Two seconds an answer were measured: 30 fit in a minute, which is 8 updates of 4 answers to one prompt."""
    stage = world(prompts=3)
    turn(stage)
    result = {
        "metrics": {"updates": [{"samples": 100, "samples_per_second": 0.5}]},
        "seconds": {"load": 20.0, "ppo": 200.0, "publish": 5.0},
    }
    run(stage.project, "improve", result=result, **ended())
    assert improve(stage, Method.PPO, minutes=1.0).job["updates"] == 8
    Run.objects.filter(kind="improve", state=Run.State.QUEUED).delete()
    assert improve(stage, Method.PPO, minutes=1.0, samples=8).job["updates"] == 2


def test_a_settled_or_resumed_run_is_measured_over_all_its_attempts() -> None:
    """PPO drew 100 answers in 40 + 160 seconds, DPO went over 40 rows in 800, and both ended in a short attempt."""
    stage = world(prompts=3)
    collect_items(stage)
    judge_as(stage, ranks(ids_of(stage), 1, 2, 3, 4))
    updates = [{"samples": 20, "samples_per_second": 0.5}, {"samples": 80, "samples_per_second": 0.5}]
    settled = {"metrics": {"updates": updates}, "seconds": {"load": 20.0, "ppo": 0.0, "publish": 5.0}}
    run(stage.project, "improve", result=settled, **{**ended(), "attempt": 2})
    assert estimate(stage.project, Wish(method=Method.PPO, samples=1000)).seconds == pytest.approx(1000 * 2 + 25)
    assert estimate(stage.project, Wish(method=Method.PPO, minutes=1.0)).units == 30
    resumed = {
        "metrics": {"counts": {}, "training": {"steps": 10, "tokens": 1600, "tokens_per_second": 2.0}},
        "seconds": {"load": 1.0, "train": 30.0, "publish": 1.0},
    }
    asked = {"selection": {"method": "dpo"}, "job": {"rankings_per_step": 4}}
    run(stage.project, "improve", result=resumed, **asked, **{**ended(), "attempt": 3})
    assert estimate(stage.project, Wish(method=Method.DPO, minutes=1.0, settings={"epochs": 9999})).units == 3


def test_what_an_earlier_run_spent_beside_its_steps_is_added_once(stage: World) -> None:
    """DPO's 900 seconds were 800 of steps and 100 of the reference and of dev."""
    result = {
        "metrics": {"counts": {}, "training": {"steps": 10, "tokens": 1600, "tokens_per_second": 2.0}},
        "seconds": {"load": 1.0, "train": 900.0, "publish": 1.0},
    }
    run(stage.project, "improve", selection={"method": "dpo"}, job={"rankings_per_step": 4}, result=result, **ended())
    assert estimate(stage.project, Wish(method=Method.DPO)).seconds == pytest.approx(102)


@pytest.mark.parametrize(
    ("method", "attempt", "result"),
    [
        ("ppo", 2, {"metrics": {"updates": []}, "seconds": {"ppo": 1.0}}),
        ("ppo", 1, {"metrics": {"updates": [{"samples": 8}]}, "seconds": {"ppo": 1.0}}),
        ("bestofn", 2, {"metrics": {"counts": {"samples": 9}}, "seconds": {"generate": 0.0, "train": 0.1}}),
        (
            "sft",
            2,
            {
                "metrics": {"counts": {}, "training": {"steps": 0, "tokens": 0, "tokens_per_second": None}},
                "seconds": {"train": 1.0},
            },
        ),
    ],
)
def test_a_run_that_does_not_tell_how_long_all_its_attempts_took_is_passed_over(
    stage: World, method: str, attempt: int, result: dict[str, Any]
) -> None:
    turn(stage)
    run(
        stage.project,
        "improve",
        selection={"method": method},
        job={"examples_per_step": 8},
        result=result,
        **{**ended(), "attempt": attempt},
    )
    assert not estimate(stage.project, Wish(method=Method(method), minutes=1.0)).measured
