"""What drills of training share: a project with a tiny model, real workers, and a record of who trains."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

SAMPLE_SECONDS = 0.05


def a_project(folder: Path, *, prompts: int) -> Any:
    """A project on a tiny random model; a third of its prompts are for training, a third for dev, a third for test."""
    from django.conf import settings

    from annotate.models import Generation
    from tests.annotate.factory import world
    from tests.policy.conftest import make_model

    model = make_model(Path(settings.MODELS_DIR) / "tiny")
    stage = world(prompts=prompts, max_tokens=12)
    Generation.objects.update(weights_path=str(model))
    return stage.project


def start_worker(folder: Path, queue: str, number: int = 0, *options: str) -> subprocess.Popen[bytes]:
    """Start a Celery worker; its output is added to a log in the folder."""
    command = [sys.executable, "-m", "celery", "-A", "annotate", "worker", "--loglevel", "INFO", "-Q", queue]
    command += ["-c", "1", "-n", f"{queue}{number}@%h", "--without-gossip", "--without-mingle", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with open(folder / f"{queue}{number}.log", "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)


def stop_worker(worker: subprocess.Popen[bytes]) -> None:
    """Ask a worker to end, and see that it does."""
    worker.send_signal(signal.SIGTERM)
    try:
        worker.wait(60)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


@contextmanager
def workers(folder: Path, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Heavy workers for as long as the context lasts."""
    started = [start_worker(folder, "heavy", number) for number in range(count)]
    try:
        yield started
    finally:
        for worker in started:
            stop_worker(worker)


@contextmanager
def sweeping(folder: Path) -> Iterator[None]:
    """A light worker that sweeps, for as long as the context lasts."""
    worker = start_worker(folder, "light", 0, "-B", "-s", str(folder / "celerybeat"))
    try:
        yield
    finally:
        stop_worker(worker)


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait until something is so.

    :raises TimeoutError: when it does not come to be.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


class Trainers:
    """Watches which processes are at work in a run directory, by the files that they hold open.

    A job opens its ``progress.jsonl`` once it holds the directory's lock and closes it when it ends.
    """

    def __init__(self) -> None:
        self.most = 0
        """Most processes seen at work in one run directory at once."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Trainers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            at_work = [folder for process in jobs() if (folder := _works_in(process))]
            self.most = max([self.most, *map(at_work.count, at_work)])


def jobs() -> list[psutil.Process]:
    """The processes of runs."""
    found = []
    for process in psutil.process_iter():
        try:
            if "--run-dir" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def _works_in(process: psutil.Process) -> str | None:
    try:
        opened = [file.path for file in process.open_files() if file.path.endswith("/progress.jsonl")]
    except psutil.Error:
        return None
    return os.path.dirname(os.path.dirname(opened[0])) if opened else None
