"""Fixtures that several tests share: a project with its people, Alice's browser, and runs."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connections
from django.test import Client

from annotate.models import Generation, Run
from annotate.services import follow
from annotate.services.execute import execute
from annotate.services.runs import launch_generate
from tests.annotate.factory import World, world
from tests.annotate.played import JOB, Play, Work


@pytest.fixture
def stage(db: None) -> World:
    """The usual project."""
    return world()


@pytest.fixture
def tiny(stage: World, settings: Any) -> Iterator[Path]:
    """A tiny model in place of the stage's generation 0, and an engine in the process."""
    from tests.policy.conftest import make_model  # loads transformers

    settings.HONE_ENGINE = "transformers"
    folder = Path(django_settings.MODELS_DIR) / "tiny-methods"
    shutil.rmtree(folder, ignore_errors=True)
    make_model(folder)
    Generation.objects.filter(pk=stage.generation.pk).update(weights_path=str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def alice(client: Client, stage: World) -> Client:
    """The browser of the project's lead."""
    client.force_login(stage.alice)
    return client


@pytest.fixture
def asked(stage: World, settings) -> Run:
    """A queued run."""
    settings.HONE_ENGINE = "transformers"
    return launch_generate(project=stage.project, actor=stage.alice, ring=False)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Play:
    """Have a process that does as it is told take the place of the one that generates."""
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{django_settings.BASE_DIR}")
    monkeypatch.setattr(follow, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(follow, "BEAT_SECONDS", 0.05)

    def play(body: str) -> None:
        (tmp_path / "played_job.py").write_text(JOB.format(body=body))
        monkeypatch.setitem(follow.MODULES, Run.Kind.GENERATE, "played_job")

    return play


@pytest.fixture
def in_a_worker() -> Iterator[Work]:
    """Carry a run out in a thread, as a worker does."""
    threads = []

    def work(pk: object) -> None:
        try:
            execute(str(pk))
        finally:
            connections.close_all()

    def start(of: Run) -> threading.Thread:
        thread = threading.Thread(target=work, args=(of.pk,))
        thread.start()
        threads.append(thread)
        return thread

    yield start
    Run.objects.update(cancel_requested=True)  # where a test failed with a process at work
    for thread in threads:
        thread.join(30)
