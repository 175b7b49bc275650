"""The site's processes: started again when they die, given up when they keep dying, gone at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from annotate import supervisor
from annotate.supervisor import ChildDied, Supervisor

LIVES = "import time; print('up', flush=True); time.sleep(60)"
PATIENCE = 20.0


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    monkeypatch.setattr(supervisor, "FIRST_WAIT_SECONDS", 0.05)
    with Supervisor(tmp_path) as made:
        yield made


def until_said(keeper: Supervisor, log: Path, times: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while not log.exists() or log.read_text().count("up") < times:
        assert time.monotonic() < deadline
        keeper.check()
        time.sleep(0.02)


def running(program: str) -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if program in child.cmdline()]


def test_a_killed_process_is_started_again_with_its_log_continued(keeper: Supervisor, tmp_path: Path):
    keeper.start("web", [sys.executable, "-c", LIVES], {})
    until_said(keeper, tmp_path / "web.log", 1)
    (first,) = running(LIVES)
    first.kill()
    until_said(keeper, tmp_path / "web.log", 2)
    (second,) = running(LIVES)
    assert second.pid != first.pid


def test_each_restart_waits_twice_as_long_and_the_fourth_death_in_a_minute_is_the_last(
    keeper: Supervisor, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    keeper.start("heavy", [sys.executable, "-c", "print('no model here'); raise SystemExit(3)"], {})
    with pytest.raises(ChildDied, match=r"The process “heavy” stopped with status 3; the end of .*heavy\.log:\n"):
        until_said(keeper, tmp_path / "web.log", 1)
    assert (tmp_path / "heavy.log").read_text().count("no model here") == 4
    assert len(caplog.messages) == 3


def test_deaths_of_long_ago_do_not_count(keeper: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "RESTARTS_SECONDS", 0.0)
    keeper.start("web", [sys.executable, "-c", "print('up')"], {})
    until_said(keeper, tmp_path / "web.log", 6)


def test_nothing_is_left_at_the_end(tmp_path: Path):
    with Supervisor(tmp_path) as keeper:
        keeper.start("web", [sys.executable, "-c", LIVES], {})
        until_said(keeper, tmp_path / "web.log", 1)
    assert running(LIVES) == []
