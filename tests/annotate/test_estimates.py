"""How long an improvement of the policy will take, by the rule and by earlier runs, and what a limit on time does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from annotate.models import Run
from annotate.services import estimates, space
from annotate.services.estimates import RULE_LOOK, RULE_OVERHEAD, RULE_SECONDS, estimate
from annotate.services.improving import Wish
from annotate.services.methods import Method
from tests.annotate.asking import improve
from tests.annotate.factory import World, collect_items, run, world
from tests.annotate.judged import ids_of, ranks
from tests.annotate.judged import judge as judge_as
from tests.annotate.lineage import ended, turn

pytestmark = pytest.mark.django_db


UPDATE = {
    "samples": 50,
    "samples_per_second": 0.5,
    "seconds_swap": 5.0,
    "seconds_generate": 40.0,
    "seconds_score": 5.0,
    "seconds_evaluate": 10.0,
    "seconds_train": 40.0,
}
"""An update of 100 seconds, 2 an answer, of which 60 would be spent on a look at the policy, 1.2 an answer."""


@pytest.fixture
def stage() -> World:
    """3 training prompts, to which an update draws 12 answers, and 3 dev prompts."""
    return world(prompts=9, max_tokens=12)


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with a GPU the rule does not hold."""
    monkeypatch.setattr(estimates, "GPUS", "no such device")


def test_updates_and_their_size_are_heeded_and_the_answers_that_measure_the_result_are_counted(stage: World) -> None:
    turn(stage)
    usual = estimate(stage.project, Wish(method=Method.PPO))
    assert (usual.units, usual.looked_at) == ((9 + 1) * 3 * 4, 12)
    settings = {"updates": 5, "prompts_per_update": 2, "samples_per_prompt": 6}
    asked = estimate(stage.project, Wish(method=Method.PPO, settings=settings))
    assert (asked.units, asked.looked_at) == ((5 + 1) * 2 * 6, 12)


def test_the_estimate_is_the_rule_until_a_run_was_measured(stage: World, tiny: Path) -> None:
    """A thousand answers are 84 whole updates of 12, 1008, and 12 more are looked at.

    The run that was measured spent 272 seconds: 200 on its updates, 60 on its last look and 12 on checkpoints.
    """
    turn(stage)
    wish = Wish(method=Method.PPO, samples=1000)
    ruled = estimate(stage.project, wish)
    cores = len(os.sched_getaffinity(0))
    each = RULE_SECONDS[Method.PPO] * space.parameters_of(tiny) / 135e6 * 12 / 64 * 2 / cores
    assert ruled.seconds == pytest.approx((1008 + 12 * RULE_LOOK) * each + RULE_OVERHEAD)
    assert (ruled.units, ruled.measured) == (1020, False)
    result = {"metrics": {"updates": [UPDATE, UPDATE]}, "seconds": {"load": 20.0, "ppo": 272.0, "publish": 5.0}}
    run(stage.project, "improve", result=result, **ended())
    measured = estimate(stage.project, wish)
    assert (measured.seconds, measured.measured) == (pytest.approx(1008 * 2 + 12 * 1.2 + 12 + 25), True)
    other = estimate(stage.project, Wish(method=Method.BEST_OF_N))
    assert not other.measured


def test_the_rule_says_nothing_of_a_gpu(stage: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """There PPO makes its nine usual updates at most, whatever minutes would hold by the rule for cores."""
    turn(stage)
    monkeypatch.setattr(estimates, "GPUS", "null")
    wish = Wish(method=Method.PPO, minutes=60.0)
    unknown = estimate(stage.project, wish)
    assert (unknown.seconds, unknown.units) == (None, 10 * 12)
    assert estimate(stage.project, Wish(method=Method.BEST_OF_N)).seconds is None
    assert estimate(stage.project, Wish(method=Method.PPO, settings={"device": "cpu"})).seconds is not None
    job = improve(stage, Method.PPO, minutes=60.0).job
    assert (job["updates"], job["max_seconds"]) == (9, 3600.0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert estimate(stage.project, wish).seconds is not None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    result = {"metrics": {"updates": [UPDATE]}, "seconds": {"load": 20.0, "ppo": 160.0, "publish": 5.0}}
    run(stage.project, "improve", result=result, **ended())
    assert estimate(stage.project, Wish(method=Method.PPO)).seconds == pytest.approx(108 * 2 + 12 * 1.2 + 25)


def test_best_of_n_draws_for_two_thirds_of_its_limit_and_for_one_prompt_in_any_case(stage: World) -> None:
    """2 seconds an answer and 5 to learn from one that was kept; 3 train and 3 dev prompts."""
    turn(stage)
    result = {
        "metrics": {"counts": {"samples": 40}, "training": {}},
        "seconds": {"load": 20.0, "generate": 60.0, "score": 20.0, "train": 50.0, "publish": 5.0},
    }
    run(stage.project, "improve", selection={"method": "bestofn"}, job={"n": 4}, result=result, **ended())
    free = estimate(stage.project, Wish(method=Method.BEST_OF_N))
    assert (free.seconds, free.units) == (pytest.approx(6 * (4 * 2 + 5) + 25), 24)
    # Of 30 seconds 20 are for drawing: 2 prompts in 16, which leaves 14 to learn in 10.
    short = estimate(stage.project, Wish(method=Method.BEST_OF_N, minutes=0.5))
    assert (short.seconds, short.units) == (pytest.approx(16 + 10 + 25), 8)
    # Of 9 seconds 6 are for drawing, and 8 are taken by a prompt's answers: 3 are left to learn in any case.
    least = estimate(stage.project, Wish(method=Method.BEST_OF_N, minutes=0.15))
    assert (least.seconds, least.units) == (pytest.approx(8 + 3 + 25), 4)
    many = estimate(stage.project, Wish(method=Method.BEST_OF_N, minutes=0.1, settings={"n": 256}))
    assert (many.seconds, many.units) == (pytest.approx(512 + 2 + 25), 256)


def test_best_of_n_learns_from_what_it_kept_as_sft_does_by_the_rule(stage: World, tiny: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    scale = space.parameters_of(tiny) / 135e6 * 12 / 64 * 2 / cores
    each = scale * (4 * RULE_SECONDS[Method.BEST_OF_N] + 3 * RULE_SECONDS[Method.SFT])
    assert estimate(stage.project, Wish(method=Method.BEST_OF_N)).seconds == pytest.approx(6 * each + RULE_OVERHEAD)


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


def test_a_limit_on_time_lets_ppo_make_the_updates_that_end_by_then_and_look_at_what_came_out() -> None:
    """Two seconds an answer were measured, 8 an update of 4 answers to one prompt.

    In a minute 7 updates end, after 56 seconds; the eighth is begun only where they are faster. The look at the result
    draws 4 more in 4.8 seconds.
    """
    stage = world(prompts=3)
    turn(stage)
    result = {"metrics": {"updates": [UPDATE]}, "seconds": {"load": 20.0, "ppo": 160.0, "publish": 5.0}}
    run(stage.project, "improve", result=result, **ended())
    found = estimate(stage.project, Wish(method=Method.PPO, minutes=1.0))
    assert (found.seconds, found.units, found.looked_at) == (pytest.approx(56 + 4.8 + 25), 28 + 4, 4)
    job = improve(stage, Method.PPO, minutes=1.0).job
    assert (job["updates"], job["max_seconds"]) == (8, 60.0)
    Run.objects.filter(kind="improve", state=Run.State.QUEUED).delete()
    job = improve(stage, Method.PPO, minutes=1.0, samples=8).job
    assert (job["updates"], job["max_seconds"]) == (2, 60.0)
    both = estimate(stage.project, Wish(method=Method.PPO, minutes=1.0, samples=8))
    assert (both.seconds, both.units) == (pytest.approx(16 + 4.8 + 25), 12)
    # The first update is made however little time there is.
    least = estimate(stage.project, Wish(method=Method.PPO, minutes=0.1))
    assert (least.seconds, least.units) == (pytest.approx(8 + 4.8 + 25), 8)


def test_a_settled_or_resumed_run_is_measured_over_all_its_attempts() -> None:
    """PPO drew 100 answers in 50 + 160 seconds, of which 120 were looks; DPO went over 40 rows in 800. Both ended in a
    short attempt."""
    stage = world(prompts=3)
    collect_items(stage)
    judge_as(stage, ranks(ids_of(stage), 1, 2, 3, 4))
    updates = [{**UPDATE, "samples": 20, "samples_per_second": 0.4}, {**UPDATE, "samples": 80}]
    settled = {"metrics": {"updates": updates}, "seconds": {"load": 20.0, "ppo": 0.0, "publish": 5.0}}
    run(stage.project, "improve", result=settled, **{**ended(), "attempt": 2})
    found = estimate(stage.project, Wish(method=Method.PPO, samples=1000))
    assert (found.seconds, found.units) == (pytest.approx(1000 * 2.1 + 4 * 1.2 + 25), 1004)
    assert estimate(stage.project, Wish(method=Method.PPO, minutes=1.0)).units == 7 * 4 + 4
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
