"""What the reward model's benchmark learns from: real comparisons, and a simulated rater's of texts whose preference is
known.

The real ones are read from ``../shared/data`` beside the checkout, or from the folder in ``HONE_BENCH_DATA``.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
from pathlib import Path
from typing import Any

from annotate.simulated import hidden_preference, rank

COMPARISONS_FILE = "hh_harmless_dev.jsonl.gz"
LONGEST = 512
TURN = re.compile(r"\n\n(Human|Assistant):(.*?)(?=\n\n(?:Human|Assistant):|\Z)", re.DOTALL)
ROLES = {"Human": "user", "Assistant": "assistant"}
SENTENCE = re.compile(r"(?<=[.!?])\s+")
ANSWERS = 4
"""Answers to one prompt of the simulated rater: six comparisons."""
CHARACTERS = 200
"""Of a prompt and of an answer of the simulated rater, at most."""


def data_folder() -> Path:
    """Where the comparisons lie."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("HONE_BENCH_DATA", beside))


def comparisons() -> list[dict[str, Any]]:
    """Real comparisons, two answers to one chat each: ``messages``, ``chosen``, ``rejected``."""
    found = []
    with gzip.open(data_folder() / COMPARISONS_FILE, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            chosen, rejected = _turns(row["chosen"]), _turns(row["rejected"])
            differ = chosen[:-1] == rejected[:-1] and chosen[-1:] != rejected[-1:]
            if differ and chosen[-1]["role"] == rejected[-1]["role"] == "assistant":
                chat, better, worse = chosen[:-1], chosen[-1]["content"], rejected[-1]["content"]
                found.append({"messages": chat, "chosen": better, "rejected": worse})
    return found


def _turns(transcript: str) -> list[dict[str, str]]:
    return [{"role": ROLES[role], "content": text.strip()} for role, text in TURN.findall(transcript)]


def short_comparisons(tokenizer: Any, count: int) -> list[dict[str, Any]]:
    """The first comparisons both of whose chats fit :data:`LONGEST` tokens."""
    from rewardmodel.chat import prompt_ids, response_ids

    found = []
    for row in comparisons():
        prompt = len(prompt_ids(tokenizer, row["messages"]))
        if prompt + max(len(response_ids(tokenizer, row[side])) for side in ("chosen", "rejected")) <= LONGEST:
            found.append(row)
        if len(found) == count:
            break
    return found


def row_of(number: int, row: dict[str, Any], split: str = "train") -> dict[str, Any]:
    """A comparison as a row of a run's rankings."""
    return {
        "row_id": f"comparison-{number}",
        "prompt_id": json.dumps(row["messages"]),
        "split": split,
        "messages": row["messages"],
        "responses": [row["chosen"], row["rejected"]],
        "ranks": [1, 2],
        "weight": 1.0,
    }


def real_rows(train: int, test: int) -> list[dict[str, Any]]:
    """The first comparisons to train on and others to test on, whose prompts are not among them."""
    rows = [row_of(number, row) for number, row in enumerate(comparisons())]
    known = {row["prompt_id"] for row in rows[:train]}
    return rows[:train] + [{**row, "split": "test"} for row in rows[train:] if row["prompt_id"] not in known][:test]


def simulated_rows(counts: dict[str, int], seed: int) -> list[dict[str, Any]]:
    """Rankings of the simulated rater of four answers each, made from real answers by cutting them and making lists.

    :param counts: rankings of each split.
    """
    draw = random.Random(seed)
    real = comparisons()
    answers = [text[:CHARACTERS] for row in real for text in (row["chosen"], row["rejected"]) if len(text) > 20]
    prompts = list(dict.fromkeys(row["messages"][0]["content"][:CHARACTERS] for row in real))
    draw.shuffle(prompts)
    rows: list[dict[str, Any]] = []
    for split, count in counts.items():
        for _ranking in range(count):
            number = len(rows)
            texts: set[str] = set()
            while len(texts) < ANSWERS:
                texts.add(_varied(draw.choice(answers), draw))
            responses = sorted(texts)
            draw.shuffle(responses)
            rows.append(
                {
                    "row_id": str(number),
                    "prompt_id": str(number),
                    "split": split,
                    "messages": [{"role": "user", "content": prompts[number]}],
                    "responses": responses,
                    "ranks": rank(responses, seed=seed),
                    "weight": 1.0,
                }
            )
    return rows


def _varied(text: str, draw: random.Random) -> str:
    """An answer with some of what the simulated rater looks at changed: its length, its end, or lines of a list."""
    sentences = SENTENCE.split(text)
    text = " ".join(sentences[: draw.randint(1, len(sentences))])
    words = text.split()
    if draw.random() < 0.5:
        text = " ".join(words[: draw.randint(min(3, len(words)), len(words))]).rstrip(".!?")
    elif not text.endswith((".", "!", "?")):
        text += "."
    if draw.random() < 0.4:
        words = text.split()
        lines = draw.randint(2, 4)
        size = -(-len(words) // lines)
        text = "\n".join("- " + " ".join(words[start : start + size]) for start in range(0, len(words), size))
    return text


def is_clear(one: str, other: str) -> bool:
    """Whether the simulated rater's preference between two answers is clear."""
    from annotate.simulated import CLEAR_DIFFERENCE

    return abs(hidden_preference(one) - hidden_preference(other)) >= CLEAR_DIFFERENCE
