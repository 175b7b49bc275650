"""Runs whose worker, process, clock or folder misbehaves."""

from __future__ import annotations

import json
import math
import shutil
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from annotate.models import Completion, Run
from annotate.services.execute import execute
from annotate.services.files import run_folder
from annotate.services.runs import launch_generate
from annotate.services.sweep import requeue_abandoned, sweep
from rewardmodel.publish import file_sha256
from rewardmodel.rundir import open_run
from tests.annotate.factory import World, run, world
from tests.annotate.played import DEAF, DIES, STAYS, Play, anew, once

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage() -> World:
    return world(prompts=3)


def test_a_worker_that_is_asked_to_stop_hands_its_run_over_at_no_cost(asked: Run, played, monkeypatch) -> None:
    played(STAYS)
    stopping = threading.Event()
    stopping.set()
    monkeypatch.setattr("annotate.services.follow.worker_stopping", stopping)
    monkeypatch.setattr("annotate.services.execute.worker_stopping", stopping)
    assert execute(asked.pk)
    assert (anew(asked).state, anew(asked).attempt, anew(asked).attempts_lost) == ("queued", 1, 0)


def test_a_process_that_is_deaf_to_a_stop_is_killed_and_its_run_queued_again(asked: Run, played, monkeypatch) -> None:
    played(DEAF)
    stopping = threading.Event()
    stopping.set()
    monkeypatch.setattr("annotate.services.follow.worker_stopping", stopping)
    monkeypatch.setattr("annotate.services.follow.STOP_SECONDS", 0.2)
    assert execute(asked.pk)
    assert (anew(asked).state, anew(asked).attempts_lost) == ("queued", 0)


def test_a_process_that_is_killed_is_begun_again_and_given_up_the_third_time(asked: Run, played) -> None:
    played(DIES)
    states = []
    for _attempt in range(3):
        assert execute(asked.pk)
        states.append((anew(asked).state, anew(asked).attempts_lost))
    assert states == [("queued", 1), ("queued", 2), ("failed", 2)]
    assert "killed by signal 9, 3 times" in anew(asked).error


def test_a_run_whose_folder_a_lost_process_still_holds_waits_and_nothing_is_started(asked: Run, played) -> None:
    played(STAYS)
    run_folder(asked).mkdir(parents=True)
    with open_run(run_folder(asked), 7):
        assert execute(asked.pk)
    assert (anew(asked).state, anew(asked).attempts_lost) == ("queued", 0)
    assert not (run_folder(asked) / "attempt-1").exists()


def test_the_log_can_be_read_while_the_run_goes_on(asked: Run, played, monkeypatch) -> None:
    played("[print('line', n, flush=True) for n in range(50)]; run.progress('load'); time.sleep(0.5); sys.exit(3)")
    seen: list[str] = []
    assert execute(asked.pk, on_progress=lambda *_: seen.append(anew(asked).log_tail))
    assert anew(asked).log_tail.splitlines()[0] == "line 10"
    assert len(anew(asked).log_tail.splitlines()) == 40


def test_a_result_that_a_lost_worker_left_is_registered_and_not_made_again(
    asked: Run, played: Play, stage: World
) -> None:
    """The worker died after its process had published everything and before it had looked."""
    folder = run_folder(asked)
    played("sys.exit(9)")
    (folder / "output").mkdir(parents=True)
    sha256 = _completions(folder / "output" / "completions-00000.parquet", asked)
    shards = {"output/completions-00000.parquet": sha256}
    _result(folder, {"kind": "generate", "shards": shards, "metrics": {}})
    assert execute(asked.pk)
    assert anew(asked).state == "succeeded", anew(asked).error
    assert Completion.objects.filter(run=asked).count() == 4
    assert stage.project.items.count() == 1
    assert not (folder / "attempt-1").exists()


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"kind": "improve"}', '{"kind": "generate", "shards": ["output/x"], "metrics": {}}'],
    ids=["broken", "a list", "of another kind", "with other fields"],
)
def test_a_result_that_is_not_one_fails_the_run_by_the_files_name(asked: Run, content: str) -> None:
    run_folder(asked).mkdir(parents=True)
    (run_folder(asked) / "result.json").write_text(content)
    assert execute(asked.pk)
    assert anew(asked).state == "failed"
    assert f"{run_folder(asked) / 'result.json'} is not the result of this run" in anew(asked).error
    assert not Completion.objects.exists()


def test_completions_that_were_changed_by_hand_are_not_registered(asked: Run) -> None:
    folder = run_folder(asked)
    (folder / "output").mkdir(parents=True)
    path = folder / "output" / "completions-00000.parquet"
    sha256 = _completions(path, asked)
    path.write_bytes(path.read_bytes() + b"!")
    _result(folder, {"kind": "generate", "shards": {"output/completions-00000.parquet": sha256}, "metrics": {}})
    assert execute(asked.pk)
    assert (anew(asked).state, Completion.objects.count()) == ("failed", 0)
    assert f"{path} is not the file that the run wrote" in anew(asked).error


def test_a_result_cannot_lead_out_of_the_folder_of_its_run(asked: Run, tmp_path: Path) -> None:
    outside = tmp_path / "completions.parquet"
    sha256 = _completions(outside, asked)
    run_folder(asked).mkdir(parents=True)
    _result(run_folder(asked), {"kind": "generate", "shards": {str(outside): sha256}, "metrics": {}})
    assert execute(asked.pk)
    assert "is not in the folder of its run" in anew(asked).error
    assert not Completion.objects.exists()


@pytest.mark.parametrize("name", ["spec.json", "data/prompts.parquet"])
@pytest.mark.parametrize("removed", [False, True], ids=["changed", "removed"])
def test_inputs_that_were_changed_between_attempts_stop_the_next(asked: Run, played, name: str, removed: bool) -> None:
    played(DIES)
    assert execute(asked.pk)
    path = run_folder(asked) / name
    if removed:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b" ")
    assert execute(asked.pk)
    assert anew(asked).state == "failed"
    assert f"{path} was changed or removed after this run began" in anew(asked).error
    assert not (run_folder(asked) / "attempt-2").exists()


def test_what_no_text_of_the_database_can_hold_stops_no_run(asked: Run, played: Play) -> None:
    """A model may say anything: a random one says NUL now and then."""
    played("run.progress('work', 1, 1, 'a' + chr(0) + 'b', examples={'p' + chr(0): 'x' + chr(0)}); sys.exit(3)")
    assert execute(asked.pk)
    event = asked.events.get()
    assert (event.message, event.metrics) == ("ab", {"examples": {"p": "x"}})


def test_a_figure_that_is_no_number_is_left_out_and_stops_no_run(asked: Run, played: Play) -> None:
    """Neither a database nor JSON has NaN; Python writes it all the same."""
    played(
        "nan, inf = float('nan'), float('inf'); run.progress('work', 1, 1, kl=nan, reward=0.5, each=[1.0, inf], "
        "whole=[1.0, 2.0], of={'a': -inf, 'b': 1}); sys.exit(3)"
    )
    assert execute(asked.pk)
    assert "status 3" in anew(asked).error
    assert asked.events.get().metrics == {"reward": 0.5, "whole": [1.0, 2.0], "of": {"b": 1}}


def test_a_result_with_such_a_figure_is_registered_without_it(asked: Run, played: Play) -> None:
    folder = run_folder(asked)
    played("sys.exit(9)")
    (folder / "output").mkdir(parents=True)
    sha256 = _completions(folder / "output" / "completions-00000.parquet", asked)
    shards = {"output/completions-00000.parquet": sha256}
    _result(folder, {"kind": "generate", "shards": shards, "metrics": {"score": math.nan, "tokens": 3.5}})
    assert execute(asked.pk)
    assert (anew(asked).result or {})["metrics"] == {"tokens": 3.5}


def test_a_result_in_which_a_model_says_such_things_is_registered(asked: Run, played: Play) -> None:
    folder = run_folder(asked)
    played("sys.exit(9)")
    (folder / "output").mkdir(parents=True)
    sha256 = _completions(folder / "output" / "completions-00000.parquet", asked)
    shards = {"output/completions-00000.parquet": sha256}
    _result(folder, {"kind": "generate", "shards": shards, "metrics": {"said": ["a\x00b", "\ud800"]}})
    assert execute(asked.pk)
    assert (anew(asked).result or {})["metrics"] == {"said": ["ab", "?"]}


def test_a_line_of_progress_that_is_none_fails_the_run_by_its_place(asked: Run, played) -> None:
    played("run._progress.write('hello' + chr(10)); run._progress.flush(); time.sleep(60)")
    assert execute(asked.pk)
    path = run_folder(asked) / "attempt-1" / "progress.jsonl"
    assert anew(asked).error == f"Line 1 of {path} is not what a job writes."


def test_a_disk_without_room_fails_the_run_before_anything_is_written(asked: Run, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    assert execute(asked.pk)
    assert anew(asked).state == "failed"
    assert "This run may write" in anew(asked).error
    assert not run_folder(asked).exists()


@pytest.mark.django_db(transaction=True)
def test_a_database_that_goes_away_for_a_while_stops_nothing(played, in_a_worker, settings) -> None:
    settings.HONE_ENGINE = "transformers"
    played("[(run.progress('work', n, 20), time.sleep(0.1)) for n in range(20)]; sys.exit(3)")
    asked = launch_generate(project=world().project, actor=None, ring=False)
    worker = in_a_worker(asked)
    once(lambda: asked.events.exists())
    with connection.cursor() as cursor:
        for _time in range(5):
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            time.sleep(0.1)
    worker.join()
    assert sorted(asked.events.values_list("done", flat=True)) == list(range(20))
    assert anew(asked).state == "failed"
    assert "status 3" in anew(asked).error


def test_the_sweeper_queues_lost_runs_and_gives_them_up_after_three_attempts(stage: World) -> None:
    long_ago = timezone.now() - timedelta(minutes=5)
    lost = run(stage.project, state="running", attempt=4, attempts_lost=1, heartbeat_at=long_ago)
    given_up = run(stage.project, state="running", attempt=3, attempts_lost=2, heartbeat_at=long_ago)
    alive = run(stage.project, state="running", attempt=1, heartbeat_at=timezone.now())
    cancelled = run(stage.project, state="running", attempt=1, heartbeat_at=long_ago, cancel_requested=True)
    Run.objects.update(created_at=long_ago)
    assert sweep() == [lost]
    states = {r.pk: (r.state, r.attempts_lost) for r in Run.objects.all()}
    assert states[lost.pk] == ("queued", 2)
    assert states[given_up.pk] == ("failed", 3)
    assert states[alive.pk] == ("running", 0)
    assert states[cancelled.pk] == ("cancelled", 0)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_worker_whose_clock_is_an_hour_wrong_is_neither_lost_nor_immortal(
    asked: Run, played, monkeypatch, hours
) -> None:
    """A claim is by the database's clock, and so is the sweeper's, whatever the two machines believe."""
    real = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: real() + timedelta(hours=hours))
    monkeypatch.setattr(time, "time", lambda: real().timestamp() + 3600 * hours)
    played(DIES)
    seen: list[str] = []

    def look(*_: object) -> None:
        sweep()
        seen.append(anew(asked).state)

    execute(asked.pk, on_progress=look)
    assert seen == ["running"]
    Run.objects.update(state="running", heartbeat_at=real() - timedelta(seconds=91))
    sweep()
    assert anew(asked).state == "queued"


def test_runs_of_a_site_that_was_stopped_are_queued_again_unless_somebody_works_on_them(stage: World) -> None:
    long_ago = timezone.now() - timedelta(minutes=5)
    left = run(stage.project, state="running", attempt=1, heartbeat_at=long_ago)
    held = run(stage.project, state="running", attempt=1, heartbeat_at=long_ago)
    run_folder(held).mkdir(parents=True)
    with open_run(run_folder(held), 1):
        assert requeue_abandoned() == [left]


def _completions(path: Path, of: Run) -> str:
    """A file of four answers to the run's first prompt; its hash."""
    from policy.contract import COMPLETION_COLUMNS
    from rewardmodel.tables import write_rows

    prompt = of.project.prompts.first()
    assert prompt is not None
    rows = [
        {
            "generation": 0,
            "prompt_id": str(prompt.pk),
            "sample": sample,
            "text": f"Answer {sample}",
            "token_count": 2,
            "finish_reason": "stop",
            "sum_logprob": -1.0,
            "seed": sample,
            "engine": "transformers",
            "engine_version": "5",
            "score": None,
        }
        for sample in range(4)
    ]
    write_rows(path, rows, COMPLETION_COLUMNS)
    return file_sha256(path)


def _result(folder: Path, content: object) -> None:
    (folder / "result.json").write_text(json.dumps(content))
