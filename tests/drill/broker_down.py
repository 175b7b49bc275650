"""The broker killed for a minute and started again: what was asked for meanwhile runs, and nothing runs twice."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.drill.outcome import Outcome
from tests.drill.trainers import Trainers, a_project, start_worker, stop_worker, sweeping, wait_until
from tests.site import fresh_site, set_passwords, signed_in, web_server

DOWN_SECONDS = 60.0
PATIENCE_SECONDS = 5.0
"""How long a page may take to answer without a broker."""
RUN_SECONDS = 120.0


def drill() -> list[Outcome]:
    """Press a button before, while and after the broker is away."""
    with fresh_site(HONE_ENGINE="transformers", HONE_RUN_LOST_SECONDS="15") as folder:
        from annotate.models import Run

        project = a_project(folder, prompts=3)
        set_passwords()
        heavy = start_worker(folder, "heavy")
        with web_server(folder) as address, sweeping(folder), Trainers() as trainers:
            client = signed_in(address, "alice")
            _press(client, project)
            wait_until(lambda: Run.objects.filter(state=Run.State.SUCCEEDED).count() == 1, RUN_SECONDS)
            _kill_broker(folder)
            killed = time.monotonic()
            waited = _press(client, project)
            time.sleep(max(0.0, DOWN_SECONDS - (time.monotonic() - killed)))
            _start_broker(folder)
            back = time.monotonic()
            wait_until(lambda: Run.objects.filter(state=Run.State.SUCCEEDED).count() == 2, RUN_SECONDS)
            recovered = time.monotonic() - back
            _press(client, project)
            wait_until(lambda: not Run.objects.exclude(state=Run.State.SUCCEEDED).exists(), RUN_SECONDS)
        stop_worker(heavy)
        runs = list(Run.objects.order_by("created_at"))
    attempts = [run.attempt for run in runs]
    complete = sum(run.state == Run.State.SUCCEEDED for run in runs)
    return [
        Outcome(
            "runs complete that were asked for before, during and after", f"{complete} of 3", "3 of 3", complete == 3
        ),
        Outcome("attempts of each", str(attempts), "[1, 1, 1]", attempts == [1, 1, 1]),
        Outcome("processes at work on one run at once", str(trainers.most), "1", trainers.most == 1),
        Outcome(
            "longest wait for a page while the broker was down",
            f"{waited:.1f} s",
            f"under {PATIENCE_SECONDS:.0f} s",
            waited < PATIENCE_SECONDS,
        ),
        Outcome(
            "from the broker's return to the run's end",
            f"{recovered:.0f} s",
            f"under {RUN_SECONDS:.0f} s",
            recovered < RUN_SECONDS,
        ),
    ]


def _press(client: httpx.Client, project: Any) -> float:
    """Ask for a run by the page's button; seconds until the page answered."""
    began = time.monotonic()
    form = {"csrfmiddlewaretoken": client.cookies["csrftoken"], "splits": "train"}
    page = client.post(f"/p/{project.slug}/launch/generate", data=form, timeout=60)
    page.raise_for_status()
    if "/runs/" not in page.url.path:
        raise RuntimeError(f"The run was refused: {page.text}")
    return time.monotonic() - began


def _kill_broker(folder: Path) -> None:
    broker = psutil.Process(int((folder / "valkey" / "valkey.pid").read_text()))
    broker.send_signal(signal.SIGKILL)
    broker.wait()


def _start_broker(folder: Path) -> None:
    from annotate.embedded import servers_running

    # Entered and left at once: the site's own lock, which this process holds, keeps the server running.
    with servers_running(folder, postgres=False):
        pass
