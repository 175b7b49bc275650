"""Web servers replaced one after the other while people work: no request fails, no answer is lost.

Two servers share one listening socket, as systemd holds it for them (docs/operations.md). Eight raters send
answers without ever trying again, over connections that stay open, as a proxy's do.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import httpx

from tests import site
from tests.drill.outcome import Outcome

RATERS = 8
ANSWERS_EACH = 60
RESTARTS = 6
START_SECONDS = 60.0


@dataclass
class Tally:
    """What the raters' browsers saw."""

    acknowledged: list[uuid.UUID] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    requests: int = 0


def drill() -> list[Outcome]:
    """Replace both servers in turn, under load."""
    tally, over = Tally(), threading.Event()
    with site.fresh_site() as folder, socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        work = _hand_out()
        site.set_passwords()
        with _two_servers(folder, listening) as servers:
            raters = [site.signed_in(address, name) for name in work]
            threads = [
                threading.Thread(target=_rate, args=(client, slots, tally, over))
                for client, slots in zip(raters, work.values(), strict=True)
            ]
            for thread in threads:
                thread.start()
            longest = 0.0
            for _ in range(RESTARTS):
                servers.append(_start(folder, listening))
                longest = max(longest, _stop(servers.pop(0)))
            over.set()
            for thread in threads:
                thread.join()
        from annotate.models import JudgementRevision

        stored = set(JudgementRevision.objects.values_list("submission_id", flat=True))
    lost = len(set(tally.acknowledged) - stored)
    figure = f"{len(tally.failed)} of {tally.requests} over {RESTARTS} restarts {tally.failed[:1] or ''}"
    return [
        Outcome("requests that failed", figure, "0 of 500 or more", not tally.failed and tally.requests >= 500),
        Outcome("answers acknowledged but missing", f"{lost} of {len(tally.acknowledged)}", "0", lost == 0),
        Outcome("longest time a server took to stop", f"{longest:.1f} s", "at most 10 s", longest <= 10),
    ]


def _hand_out() -> dict[str, list[int]]:
    """A project with raters, each of whom holds slots of their own; the slots by rater's name."""
    from django.utils import timezone

    from annotate.models import Lease, Membership, Slot
    from tests.annotate.factory import collect_items, user, world

    stage = world(prompts=RATERS * ANSWERS_EACH)
    collect_items(stage)
    slots = list(Slot.objects.order_by("pk"))
    work = {}
    for number in range(RATERS):
        rater = user(f"rater{number}")
        Membership.objects.create(user=rater, project=stage.project, role=Membership.Role.RATER)
        mine = slots[number::RATERS]
        work[rater.username] = [slot.pk for slot in mine]
        Slot.objects.filter(pk__in=work[rater.username]).update(
            state=Slot.State.LEASED, rater=rater, lease_expires_at=timezone.now() + timedelta(minutes=30)
        )
        Lease.objects.bulk_create(Lease(slot=slot, rater=rater) for slot in mine)
    return work


def _rate(client: httpx.Client, slots: list[int], tally: Tally, over: threading.Event) -> None:
    """Send an answer for each slot, then look at pages until the restarts are over; nothing is tried twice."""
    from annotate.handles import handle

    left = iter(slots)
    while not over.is_set():
        slot = next(left, None)
        tally.requests += 1
        try:
            if slot is None:
                client.get("/sign-in").raise_for_status()
                continue
            name = uuid.uuid4()
            client.post(
                f"/p/garden/slots/{handle(slot)}/submit",
                json={"uuid": str(name), "answer": {"both_bad": True}},
                headers={"X-CSRFToken": client.cookies["csrftoken"]},
            ).raise_for_status()
            tally.acknowledged.append(name)
        except httpx.HTTPError as problem:
            tally.failed.append(repr(problem))


@contextlib.contextmanager
def _two_servers(folder: Path, listening: socket.socket) -> Iterator[list[subprocess.Popen[bytes]]]:
    servers: list[subprocess.Popen[bytes]] = []
    try:
        servers += [_start(folder, listening) for _ in range(2)]
        yield servers
    finally:
        for server in servers:
            _stop(server)


def _start(folder: Path, listening: socket.socket) -> subprocess.Popen[bytes]:
    """Start a server on the socket and wait until it has loaded the site."""
    number = listening.fileno()
    with open(folder / f"server-{uuid.uuid4()}.log", "w+b") as log:
        command = [sys.executable, "-m", "annotate.serve", "--fd", str(number)]
        server = subprocess.Popen(command, pass_fds=[number], stderr=log, env=os.environ)
        deadline = time.monotonic() + START_SECONDS
        while b"Started server process" not in Path(log.name).read_bytes():
            if server.poll() is not None or time.monotonic() > deadline:
                server.kill()
                raise RuntimeError(Path(log.name).read_text())
            time.sleep(0.05)
    return server


def _stop(server: subprocess.Popen[bytes]) -> float:
    """Tell a server to stop; the seconds until it has."""
    began = time.monotonic()
    server.terminate()
    server.wait(START_SECONDS)
    return time.monotonic() - began
