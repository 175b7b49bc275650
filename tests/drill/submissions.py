"""The same submission sent again and again is stored once.

Fifty clients judge two hundred items. Each answer is sent three times at once, to two web servers.
"""

from __future__ import annotations

import asyncio
import uuid

from tests import site
from tests.drill.outcome import Outcome
from tests.raters import Rater, members, ranking, sessions

CLIENTS = 50
ITEMS = 200
COPIES = 3


def drill() -> list[Outcome]:
    """Send every submission three times and count what was stored."""
    with site.fresh_site() as folder:
        from annotate.models import Judgement, JudgementRevision, Submission
        from tests.annotate.factory import collect_items, world

        stage = world(prompts=ITEMS, completions_per_item=2)
        collect_items(stage, samples=2)
        cookies = sessions(members(stage.project, CLIENTS))
        with site.web_server(folder) as first, site.web_server(folder) as second:
            replies = asyncio.run(_everybody([first, second], cookies))
        judgements, revisions = Judgement.objects.count(), JudgementRevision.objects.count()
        uuids = set(Submission.objects.values_list("uuid", flat=True))
    duplicates = max(judgements, revisions, len(uuids)) - ITEMS
    accepted = sum(reply["status"] == 200 and reply["outcome"] == "accepted" for _key, reply in replies)
    acknowledged = {key for key, reply in replies if reply["status"] == 200}
    return [
        Outcome(
            f"{ITEMS} submissions of {CLIENTS} clients, each sent {COPIES} times",
            f"{judgements} judgements, {duplicates} duplicates",
            f"{ITEMS} judgements, 0 duplicates",
            met=(judgements, duplicates, acknowledged) == (ITEMS, 0, uuids),
        ),
        Outcome(
            "every copy was acknowledged as accepted",
            f"{accepted} of {len(replies)}",
            f"{ITEMS * COPIES}",
            met=accepted == len(replies) == ITEMS * COPIES,
        ),
    ]


async def _everybody(addresses: list[str], cookies: list[dict[str, str]]) -> list[tuple[uuid.UUID, dict]]:
    replies: list[tuple[uuid.UUID, dict]] = []

    async def work(number: int) -> None:
        rater = Rater(addresses, cookies[number])
        while (piece := await rater.piece("next")).slot is not None:
            key, answer = uuid.uuid4(), ranking(piece.letters, number)
            copies = [rater.submit(piece.slot, key, answer) for _copy in range(COPIES)]
            replies.extend((key, reply) for reply in await asyncio.gather(*copies))
        await rater.close()

    await asyncio.gather(*(work(number) for number in range(len(cookies))))
    return replies
