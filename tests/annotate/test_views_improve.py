"""The page that asks for the next generation."""

from __future__ import annotations

import re

import pytest
from django.db.models import QuerySet
from django.test import Client
from django.urls import reverse

from annotate.models import RewardModel, Run
from annotate.services import estimates, snapshots
from annotate.services.files import located
from tests.annotate.factory import World, collect_items, run
from tests.annotate.judged import ids_of, judge, ranks
from tests.annotate.lineage import ended, turn

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with a GPU nothing is estimated before the first run."""
    monkeypatch.setattr(estimates, "GPUS", "no such device")


def address(stage: World) -> str:
    return reverse("improve", args=[stage.project.slug])


def improvements() -> QuerySet[Run]:
    return Run.objects.filter(kind="improve")


def text(html: str) -> str:
    """What a reader sees, in one line."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_it_works(alice: Client, stage: World) -> None:
    turn(stage)
    response = alice.post(address(stage), {"method": "ppo", "samples": "100", "learning_rate": "0.0002"})
    made = Run.objects.latest("created_at")
    assert response["Location"] == reverse("run", args=[stage.project.slug, made.pk])
    assert (made.kind, made.selection["method"], made.requested_by) == ("improve", "ppo", stage.alice)
    assert made.job["learning_rate"] == 0.0002
    assert made.job["updates"] == 25  # of 4 answers to the one training prompt


def test_the_form_begins_with_a_method_that_can_run(alice: Client, stage: World) -> None:
    assert 'value="sft" checked' in alice.get(address(stage)).content.decode()
    turn(stage)
    assert 'value="ppo" checked' in alice.get(address(stage)).content.decode()


def test_a_reward_model_of_another_seed_watches_unless_the_lead_says_otherwise(alice: Client, stage: World) -> None:
    left = turn(stage)
    Run.objects.filter(pk=left.reward_model.run_id).update(job={"seed": 0})
    trained = run(stage.project, "train_reward", job={"seed": 1}, snapshot=left.snapshot, **ended())
    RewardModel.objects.create(
        project=stage.project, number=2, run=trained, snapshot=left.snapshot, weights_path="x", loss="listmle",
        manifest_sha256="a" * 64, metrics={"test": {"accuracy": 0.5}},
    )  # fmt: skip
    html = alice.get(address(stage)).content.decode()
    watching = html[html.index('name="other_reward_model"') :]
    assert 'value="1" selected' in watching[: watching.index("</select>")]
    alice.post(address(stage), {"method": "ppo", "reward_model": "2", "other_reward_model": "1"})
    assert improvements().latest("created_at").job["other_reward_model"] == str(located(left.reward_model.weights_path))


@pytest.mark.parametrize("method", ["ppo", "rloo", "grpo", "bestofn"])
def test_all_weights_are_trained_at_a_much_lower_learning_rate(alice: Client, stage: World, method: str) -> None:
    turn(stage)
    fields = {"method": method, "lora_rank": "0"}
    html = alice.post(address(stage), {**fields, "learning_rate": "0.0002"}).content.decode()
    assert "This learning rate is for adapters: all weights (rank 0) take at most 0.0001." in _problem(
        html, "learning_rate"
    )
    alice.post(address(stage), fields)
    made = improvements().latest("created_at").job
    assert (made["lora_rank"], made["learning_rate"]) == (0, 1e-5)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"kl_target": "5", "kl_limit": "5"}, "kl_limit"),
        ({"kl_limit": "5"}, "kl_limit"),
        ({"kl_target": "40"}, "kl_target"),
    ],
)
def test_a_kl_limit_below_the_target_is_refused_at_the_field_that_was_filled_in(
    alice: Client, stage: World, fields: dict[str, str], place: str
) -> None:
    turn(stage)
    before = improvements().count()
    html = alice.post(address(stage), {"method": "ppo", **fields}).content.decode()
    assert "The KL at which it stops must be above the KL aimed at" in _problem(html, place)
    assert '<details class="card part fold" open>' in html
    assert improvements().count() == before


def _problem(html: str, name: str) -> str:
    """What is said at a field that will not do, which is marked."""
    field = html[html.index(f'name="{name}"') :]
    field = field[: field.index("</div>")]
    assert 'aria-invalid="true"' in field
    return field


@pytest.mark.parametrize("chosen", [{}, {"reward_model": "1"}], ids=["the latest", "by number"])
def test_a_reward_model_that_would_watch_itself_is_refused_at_its_field(
    alice: Client, stage: World, chosen: dict[str, str]
) -> None:
    turn(stage)
    before = improvements().count()
    response = alice.post(address(stage), {"method": "ppo", "other_reward_model": "1", **chosen})
    html = response.content.decode()
    assert response.status_code == 422
    field = html[html.index('name="other_reward_model"') :]
    assert field.startswith('name="other_reward_model" aria-invalid="true"')
    assert "Reward model 1 cannot watch itself: choose another one, or none." in field[: field.index("</div>")]
    assert improvements().count() == before


def test_fields_of_other_methods_are_passed_over(alice: Client, stage: World) -> None:
    collect_items(stage)
    judge(stage, ranks(ids_of(stage), 1, 2, 3, 4))
    fields = {"method": "dpo", "beta": "0.3", "samples": "nonsense", "n": "7", "reward_model": "99", "from_base": "1"}
    alice.post(address(stage), fields)
    made = improvements().get()
    assert (made.selection["method"], made.job["beta"], made.selection["from_base"]) == ("dpo", 0.3, True)
    assert made.snapshot is not None


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "Choose a method."),
        ({"method": "prayer"}, "Choose a method."),
        ({"method": "ppo"}, "There is no reward model yet"),
        ({"method": "ppo", "reward_model": "99"}, "There is no reward model 99 here."),
        ({"method": "ppo", "samples": "many"}, "Answers to draw must be a number from 1 to 10,000,000."),
        ({"method": "bestofn", "n": "1"}, "Answers a prompt (n) must be a number from 2 to 256."),
        ({"method": "sft", "sources": "edit", "learning_rate": "nan"}, "Learning rate must be a number"),
        ({"method": "sft", "sources": "edit"}, "There are no comparisons yet"),
        ({"method": "dpo", "snapshot": "99"}, "There is no snapshot 99 here."),
    ],
)
def test_what_cannot_be_started_is_said_above_the_form_as_it_was_sent(
    alice: Client, stage: World, fields: dict[str, str], sentence: str
) -> None:
    response = alice.post(address(stage), fields)
    html = response.content.decode()
    assert response.status_code == 422
    assert f'role="alert">{sentence}' in html
    if fields.get("method") in ("ppo", "bestofn"):
        assert f'value="{fields["method"]}" checked' in html
    for name in ("samples", "n"):
        if name in fields:
            assert f'name="{name}"' in html
            assert f'value="{fields[name]}"' in html
    assert not improvements().exists()


def test_the_share_of_demonstrations_is_named_in_the_reader_s_language(alice: Client, stage: World) -> None:
    fields = {"method": "sft", "sources": "edit", "original_share": "100"}
    html = alice.post(address(stage), fields, headers={"accept-language": "zh-CN"}).content.decode()
    assert 'role="alert">示范回答的比例' in html


def test_the_estimate_follows_the_form_without_starting_anything(alice: Client, stage: World) -> None:
    turn(stage)
    started = Run.objects.count()

    def estimated(**fields: str) -> str:
        return text(alice.post(address(stage), fields, headers={"HX-Request": "true"}).content.decode())

    assert "604 answers are drawn and scored. 4 of them only measure the result." in estimated(
        method="ppo", samples="600"
    )
    assert "PPO has not run in this project yet" in estimated(method="ppo", samples="600")
    assert "must be a number" in estimated(method="ppo", samples="-3")
    assert Run.objects.count() == started


def test_on_a_gpu_nothing_is_estimated_before_the_first_run(
    alice: Client, stage: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn(stage)
    monkeypatch.setattr(estimates, "GPUS", "null")
    fields = {"method": "ppo", "minutes": "5"}
    html = text(alice.post(address(stage), fields, headers={"HX-Request": "true"}).content.decode())
    assert "not known yet" in html
    assert "for a GPU there is no rule: the first run will tell" in html
    assert "40 answers are drawn and scored." in html  # nine updates of 4, and as many to measure the result


def test_a_large_project_is_frozen_before_and_not_while_somebody_waits(
    alice: Client, stage: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect_items(stage)
    judge(stage, ranks(ids_of(stage), 1, 2, 3, 4))
    monkeypatch.setattr(snapshots, "AT_ONCE", 1)
    html = alice.post(address(stage), {"method": "dpo"}).content.decode()
    assert "take a snapshot first, then choose it here" in html
    assert not improvements().exists()


def test_every_field_says_to_which_methods_it_belongs(alice: Client, stage: World) -> None:
    html = alice.get(address(stage)).content.decode()
    for name, methods in {"samples": "ppo rloo grpo", "n": "bestofn", "beta": "dpo"}.items():
        field = html[: html.index(f'name="{name}"')]
        assert field[field.rindex("data-for=") :].startswith(f'data-for="{methods}"')


def test_the_loop_leads_to_the_page(alice: Client, stage: World) -> None:
    turn(stage)
    html = alice.get(reverse("project", args=[stage.project.slug])).content.decode()
    assert f'id="loop-improve" href="{address(stage)}"' in html
