"""Cancelling a run, resuming it, freeing its disk, and ringing for it."""

from __future__ import annotations

import shutil
import socket
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import AuditEvent, Generation, Run
from annotate.services import Conflict, Refused, control, space
from annotate.services.execute import execute
from annotate.services.files import run_folder, stored
from annotate.services.prune import prune
from annotate.services.runs import call_worker, launch_generate
from rewardmodel.publish import publish
from tests.annotate.factory import World, run, world
from tests.annotate.lineage import ended, turn
from tests.annotate.played import STAYS, Play, anew, once
from tests.policy.conftest import make_model

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage() -> World:
    return world(prompts=3)


def published(folder: Path) -> Path:
    """A folder with a manifest and a thousand bytes."""

    def fill(target: Path) -> None:
        (target / "weights").write_bytes(b"1" * 1000)

    publish(folder, fill)
    return folder


def checkpoint(of: Run, step: int) -> Path:
    return published(run_folder(of) / "checkpoints" / f"step-{step}")


def actions() -> list[str]:
    return list(AuditEvent.objects.filter(object_type="run").order_by("pk").values_list("action", flat=True))


def test_a_queued_run_is_cancelled_at_once_and_no_worker_takes_it(asked: Run, stage: World) -> None:
    control.cancel(run=asked, actor=stage.alice)
    assert (anew(asked).state, anew(asked).finished_at is not None) == ("cancelled", True)
    assert not execute(asked.pk)
    assert actions() == ["launched generate", "cancelled"]


@pytest.mark.django_db(transaction=True)
def test_a_working_run_is_stopped_in_order_and_can_be_resumed(played, in_a_worker, settings) -> None:
    settings.HONE_ENGINE = "transformers"
    stage = world(prompts=1)
    asked = launch_generate(project=stage.project, actor=stage.alice, ring=False)
    played(STAYS)
    worker = in_a_worker(asked)
    once(lambda: anew(asked).progress)
    assert control.cancel(run=asked, actor=stage.alice).stopping
    worker.join(10)
    assert (anew(asked).state, anew(asked).attempts_lost, anew(asked).error) == ("cancelled", 0, "")
    assert control.resume(run=asked, actor=stage.alice, ring=False).state == "queued"
    worker = in_a_worker(asked)
    once(lambda: anew(asked).attempt == 2 and anew(asked).progress)
    assert not anew(asked).stopping
    control.cancel(run=asked, actor=stage.alice)
    worker.join(10)
    assert anew(asked).state == "cancelled"
    assert actions() == ["launched generate", "cancelled", "resumed", "cancelled"]


def test_a_run_that_is_over_is_not_cancelled(stage: World) -> None:
    made = run(stage.project, **ended())
    with pytest.raises(Conflict, match="nothing to cancel"):
        control.cancel(run=made, actor=stage.alice)
    assert anew(made).state == "succeeded"


def test_only_a_run_that_ended_early_is_resumed_and_only_alone(stage: World) -> None:
    for made in (run(stage.project), run(stage.project, **ended())):
        with pytest.raises(Conflict, match="Only a run that failed or was cancelled"):
            control.resume(run=made, actor=stage.alice)
    failed = run(stage.project, **ended("failed"), error="Why", attempts_lost=3)
    other = run(stage.project)
    Run.objects.filter(pk__in=[failed.pk, other.pk]).update(key="generate")
    with pytest.raises(Conflict, match="already queued or running"):
        control.resume(run=failed, actor=stage.alice)
    assert anew(failed).error == "Why"
    other.delete()
    control.resume(run=failed, actor=stage.alice)
    assert (anew(failed).state, anew(failed).error, anew(failed).attempts_lost) == ("queued", "", 0)


@pytest.mark.django_db(transaction=True)
def test_cancelling_and_claiming_at_once_ends_in_a_cancelled_run(settings, played, in_a_worker) -> None:
    settings.HONE_ENGINE = "transformers"
    stage = world(prompts=1)
    played("sys.exit(75)")
    for _round in range(5):
        asked = launch_generate(project=stage.project, actor=None, ring=False)
        worker = in_a_worker(asked)
        control.cancel(run=asked, actor=stage.alice)
        worker.join(20)
        assert anew(asked).state == "cancelled"


def test_the_page_of_a_run_offers_what_can_be_done(client: Client, stage: World) -> None:
    client.force_login(stage.alice)

    def page(of: Run) -> str:
        return client.get(reverse("run", args=[stage.project.slug, of.pk])).content.decode()

    made = run(stage.project, state="running", attempt=1, log_tail="step 5 of 9")
    stop, resume = (reverse(name, args=[stage.project.slug, made.pk]) for name in ("run_cancel", "run_resume"))
    assert stop in page(made)
    assert "step 5 of 9" in page(made)
    assert client.post(stop).status_code == 302
    assert "stopping" in page(made)
    assert stop not in page(made)
    Run.objects.update(**ended("cancelled"))
    checkpoint(made, 12)
    assert "Resume from step 12" in page(made)
    assert client.post(resume).status_code == 302
    assert "It goes on from step 12." in page(made)
    assert [message.message for message in client.post(resume, follow=True).context["messages"]] == [
        "Only a run that failed or was cancelled can be resumed."
    ]


@pytest.mark.parametrize("name", ["run_cancel", "run_resume"])
def test_only_leads_stop_and_resume_runs(client: Client, stage: World, name: str) -> None:
    made = run(stage.project, state="cancelled", finished_at=timezone.now())
    address = reverse(name, args=[stage.project.slug, made.pk])
    for person, status in ((stage.bob, 403), (stage.charlie, 404)):
        client.force_login(person)
        assert client.post(address).status_code == status
    assert anew(made).state == "cancelled"


def test_commands_cancel_a_run_and_carry_a_resumed_one_to_its_end(asked: Run, played: Play, capsys) -> None:
    played("run.finish({'kind': 'generate', 'shards': {}, 'metrics': {}})")
    call_command("cancel_run", str(asked.pk)[:8], actor="alice")
    assert anew(asked).state == "cancelled"
    call_command("resume_run", str(asked.pk), actor="alice")
    assert anew(asked).state == "succeeded"
    assert capsys.readouterr().out.splitlines() == [f"{asked}: cancelled.", f"{asked}: succeeded."]
    with pytest.raises(CommandError, match="There is no run that begins with zz"):
        call_command("cancel_run", "zz")


def test_what_a_run_writes_is_estimated_from_its_model(tmp_path: Path) -> None:
    """By hand: embedding 260·64, and of two layers q 64·64, k and v 64·32, o 64·64, three of 64·128, and norms."""
    make_model(tmp_path, tie_word_embeddings=True)
    layer = 64 * 64 * 2 + 64 * 32 * 2 + 64 * 128 * 3
    model = 260 * 64 + 2 * (layer + 2 * 64) + 64
    pairs = (260 + 64) + 2 * ((64 + 64) * 2 + (64 + 32) * 2 + (64 + 128) * 3)
    job = {"base_model": str(tmp_path), "policy": str(tmp_path), "lora_rank": 8}
    assert space.needed_bytes("train_reward", job) == space.SLACK + 4 * (model + 3 * 4 * 8 * pairs)
    assert space.needed_bytes("improve", job) == space.SLACK + 4 * (model + 3 * 3 * 8 * pairs)
    assert space.needed_bytes("train_reward", job | {"lora_rank": 0}) == space.SLACK + 4 * (model + 3 * 4 * model)
    assert space.needed_bytes("generate", {}) == space.SLACK


def test_a_run_for_which_the_disk_has_no_room_is_refused_before_it_is_queued(stage: World, monkeypatch) -> None:
    free = space.needed_bytes("generate", {}) - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, free))
    with pytest.raises(Refused, match=r"may write 256\.0.MB.* free: make room"):
        launch_generate(project=stage.project, actor=None, ring=False)
    assert not Run.objects.exists()


def test_pruning_frees_what_ended_runs_do_not_need_and_leaves_every_registered_model(stage: World) -> None:
    long_ago = timezone.now() - timedelta(days=40)
    left = turn(stage)
    registered = published(run_folder(left.run) / "output" / "model")
    Generation.objects.filter(run=left.run).update(weights_path=stored(registered))
    succeeded = checkpoint(left.run, 3)
    old = run(stage.project, **ended("failed") | {"finished_at": long_ago})
    fresh = run(stage.project, **ended("cancelled"))
    working = run(stage.project, state="running")
    checkpoints = {of.pk: checkpoint(of, 5) for of in (old, fresh, working)}
    published(run_folder(old) / "output" / "model")
    (run_folder(old) / "attempt-1").mkdir()
    (run_folder(old) / "attempt-1" / "log.txt").write_text("why")

    planned = list(prune(older_than=timedelta(days=30), dry_run=True))
    assert succeeded.exists()
    assert checkpoints[old.pk].exists()
    assert list(prune(older_than=timedelta(days=30), dry_run=False)) == planned
    assert {found.path.relative_to(run_folder(old).parent).as_posix() for found in planned} == {
        f"{left.run.pk}/checkpoints",
        f"{old.pk}/checkpoints",
        f"{old.pk}/output/model",
    }
    assert all(found.size >= 1000 for found in planned)
    assert checkpoints[fresh.pk].exists()
    assert checkpoints[working.pk].exists()
    assert (run_folder(old) / "attempt-1" / "log.txt").exists()
    assert registered.exists()
    assert list(prune(older_than=timedelta(days=30), dry_run=False)) == []


def test_a_page_does_not_wait_for_a_broker_that_does_not_answer(
    stage: World, django_capture_on_commit_callbacks, monkeypatch
) -> None:
    """Somebody listens at the broker's address and never says a word."""
    from annotate.celery import app

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(app.conf, "broker_url", f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        # What Celery keeps of connections belongs to the address, and must not outlive it.
        monkeypatch.setattr(app, "_pool", None)
        monkeypatch.setattr(app.amqp, "_producer_pool", None)
        began = time.monotonic()
        with django_capture_on_commit_callbacks(execute=True):
            call_worker(run(stage.project))
        assert time.monotonic() - began < 4.0


@pytest.mark.parametrize("address", ["amqp://user:secret@127.0.0.1:1//", "redis://127.0.0.1:1/0"])
def test_every_broker_is_reached_with_the_same_settings(address: str) -> None:
    """The options that one broker's client knows and another's refuses would show as a TypeError here."""
    from celery import Celery
    from kombu.exceptions import OperationalError

    app = Celery(set_as_current=False)
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.conf.broker_url = address
    with pytest.raises((OperationalError, OSError)), app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0)
