"""PostgreSQL stopped like a power cut, ten times in the middle of writing: no acknowledged answer is missing.

Raters submit all the while and send again what got no answer, as the page does. ``pg_ctl stop -m
immediate`` ends the server without a checkpoint, so it recovers from its log. Nothing restarts the
web server: its pool of connections finds back by itself.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests import site
from tests.drill.outcome import Outcome
from tests.raters import Rater, members, ranking, sessions

CRASHES = 10
RATERS = 12
ITEMS = 3000
WORK_SECONDS = (0.5, 2.0)
"""Between one recovery and the next crash, drawn at random."""
DOWN_SECONDS = 0.5


@dataclass
class Load:
    """What the raters were told, and when."""

    acknowledged: dict[uuid.UUID, float] = field(default_factory=dict)
    last: float = 0.0
    retries: int = 0
    over: bool = False


def drill() -> list[Outcome]:
    """Crash the database again and again and look for every answer that was acknowledged."""
    with site.fresh_site() as folder:
        from annotate.models import Judgement, Submission
        from tests.annotate.factory import collect_items, world

        stage = world(prompts=ITEMS, completions_per_item=2)
        collect_items(stage, samples=2)
        cookies = sessions(members(stage.project, RATERS))
        with site.web_server(folder) as address:
            load, seconds = asyncio.run(_crash_under_load(folder, address, cookies))
        stored = set(Submission.objects.values_list("uuid", flat=True))
        judgements = Judgement.objects.count()
    missing = len(set(load.acknowledged) - stored)
    return [
        Outcome(
            f"PostgreSQL stopped with -m immediate {CRASHES} times: acknowledged but missing",
            f"{missing} of {len(load.acknowledged)} ({load.retries} requests sent again)",
            "0",
            met=missing == 0 and len(seconds) == CRASHES and load.retries > 0,
        ),
        Outcome(
            "judgements beside submissions after all crashes",
            f"{judgements} and {len(stored)}",
            "equal",
            met=judgements == len(stored),
        ),
        Outcome(
            f"from the stop ({DOWN_SECONDS} s down by intent) to the next acknowledged answer",
            f"median {statistics.median(seconds):.1f} s, max {max(seconds):.1f} s",
            "≤ 15 s",
            met=max(seconds) <= 15,
        ),
    ]


async def _crash_under_load(folder: Path, address: str, cookies: list[dict[str, str]]) -> tuple[Load, list[float]]:
    load = Load()
    raters = [asyncio.create_task(_work(Rater([address], cookie), n, load)) for n, cookie in enumerate(cookies)]
    draw, seconds = random.Random(0), []
    while not load.acknowledged:
        await asyncio.sleep(0.05)
    for _crash in range(CRASHES):
        await asyncio.sleep(draw.uniform(*WORK_SECONDS))
        stopped = time.monotonic()
        started = await asyncio.to_thread(_crash_and_restart, folder)
        while load.last < started:
            if all(task.done() for task in raters):
                raise RuntimeError("The raters ran out of items before the last crash.")
            await asyncio.sleep(0.02)
        seconds.append(load.last - stopped)
    load.over = True
    await asyncio.gather(*raters)
    return load, seconds


def _crash_and_restart(folder: Path) -> float:
    """Stop the server at once and start it with the words it was started with; gives the moment of the start."""
    from annotate.embedded import server_command

    data = folder / "pg" / "data"
    words = psutil.Process(int((data / "postmaster.pid").read_text().split("\n", 1)[0])).cmdline()[1:]
    stop = [*server_command(folder, "pg_ctl"), "stop", "-D", str(data), "-m", "immediate"]
    subprocess.run(stop, check=True, stdout=subprocess.DEVNULL, cwd=folder / "pg")
    time.sleep(DOWN_SECONDS)
    started = time.monotonic()
    with open(folder / "pg" / "server.log", "ab") as log:
        subprocess.Popen(
            [*server_command(folder, "postgres"), *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder / "pg",
            start_new_session=True,
        )
    return started


async def _work(rater: Rater, number: int, load: Load) -> None:
    while not load.over and (piece := await rater.piece("next")).slot is not None:
        key = uuid.uuid4()
        reply = await rater.submit(piece.slot, key, ranking(piece.letters, number))
        if reply["status"] != 200:
            raise RuntimeError(str(reply))
        load.last = load.acknowledged[key] = time.monotonic()
    load.retries += rater.retries
    await rater.close()
