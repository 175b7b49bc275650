"""``manage.py demo`` as people start and stop it, with a tiny model in the default one's place."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from annotate.services.projects import DEFAULT_MODEL
from rewardmodel.publish import publish
from tests.policy.conftest import make_model

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 180.0
LEFT_SECONDS = 10.0
RUN_LEFT_SECONDS = 45.0
BACK_SECONDS = 30.0
CRASH_LOOP_SECONDS = 60.0


class Demo:
    """A data folder, and the site that may run on it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        clean = {n: v for n, v in os.environ.items() if not n.startswith("HONE_")}
        for name in ("SECRET_KEY", "ALLOWED_HOSTS", "DEBUG", "DATABASE_URL", "CELERY_BROKER_URL"):
            clean.pop(name, None)
        self.environment = clean | {
            "DJANGO_SETTINGS_MODULE": "annotate.settings",
            "HONE_DATA_DIR": str(data),
            "HONE_PORT": str(self.port),
            "HONE_ENGINE": "transformers",
        }

    @contextlib.contextmanager
    def running(self) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
        """The site up, with what it printed until then."""
        output = self.data / "demo.out"
        with open(output, "wb") as file:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "demo"], cwd=ROOT, env=self.environment, stdout=file, stderr=file
            )
        try:
            deadline = time.monotonic() + START_SECONDS
            while "stops everything" not in output.read_text():
                assert process.poll() is None, output.read_text()
                assert time.monotonic() < deadline, output.read_text()
                time.sleep(0.1)
            yield process, output.read_text()
        finally:
            process.terminate()
            process.wait(30)

    def command(self, *words: str, answer: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run another command on the same data folder to its end."""
        return subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=ROOT,
            env=self.environment | environment,
            input=answer,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def processes(self) -> list[str]:
        """Command lines of the living processes that were started on this data folder."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                named = str(self.data) in " ".join(process.cmdline())
                if named or process.environ().get("HONE_DATA_DIR") == str(self.data):
                    found.append(" ".join(process.cmdline()))
        return found

    def wait_for_the_end_of(self, words: tuple[str, ...], seconds: float) -> None:
        """Wait until no process with one of the words in its command line is left."""
        deadline = time.monotonic() + seconds
        while left := [line for line in self.processes() if any(word in line for word in words)]:
            assert time.monotonic() < deadline, left
            time.sleep(0.2)

    def page(self) -> str:
        """What the site answers to a stranger."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=10) as response:
            return response.read().decode()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A site that was started once and stopped, over a project without people, as ``manage.py loop`` leaves one."""
    made = Demo(tmp_path_factory.mktemp("demo"))
    folder = made.data / "models" / DEFAULT_MODEL
    folder.parent.mkdir()

    def fill(target: Path) -> None:
        make_model(target, max_position_embeddings=8192)

    publish(folder, fill)
    made.command("migrate")
    alone = (
        "from annotate.services.sample import create_sample_project; create_sample_project(slug='alone', actor=None)"
    )
    made.command("shell", "--no-imports", "-c", alone)
    with made.running() as (process, printed):
        assert "sign in as lead" in printed
        assert "sign in as rater2" in printed
        assert "Password" in made.page()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    slugs = "from annotate.models import Project; print(*Project.objects.values_list('slug', flat=True))"
    assert {"alone", "first-light"} <= set(made.command("shell", "--no-imports", "-c", slugs).stdout.split())
    return made


def test_nothing_is_left_running_after_ctrl_c(demo: Demo):
    assert demo.processes() == []


def test_passwords_are_kept_where_only_their_owner_reads_them(demo: Demo):
    kept = demo.data / "demo_sign_ins.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE((demo.data / "secret_key").stat().st_mode) == 0o600
    assert [person["username"] for person in json.loads(kept.read_text())] == ["lead", "rater1", "rater2"]


def test_a_second_start_keeps_everything(demo: Demo):
    items = "from annotate.models import Item; print(Item.objects.count(), Item.objects.earliest('pk').created_at)"
    before = demo.command("shell", "--no-imports", "-c", items).stdout
    with demo.running() as (process, printed):
        for person in json.loads((demo.data / "demo_sign_ins.json").read_text()):
            assert person["password"] in printed
        after = demo.command("shell", "--no-imports", "-c", items).stdout
        assert after.split()[1:] == before.split()[1:]
        process.terminate()
        assert process.wait(30) == 0
    assert demo.processes() == []


def test_a_running_site_is_neither_started_twice_nor_deleted(demo: Demo):
    with demo.running():
        assert re.search("CommandError: A site is running on .* already", demo.command("demo").stderr)
        assert "is in use" in demo.command("clean_data", answer="yes\n").stderr
        assert "Password" in demo.page()


def test_a_killed_site_takes_its_processes_with_it_and_starts_again(demo: Demo):
    with demo.running() as (process, _):
        process.kill()
        process.wait()
        demo.wait_for_the_end_of(("annotate.serve", "celery"), LEFT_SECONDS)
    with demo.running():
        assert "Password" in demo.page()
    # A run's process whose worker was killed ends itself once nobody renews its lease.
    demo.wait_for_the_end_of(("--run-dir",), RUN_LEFT_SECONDS)
    assert demo.processes() == []


def test_a_web_server_that_is_killed_comes_back_and_one_that_keeps_dying_ends_the_site_with_its_log(demo: Demo):
    with demo.running() as (process, _):

        def kill_web() -> bool:
            found = [p for p in psutil.Process(process.pid).children() if "annotate.serve" in " ".join(p.cmdline())]
            for web in found:
                web.kill()
            return bool(found)

        assert kill_web()
        deadline = time.monotonic() + BACK_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                assert "Password" in demo.page()
                break
            time.sleep(0.2)
        assert process.poll() is None
        deadline = time.monotonic() + CRASH_LOOP_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(psutil.Error):
                kill_web()
            time.sleep(0.2)
        assert process.wait(30) == 1
    printed = (demo.data / "demo.out").read_text()
    assert "The process “web” was killed by signal 9; it is started again in 1 s." in printed
    assert "The process “web” was killed by signal 9; the end of" in printed
    assert "Uvicorn running on" in printed.split("the end of")[1]
    assert demo.processes() == []


def test_a_taken_port_is_said_before_anything_starts(demo: Demo):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = demo.command("demo", HONE_PORT=str(port))
    assert refused.returncode == 1
    assert f"Port {port} cannot be used (Address already in use): choose another" in refused.stderr
    assert demo.processes() == []


def test_data_is_deleted_after_a_yes_and_only_then(tmp_path: Path):
    demo = Demo(tmp_path)
    for name in ("runs", "models"):
        (tmp_path / name).mkdir()
    (tmp_path / "secret_key").write_text("k")
    for answer in ("y\n", ""):
        assert "Nothing was deleted" in demo.command("clean_data", answer=answer).stderr
        assert (tmp_path / "secret_key").exists()
    assert demo.command("clean_data", answer="yes\n").returncode == 0
    assert not (tmp_path / "secret_key").exists()
    assert not (tmp_path / "runs").exists()
    assert (tmp_path / "models").exists()
