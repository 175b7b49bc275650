"""Writing a snapshot in the formats that trainers read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from django.utils.translation import gettext as _

from annotate.models import Snapshot
from annotate.services import Refused
from annotate.services.snapshots import rankings

SPLITS = ("train", "dev", "test")


def trl_preference_lines(snapshot: Snapshot, split: str = "train") -> Iterator[str]:
    """TRL's conversational preference format: one JSON line for each untied pair.

    ``{"prompt": [messages], "chosen": [answer], "rejected": [answer]}``

    :param split: prompts of which split; training never sees the others by accident.
    """
    for ranking in rankings(snapshot):
        if ranking.split != split:
            continue
        for better, worse in ranking.pairs():
            row = {"prompt": ranking.messages, "chosen": _answer(better), "rejected": _answer(worse)}
            yield json.dumps(row, ensure_ascii=False) + "\n"


def _answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def write_trl_preference(snapshot: Snapshot, path: Path, split: str = "train") -> int:
    """Write the preference pairs of one split to a file, which appears whole or not at all.

    :returns: how many pairs were written.
    :raises Refused: when the folder is missing or the disk is full; an earlier file stays as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    count = 0
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            for line in trl_preference_lines(snapshot, split):
                file.write(line)
                count += 1
        os.replace(temporary, path)
    except OSError as problem:
        temporary.unlink(missing_ok=True)
        raise Refused(
            _("%(path)s cannot be written: %(problem)s.") % {"path": path, "problem": problem.strerror}
        ) from problem
    return count
