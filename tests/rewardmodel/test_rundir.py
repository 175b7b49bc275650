"""Run directories: what is published is whole, what is broken is seen, and one process works at a time."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rewardmodel import rundir
from rewardmodel.contract import JobError
from rewardmodel.publish import MANIFEST, BrokenFolder, publish, verify, whole_file
from rewardmodel.rundir import Busy, open_run, run_job


def write(text: str):
    return lambda folder: (folder / "a.txt").write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_published_folder_is_whole_and_verifies(tmp_path):
    sha256 = publish(tmp_path / "model", write("one"))
    assert verify(tmp_path / "model", sha256) == sha256
    assert names(tmp_path) == ["model"]
    assert publish(tmp_path / "model", write("two")) != sha256
    assert (tmp_path / "model" / "a.txt").read_text() == "two"
    assert names(tmp_path) == ["model"]


def test_what_cannot_be_written_leaves_the_earlier_folder_and_nothing_else(tmp_path):
    publish(tmp_path / "model", write("one"))

    def fail(folder: Path) -> None:
        (folder / "a.txt").write_text("two")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        publish(tmp_path / "model", fail)
    assert names(tmp_path) == ["model"]
    verify(tmp_path / "model")
    with pytest.raises(OSError, match="No space left"), whole_file(tmp_path / "model" / "a.txt"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    verify(tmp_path / "model")


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda f: (f / "a.txt").write_text("onE"), "a.txt is missing or differs"),
        (lambda f: (f / "a.txt").unlink(), "a.txt is missing or differs"),
        (lambda f: (f / "b.txt").write_text(""), "b.txt is not in the manifest"),
        (lambda f: (f / MANIFEST).unlink(), "was not published whole"),
        (lambda f: (f / MANIFEST).write_text("{"), "is not a manifest"),
        (lambda f: (f / MANIFEST).write_text('{"a.txt": 3}'), "is not a manifest"),
        (lambda f: (f / MANIFEST).write_text("{}"), "is not the manifest that was recorded"),
    ],
)
def test_a_folder_that_was_changed_by_hand_is_seen_and_the_file_is_named(tmp_path, edit, sentence):
    sha256 = publish(tmp_path / "model", write("one"))
    edit(tmp_path / "model")
    recorded = sha256 if "recorded" in sentence else None
    with pytest.raises(BrokenFolder, match=sentence):
        verify(tmp_path / "model", recorded)


def test_a_job_goes_on_from_the_newest_checkpoint_that_is_whole_and_two_are_kept(tmp_path, capsys):
    with open_run(tmp_path) as run:
        for step in (1, 2, 3, 10):
            run.publish_checkpoint(step, write(str(step)))
        assert names(tmp_path / "checkpoints") == ["step-10", "step-3"]
        assert run.latest_checkpoint() == tmp_path / "checkpoints" / "step-10"
        (tmp_path / "checkpoints" / "step-10" / "a.txt").write_text("11")
        assert run.latest_checkpoint() == tmp_path / "checkpoints" / "step-3"
        assert "step-10/a.txt is missing or differs" in capsys.readouterr().err
        (tmp_path / "checkpoints" / "step-3" / MANIFEST).write_text("[]")
        assert run.latest_checkpoint() is None


def test_what_a_killed_job_was_writing_is_removed_by_the_next(tmp_path):
    for left in ("checkpoints/.step-5.77.tmp", "output/.model.77.tmp", "attempt-1/policy-3"):
        (tmp_path / left).mkdir(parents=True)
    (tmp_path / ".result.json.77.tmp").touch()
    with open_run(tmp_path):
        pass
    assert names(tmp_path / "checkpoints") == names(tmp_path / "output") == []
    assert not (tmp_path / "attempt-1" / "policy-3").exists()
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_second_process_is_told_to_come_back_later(tmp_path, capsys):
    with open_run(tmp_path):
        with pytest.raises(Busy):
            open_run(tmp_path).__enter__()
        assert run_job(lambda run: None, tmp_path, 2) == rundir.EXIT_RESUMABLE
    assert "already working" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("problem", "status", "said"),
    [
        (JobError("No model."), rundir.EXIT_FAILED, "error: No model."),
        (OSError(errno.ENOSPC, "No space left on device"), rundir.EXIT_DISK_FULL, "is full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), rundir.EXIT_DISK_FULL, "is full"),
        (ZeroDivisionError("division"), rundir.EXIT_FAILED, "ZeroDivisionError: division"),
    ],
)
def test_how_a_job_ended_is_its_exit_status(tmp_path, capsys, problem, status, said):
    def fail(run):
        raise problem

    assert run_job(fail, tmp_path, 1) == status
    assert said in capsys.readouterr().err


HOLDER = """
import pathlib, subprocess, sys, time
from rewardmodel.rundir import run_job
def main(run):
    child = subprocess.Popen(["sleep", "60"])
    print(child.pid, flush=True)
    time.sleep(60)
sys.exit(run_job(main, pathlib.Path(sys.argv[1]), 1))
"""


@pytest.mark.parametrize("skew", [-3600, 3600])
def test_a_job_ends_itself_and_its_children_when_its_lease_is_no_longer_renewed(tmp_path, skew):
    """However wrong the clock of the one who renews it."""
    lease = tmp_path / "lease"
    lease.write_text("1.0")
    job = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    child = int(job.stdout.readline())
    for n in range(15):
        os.utime(lease, (time.time() + skew + n, time.time() + skew + n))
        time.sleep(0.1)
    assert job.poll() is None
    assert job.wait(5) == rundir.EXIT_RESUMABLE
    assert json.loads((tmp_path / "lease").read_text()) == 1.0
    assert not Path(f"/proc/{child}").exists() or "zombie" in Path(f"/proc/{child}/status").read_text()
