"""Thirty-two raters work a pool to its end: exactly what was asked for, and "nothing left" only when it is true.

The raters are clients of two real web servers and do what the page does: fetch the item ahead,
submit and open it in one request, and skip now and then. Each time one is told that nothing is left,
the database is asked, by other means than the queue's, which slots the rater might have taken. A slot
counts against the answer if it was free, in the same row version (``xmin``), both before the request
was sent and after its answer came: then it was free all the while.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from tests import site
from tests.drill.outcome import Outcome
from tests.raters import Piece, Rater, members, ranking, sessions

RATERS = 32
ITEMS = 2000
OVERLAP = 3
SKIP_SHARE = 0.01
NEAR_THE_END = 300
"""Open slots below which every request for an item is watched from before it is sent."""
WAIT_SECONDS = 0.25

TAKEABLE = """
SELECT s.id, s.xmin::text FROM annotate_slot s
WHERE s.purpose IN ('collect', 'evaluate')
  AND (s.state = 'free' OR (s.state = 'leased' AND s.rater_id <> %(rater)s AND (s.ahead OR s.lease_expires_at < now())))
  AND s.item_id NOT IN (SELECT item_id FROM annotate_slot WHERE rater_id = %(rater)s)
  AND s.item_id NOT IN (
    SELECT slot.item_id FROM annotate_skip skip JOIN annotate_slot slot ON slot.id = skip.slot_id
    WHERE skip.rater_id = %(rater)s)
"""


@dataclass
class Tally:
    """What the clients saw."""

    accepted: int = 0
    skipped: int = 0
    said_none: int = 0
    falsely: list[str] = field(default_factory=list)
    stolen: int = 0
    faults: int = 0
    ahead: int = 0
    seconds: list[float] = field(default_factory=list)


def drill() -> list[Outcome]:
    """Work a pool to its end and compare what is stored with what was wanted."""
    with site.fresh_site() as folder:
        from django.db import connection
        from django.db.models import Count

        from annotate.models import Item, Judgement, Slot
        from tests.annotate.factory import collect_items, world

        stage = world(prompts=ITEMS, overlap=OVERLAP, completions_per_item=2)
        collect_items(stage, samples=2)
        people = members(stage.project, RATERS)
        cookies = sessions(people)
        database = {"host": connection.settings_dict["HOST"], "user": "hone", "dbname": "hone"}
        began = time.monotonic()
        with site.web_server(folder) as first, site.web_server(folder) as second:
            tally = asyncio.run(_everybody([first, second], cookies, [p.pk for p in people], database))
        minutes = (time.monotonic() - began) / 60
        judgements = Judgement.objects.count()
        by_item = Item.objects.annotate(n=Count("judgements"), raters=Count("judgements__rater", distinct=True))
        wrong = by_item.exclude(n=OVERLAP, raters=OVERLAP).count()
        undone = Slot.objects.exclude(state="done").count()
    wanted = ITEMS * OVERLAP
    p95 = sorted(tally.seconds)[int(len(tally.seconds) * 0.95)] * 1000
    return [
        Outcome(
            f"{RATERS} raters, {ITEMS} items, overlap {OVERLAP}, in {minutes:.1f} minutes",
            f"{judgements} judgements, {tally.accepted} acknowledged, {wrong} items wrong, {undone} slots open, "
            f"{tally.faults} server errors",
            f"{wanted}, {wanted}, 0, 0, 0",
            met=(judgements, tally.accepted, wrong, undone, tally.faults) == (wanted, wanted, 0, 0, 0),
        ),
        Outcome(
            f'"nothing left" said while a slot was free (of {tally.said_none} times)',
            "; ".join([str(len(tally.falsely)), *tally.falsely[:3]]),
            "0",
            met=not tally.falsely and tally.said_none > 0,
        ),
        Outcome(
            f"submit and open the item held ahead ({tally.stolen} of {tally.ahead} were taken by others), p95",
            f"{p95:.0f} ms, {tally.accepted / minutes / 60:.0f} answers/s, {tally.skipped} skips",
            "told only",
            met=True,
        ),
    ]


async def _everybody(
    addresses: list[str], cookies: list[dict[str, str]], people: list[int], database: dict[str, str]
) -> Tally:
    tally = Tally()
    async with await psycopg.AsyncConnection.connect(make_conninfo(**database), autocommit=True) as connection:
        watch = Watch(connection)
        await asyncio.gather(
            *(
                _work(Rater(addresses, cookie), person, random.Random(person), tally, watch)
                for cookie, person in zip(cookies, people, strict=True)
            )
        )
    return tally


@dataclass
class Watch:
    """A look at the database beside the queue."""

    connection: psycopg.AsyncConnection[Any]
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def takeable(self, rater: int) -> set[tuple[int, str]]:
        """Slots that the rater might take, with the row version in which they are so."""
        async with self.lock:
            rows = await self.connection.execute(TAKEABLE, {"rater": rater})
            return set(await rows.fetchall())


async def _work(rater: Rater, person: int, draw: random.Random, tally: Tally, watch: Watch) -> None:
    """Judge until everything is judged."""
    piece = await _next(rater, person, tally, watch)
    while piece is not None:
        ahead = await rater.piece("ahead")
        if draw.random() < SKIP_SHARE:
            reply = await rater.skip(_slot(piece), ahead.slot)
            tally.skipped += 1
        else:
            began = time.monotonic()
            answer = ranking(piece.letters, draw.randrange(1000))
            reply = await rater.submit(_slot(piece), uuid.uuid4(), answer, ahead.slot)
            tally.seconds.append(time.monotonic() - began)
            tally.accepted += reply.get("outcome") == "accepted"
        if reply["status"] != 200:
            raise RuntimeError(str(reply))
        tally.ahead += ahead.slot is not None
        tally.stolen += ahead.slot is not None and not reply["opened"]
        piece = ahead if reply["opened"] else await _next(rater, person, tally, watch)
    tally.faults += rater.faults
    await rater.close()


async def _next(rater: Rater, person: int, tally: Tally, watch: Watch) -> Piece | None:
    """The rater's next item, looked for until there is one or all is judged."""
    while True:
        watched = ITEMS * OVERLAP - tally.accepted < NEAR_THE_END
        before = await watch.takeable(person) if watched else None
        piece = await rater.piece("next")
        if piece.slot is not None:
            return piece
        after = await watch.takeable(person)
        tally.said_none += 1
        free = after if before is None else before & after
        if free:
            tally.falsely.append(f"rater {person}: slots {sorted(slot for slot, _version in free)[:5]}")
        if "Every item of this project is judged" in piece.html:
            return None
        if not after and tally.accepted >= ITEMS * OVERLAP:
            return None
        await asyncio.sleep(WAIT_SECONDS)


def _slot(piece: Piece) -> int:
    assert piece.slot is not None
    return piece.slot
