"""The pages of runs: live progress, charts, failures."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import Run, RunEvent
from annotate.services.files import run_folder
from rewardmodel.publish import publish
from tests.annotate.factory import World, run
from tests.annotate.lineage import ended, turn

pytestmark = pytest.mark.django_db


def working(stage: World, **fields: object) -> Run:
    progress = {"stage": "train", "done": 3, "total": 12, "message": "Update 3 of 12", "metrics": {}}
    return run(stage.project, "improve", state=Run.State.RUNNING, attempt=1, progress=progress, **fields)


def events(of: Run, *metrics: Mapping[str, object], attempt: int = 1) -> None:
    RunEvent.objects.bulk_create(
        RunEvent(
            run=of, attempt=attempt, sequence=n, at=timezone.now(), stage="train", done=n, total=12, metrics=measured
        )
        for n, measured in enumerate(metrics, start=1)
    )


def text(client: Client, name: str, of: Run) -> str:
    return client.get(reverse(name, args=[of.project.slug, of.pk])).content.decode()


def test_a_running_run_shows_its_stage_and_is_polled(alice: Client, stage: World) -> None:
    html = text(alice, "run", working(stage))
    assert "Update 3 of 12" in html
    assert '<progress class="meter" aria-label="Progress" max="12" value="3">' in html
    assert 'hx-trigger="every 2s"' in html


def test_a_run_of_ppo_says_which_update_it_is_at(alice: Client, stage: World) -> None:
    progress = {"stage": "score", "done": 8, "total": 64, "message": "", "metrics": {"update": 2}}
    made = run(stage.project, "improve", state=Run.State.RUNNING, attempt=1, progress=progress, job={"updates": 9})
    assert "update 3 of 9" in text(alice, "run", made)
    Run.objects.filter(pk=made.pk).update(progress={**progress, "stage": "load", "metrics": {}})
    assert "of 9" not in text(alice, "run", made)


def test_what_tells_most_is_charted_first(alice: Client, stage: World) -> None:
    made = working(stage)
    events(made, {"gradient_norm": 1.0, "kl": 2.0, "reward": 3.0, "unheard_of": 4.0})
    series = alice.get(reverse("run_series", args=[stage.project.slug, made.pk])).json()["series"]
    assert [chart["y"][0] for chart in series] == [3.0, 2.0, 1.0, 4.0]


def test_a_waiting_run_says_that_it_waits(alice: Client, stage: World) -> None:
    assert "Waiting for a worker." in text(alice, "run", run(stage.project))


def test_polling_ends_with_the_run_and_loads_the_whole_page_once(alice: Client, stage: World) -> None:
    made = working(stage)
    address = reverse("run_live", args=[stage.project.slug, made.pk])
    assert "HX-Refresh" not in alice.get(address)
    Run.objects.filter(pk=made.pk).update(**ended())
    response = alice.get(address)
    assert response["HX-Refresh"] == "true"
    assert "hx-trigger" not in response.content.decode()


def test_a_failed_run_says_its_sentence_before_its_last_log_lines(alice: Client, stage: World) -> None:
    made = run(stage.project, **ended("failed"), error="vLLM cannot start.", log_tail="line one\nline two")
    html = text(alice, "run", made)
    assert html.index("vLLM cannot start.") < html.index("line one\nline two")


def test_charts_have_the_numbers_of_the_latest_attempt(alice: Client, stage: World) -> None:
    made = working(stage)
    events(made, {"loss": 0.9}, attempt=0)
    events(made, {"loss": 0.7, "shard": "output/x"}, {"loss": 0.5, "kl": 1.5, "good": True})
    series = alice.get(reverse("run_series", args=[stage.project.slug, made.pk])).json()["series"]
    assert [(chart["name"], chart["x"], chart["y"]) for chart in series] == [
        ("Training · Loss", [1, 2], [0.7, 0.5]),
        ("Training · KL to the parent", [2], [1.5]),
    ]
    assert all(chart["meaning"] for chart in series)


def test_a_measure_that_the_pages_do_not_know_keeps_its_own_name(alice: Client, stage: World) -> None:
    made = working(stage)
    events(made, {"perplexity_of_moon": 3.0})
    (series,) = alice.get(reverse("run_series", args=[stage.project.slug, made.pk])).json()["series"]
    assert series["name"] == "Training · perplexity_of_moon"


def test_the_same_numbers_stand_in_a_table(alice: Client, stage: World) -> None:
    made = working(stage)
    events(made, {"loss": 0.7}, {"loss": 0.25}, {"loss": 0.5})
    html = text(alice, "run", made)
    row = html[html.index("Training · Loss") :].split("</tr>")[0]
    assert [cell in row for cell in (">0.5<", ">0.7<", ">0.25<", ">3<")] == [True] * 4


def test_a_long_series_is_thinned_and_keeps_its_last_point(alice: Client, stage: World) -> None:
    made = working(stage)
    events(made, *({"loss": float(n)} for n in range(5000)))
    (series,) = alice.get(reverse("run_series", args=[stage.project.slug, made.pk])).json()["series"]
    assert len(series["y"]) <= 401
    assert series["y"][-1] == 4999.0


def test_a_run_links_to_what_went_in_and_what_came_out(alice: Client, stage: World) -> None:
    left = turn(stage)
    html = text(alice, "run", left.run)
    for name, key in (("generation", 0), ("generation", 1), ("reward_model", 1)):
        assert reverse(name, args=[stage.project.slug, key]) in html


def test_the_list_shows_every_run_with_its_state(alice: Client, stage: World) -> None:
    turn(stage)
    html = alice.get(reverse("runs", args=[stage.project.slug])).content.decode()
    for made in Run.objects.all():
        assert reverse("run", args=[stage.project.slug, made.pk]) in html


def test_an_empty_list_says_where_runs_are_started(alice: Client, stage: World) -> None:
    assert "Runs are started from the loop." in alice.get(reverse("runs", args=[stage.project.slug])).content.decode()


def updates_made(of: Run, *updates: Mapping[str, object], attempt: int = 1) -> None:
    """Lines of PPO's updates, numbered from 1."""
    RunEvent.objects.bulk_create(
        RunEvent(
            run=of, attempt=attempt, sequence=n, at=timezone.now(), stage="ppo", done=n, total=12,
            metrics={"update": n, **metrics},
        )
        for n, metrics in enumerate(updates, start=1)
    )  # fmt: skip


def rising(count: int, **names: tuple[float, float]) -> list[dict[str, float]]:
    """Updates whose measures go evenly from one value to another."""
    return [
        {name: low + (high - low) * place / (count - 1) for name, (low, high) in names.items()}
        for place in range(count)
    ]


@pytest.mark.parametrize(
    ("measures", "sentence"),
    [
        ({"reward": (0.0, 1.0), "other_reward": (0.5, -0.5)}, "exploit mistakes of the first"),
        ({"length": (40.0, 90.0)}, "Answers went from 45 to 85 tokens"),
        ({"length": (64.0, 20.0)}, "Answers went from 60 to 24 tokens"),
        ({"repetition": (0.05, 0.5)}, "46 % of their runs of four words"),
        ({"entropy": (3.0, 0.2)}, "says nearly the same every time"),
        ({"kl": (0.0, 20.0)}, "KL to the parent is 18.2 nats, and 6.0 are aimed at"),
    ],
)
def test_a_run_whose_reward_may_be_exploited_warns_of_it(
    alice: Client, stage: World, measures: dict[str, tuple[float, float]], sentence: str
) -> None:
    made = working(stage, job={"updates": 12, "kl_target": 6.0})
    updates_made(made, *rising(12, **measures))
    assert sentence in text(alice, "run", made)


def test_a_second_reward_model_that_gives_no_numbers_is_said_at_once(alice: Client, stage: World) -> None:
    made = working(stage, job={"updates": 12})
    updates_made(made, {"reward": 0.0, "other_reward": 0.1}, {"reward": 0.1, "other_reward_missing": 2})
    html = text(alice, "run", made)
    assert "The second reward model gave answers a score that is not a number, first in update 2" in html
    series = alice.get(reverse("run_series", args=[stage.project.slug, made.pk])).json()["series"]
    assert sorted(chart["y"] for chart in series) == [[0.0, 0.1], [0.1]]


def test_a_healthy_run_warns_of_nothing(alice: Client, stage: World) -> None:
    made = working(stage, job={"updates": 12, "kl_target": 6.0})
    healthy = {
        "reward": (0.0, 1.0), "other_reward": (0.0, 0.6), "length": (40.0, 50.0), "repetition": (0.05, 0.08),
        "entropy": (3.0, 2.0), "kl": (0.0, 6.0),
    }  # fmt: skip
    updates_made(made, *rising(12, **healthy))
    assert "notice-warning" not in text(alice, "run", made)


def test_a_few_updates_are_too_few_to_warn(alice: Client, stage: World) -> None:
    made = working(stage, job={"updates": 12})
    updates_made(made, *rising(5, length=(40.0, 400.0)))
    assert "notice-warning" not in text(alice, "run", made)


def test_dpo_that_makes_preferred_answers_less_likely_is_said(alice: Client, stage: World) -> None:
    made = run(
        stage.project, "improve", state=Run.State.RUNNING, attempt=1, selection={"method": "dpo"}, job={"beta": 0.1}
    )
    events(made, *({"loss": 0.3, "margin": 2.0, "chosen_reward": -2.0} for _n in range(40)))
    html = text(alice, "run", made)
    assert "Preferred answers have become less likely" in html
    assert '<span class="tag">DPO</span>' in html


def test_answers_to_fixed_prompts_are_shown_at_the_beginning_in_the_middle_and_now(alice: Client, stage: World) -> None:
    made = working(stage, job={"updates": 5})
    prompt = stage.project.prompts.earliest("pk")
    updates_made(made, *({"reward": 0.0, "examples": {str(prompt.pk): f"回答 <b>{n}</b>"}} for n in range(1, 6)))
    html = text(alice, "run", made)
    assert "Question number 0?" in html
    assert [f"回答 &lt;b&gt;{n}&lt;/b&gt;" in html for n in range(1, 6)] == [True, False, True, False, True]
    assert "in update 3" in html


def test_an_update_that_was_made_again_counts_once(alice: Client, stage: World) -> None:
    made = working(stage, job={"updates": 5})
    prompt = str(stage.project.prompts.earliest("pk").pk)
    updates_made(made, {"examples": {prompt: "first"}}, {"examples": {prompt: "lost"}})
    updates_made(made, {"examples": {prompt: "first"}}, {"examples": {prompt: "made again"}}, attempt=2)
    html = text(alice, "run", made)
    assert "made again" in html
    assert "lost" not in html


def test_the_time_of_an_update_is_split_by_what_it_was_spent_on(alice: Client, stage: World) -> None:
    made = working(stage, job={"updates": 5})
    updates_made(made, *({"seconds_generate": 30.0, "seconds_score": 10.0, "seconds_train": 60.0} for _n in range(2)))
    html = text(alice, "run", made)
    part = html[html.index("Seconds generating") :][:400]
    assert "30 s" in part
    assert "30.0%" in part or "30%" in part


def test_a_training_that_failed_offers_what_it_saved_last(alice: Client, stage: World) -> None:
    made = run(stage.project, "improve", selection={"method": "sft"}, **ended("failed"), error="NaN")
    assert "as the result" not in text(alice, "run", made)
    publish(run_folder(made) / "checkpoints" / "step-7", lambda folder: (folder / "state.json").write_text("{}"))
    html = text(alice, "run", made)
    assert "Resume from step 7" in html
    assert "Take step 7 as the result" in html
    Run.objects.filter(pk=made.pk).update(kind="generate")
    assert "as the result" not in text(alice, "run", made)
