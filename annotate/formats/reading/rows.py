"""A row: what one record says of one prompt, and the parts that formats have in common."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.formats.reading.problems import LeftOut, Wrong

ROLES = ("system", "user", "assistant", "tool")
NAMES = {"human": "user", "prompter": "user", "gpt": "assistant", "model": "assistant"}
"""What other tools call the roles."""
TURN = re.compile(r"\n\n(Human|Assistant|System):(?: |(?=\n)|$)")
SPEAKERS = {"Human": "user", "Assistant": "assistant", "System": "system"}
"""Who speaks in transcripts, as in HH-RLHF."""
ASKS = "\n\nAssistant:"
"""The end of a transcript that asks for the next turn."""
SPLITS = {"train": "train", "dev": "dev", "test": "test", "validation": "dev", "valid": "dev", "val": "dev"}
LONGEST_MESSAGE = 200_000
"""Characters."""
LONGEST_ANSWER = 1_000_000
"""Characters."""
LONGEST_SOURCE = 80
MOST_ANSWERS = 100

Messages = list[dict[str, str]]
What = str | Promise
"""The name of a part of a record; it is translated only where a reason needs it."""
THE_PROMPT, A_MESSAGE, THE_SOURCE = gettext_lazy("the prompt"), gettext_lazy("a message"), gettext_lazy("the source")
THE_REFERENCE, A_TAG = gettext_lazy("the reference"), gettext_lazy("a tag")
PROMPT, COMPARISON, DEMONSTRATION, COMPLETION, LABEL = "prompt", "comparison", "demonstration", "completion", "label"


@dataclass(frozen=True, slots=True)
class Row:
    """What a record says of a prompt."""

    messages: Messages
    use: str = PROMPT
    """PROMPT, COMPARISON, DEMONSTRATION, COMPLETION or LABEL."""
    answers: Sequence[str] = ()
    pairs: Sequence[tuple[int, int, float | None]] = ()
    """Places of the better and the worse answer, and how much better in the source's own unit."""
    ties: int = 0
    """Pairs of answers that the record calls equally good."""
    label: float | None = None
    """1 for a good answer, 0 for a bad one."""
    reference: str | None = None
    tags: tuple[str, ...] = ()
    split: str = ""
    source: str = ""
    weight: float | None = None


def text_of(value: Any, what: What, longest: int = LONGEST_ANSWER) -> str:
    """A text that can be stored.

    :param what: it is, for the reason.
    :raises Wrong: when it is none, too long, or holds characters that no database takes.
    """
    if not isinstance(value, str):
        raise Wrong(
            _("%(what)s is not text") % {"what": what} if value is not None else _("no %(what)s") % {"what": what}
        )
    if len(value) > longest:
        raise Wrong(_("%(what)s is longer than %(longest)d characters") % {"what": what, "longest": longest})
    if "\x00" in value or not (value.isascii() or _encodable(value)):
        raise Wrong(_("%(what)s holds characters that cannot be stored") % {"what": what})
    return value


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def answer_of(value: Any, what: What) -> str:
    """An answer: text, or a chat of one message of the assistant.

    :raises Wrong: when it is neither.
    :raises LeftOut: when there is nothing in it.
    """
    if isinstance(value, list):
        if len(value) != 1:
            raise Wrong(_("%(what)s is not one message") % {"what": what})
        turn = message_of(value[0], LONGEST_ANSWER)
        if turn["role"] != "assistant":
            raise Wrong(_("%(what)s is not a message of the assistant") % {"what": what})
        value = turn["content"]
    text = text_of(value, what)
    if not text.strip():
        raise LeftOut(_("%(what)s is empty") % {"what": what})
    return text


def message_of(value: Any, longest: int = LONGEST_MESSAGE) -> dict[str, str]:
    """A message of a chat; content in parts is joined where all of them are text.

    :raises Wrong: when it has no role or no content.
    """
    if not isinstance(value, dict):
        raise Wrong(_("a message needs a role (system, user, assistant, tool) and a content"))
    role = value.get("role", value.get("from"))
    role = NAMES.get(role, role) if isinstance(role, str) else role
    content = value.get("content", value.get("value"))
    if isinstance(content, list) and content and all(isinstance(p, dict) and p.get("type") == "text" for p in content):
        content = "".join(text_of(part.get("text"), A_MESSAGE) for part in content)
    if role not in ROLES or not isinstance(content, str):
        raise Wrong(_("a message needs a role (system, user, assistant, tool) and a content"))
    return {"role": role, "content": text_of(content, A_MESSAGE, longest)}


def prompt_of(value: Any) -> Messages:
    """A prompt: a chat, possibly empty; a transcript that asks for the next turn; or text that a person said.

    :raises Wrong: when it is neither.
    :raises LeftOut: when it is an empty text.
    """
    if isinstance(value, list):
        return [message_of(turn) for turn in value]
    text = text_of(value, THE_PROMPT, LONGEST_MESSAGE)
    if not text.strip():
        raise LeftOut(_("the prompt is empty"))
    if TURN.match(text) and text.rstrip(" ").endswith(ASKS):
        return transcript(text.rstrip(" ").removesuffix(ASKS), THE_PROMPT)
    return [{"role": "user", "content": text}]


def transcript(value: Any, what: What) -> Messages:
    """The turns of a transcript.

    :raises Wrong: when it does not begin with one.
    """
    parts = TURN.split(text_of(value, what))
    if len(parts) < 3 or parts[0].strip():
        raise Wrong(_("%(what)s does not begin with “Human:” or “Assistant:”") % {"what": what})
    return [{"role": SPEAKERS[who], "content": said} for who, said in zip(parts[1::2], parts[2::2], strict=True)]


def chat_of(value: Any, what: What) -> Messages:
    """A chat that ends with an answer.

    :raises Wrong: when it does not.
    """
    if not isinstance(value, list) or not value:
        raise Wrong(_("%(what)s is not a list of messages") % {"what": what})
    turns = [message_of(turn) for turn in value[:-1]] + [message_of(value[-1], LONGEST_ANSWER)]
    if turns[-1]["role"] != "assistant":
        raise Wrong(_("%(what)s does not end with a message of the assistant") % {"what": what})
    return turns


def two_chats(first: Any, second: Any, names: tuple[str, str]) -> tuple[Messages, str, str]:
    """Two chats that differ in their last message: the prompt they share and the two answers.

    :raises Wrong: when one of them is no chat with an answer.
    :raises LeftOut: when they differ before that, because then no prompt has both answers.
    """
    one, other = chat_of(first, names[0]), chat_of(second, names[1])
    if one[:-1] != other[:-1]:
        raise LeftOut(_("the two conversations differ before their last answer"))
    return one[:-1], answer_of(one[-1]["content"], names[0]), answer_of(other[-1]["content"], names[1])


def pair(
    value: Mapping[str, Any], messages: Messages, better: str, worse: str, strength: float | None = None
) -> list[Row]:
    """The row of one comparison.

    :raises Wrong: when both answers are the same.
    """
    if better == worse:
        raise Wrong(_("the two answers are the same"))
    if strength is None:
        strength = number_of(value, "strength")
    return [Row(messages, COMPARISON, (better, worse), ((0, 1, strength),), **shared(value))]


def ranking(
    value: Mapping[str, Any],
    messages: Messages,
    answers: Sequence[str],
    places: Sequence[float | None],
    gaps: bool = False,
) -> Row:
    """The row of a ranking: every pair of ranked answers of which one stands before the other.

    Answers of the same text count once, at the place of the first.

    :param places: of each answer, lower is better; None where it is not ranked.
    :param gaps: whether the difference of two places says how much better.
    :raises LeftOut: when no answer stands before another.
    """
    if len(answers) > MOST_ANSWERS:
        raise Wrong(_("more than %(most)d answers") % {"most": MOST_ANSWERS})
    pairs, ties = [], 0
    for i, j in combinations(range(len(answers)), 2):
        first, second = places[i], places[j]
        if first is None or second is None or answers[i] == answers[j]:
            continue
        if first == second:
            ties += 1
            continue
        upper, lower = (i, j) if first < second else (j, i)
        pairs.append((upper, lower, abs(first - second) if gaps else None))
    if not pairs:
        raise LeftOut(_("a tie: no answer is better than another") if ties else _("fewer than two answers are ranked"))
    pairs.sort(key=lambda p: (places[p[0]], places[p[1]], p[0], p[1]))
    return Row(messages, COMPARISON, tuple(answers), tuple(pairs), ties, **shared(value))


def shared(value: Mapping[str, Any]) -> dict[str, Any]:
    """The optional columns of every format: ``split``, ``source`` and ``weight``.

    :raises Wrong: when one is of another kind.
    """
    split, source, weight = value.get("split"), value.get("source"), number_of(value, "weight")
    found: dict[str, Any] = {}
    if split:
        if not isinstance(split, str) or split not in SPLITS:
            raise Wrong(_("the split must be train, dev or test"))
        found["split"] = SPLITS[split]
    if source:
        found["source"] = text_of(source, THE_SOURCE, LONGEST_SOURCE)
    if weight is not None:
        if weight <= 0:
            raise Wrong(_("the weight is not above 0"))
        found["weight"] = weight
    return found


def number_of(value: Mapping[str, Any], name: str) -> float | None:
    """A number of a record, also where it is written as text; None where it is left out.

    :raises Wrong: when it is none, or not finite.
    """
    number = value.get(name)
    if number is None or number == "":
        return None
    try:
        if isinstance(number, (bool, list, dict)):
            raise TypeError
        number = float(number)
    except (TypeError, ValueError, OverflowError):
        raise Wrong(_("%(name)s is not a number") % {"name": name}) from None
    if not math.isfinite(number):
        raise Wrong(_("%(name)s is not a finite number") % {"name": name})
    return number
