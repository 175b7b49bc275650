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
PROMPT, COMPARISON, RANKING, DEMONSTRATION = "prompt", "comparison", "ranking", "demonstration"
COMPLETION, LABEL = "completion", "label"


@dataclass(frozen=True, slots=True)
class Row:
    """What a record says of a prompt."""

    messages: Messages
    use: str = PROMPT
    """PROMPT, COMPARISON, RANKING, DEMONSTRATION, COMPLETION or LABEL."""
    answers: Sequence[str] = ()
    pairs: Sequence[tuple[int, int, float | None]] = ()
    """Places of the better and the worse answer, and how much better in the source's own unit."""
    ranks: Sequence[int | None] = ()
    """Of a ranking's answers: 1 is best, equals are a tie, None is unranked."""
    scores: Sequence[float] = ()
    """Of a ranking's answers where its source gives them: how much better is their difference."""
    strength: float | None = None
    """Of a ranking as a whole."""
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
) -> Row:
    """The row of a ranking.

    Answers of the same text count once, at the place of the first, and those without a place are left out.

    :param places: of each answer, lower is better; None where it is not ranked.
    :raises LeftOut: when fewer than two answers are ranked.
    """
    placed: dict[str, float] = {}
    for answer, place in zip(answers, places, strict=True):
        if place is not None:
            placed.setdefault(answer, place)
    return ranked_row(value, messages, list(placed), _dense(list(placed.values())))


def scored(value: Mapping[str, Any], messages: Messages, answers: Sequence[str], scores: Sequence[float | None]) -> Row:
    """The row of a ranking by scores, of which more is better; the difference of two says how much better.

    :raises LeftOut: when fewer than two answers have a score.
    """
    known: dict[str, float] = {}
    for answer, score in zip(answers, scores, strict=True):
        if score is not None:
            known.setdefault(answer, score)
    ranks = _dense([-score for score in known.values()])
    return ranked_row(value, messages, list(known), ranks, tuple(known.values()))


def ranked_row(
    value: Mapping[str, Any],
    messages: Messages,
    answers: Sequence[str],
    ranks: Sequence[int | None],
    scores: Sequence[float] = (),
    strength: float | None = None,
) -> Row:
    """The row of a ranking as it stands, with its pairs.

    :raises Wrong: when it has more answers than a ranking may have.
    :raises LeftOut: when fewer than two answers are ranked.
    """
    if len(answers) > MOST_ANSWERS:
        raise Wrong(_("more than %(most)d answers") % {"most": MOST_ANSWERS})
    placed = [(rank, place) for place, rank in enumerate(ranks) if rank is not None]
    if len(placed) < 2:
        raise LeftOut(_("fewer than two answers are ranked"))
    pairs, ties = [], 0
    for (first, upper), (second, lower) in combinations(sorted(placed), 2):
        if first == second:
            ties += 1
        elif answers[upper] != answers[lower]:
            pairs.append((upper, lower, scores[upper] - scores[lower] if scores else strength))
    return Row(messages, RANKING, tuple(answers), tuple(pairs), ranks, scores, strength, ties=ties, **shared(value))


def _dense(places: Sequence[float]) -> list[int | None]:
    """Places as ranks: 1 is the lowest, without gaps."""
    order = {place: rank for rank, place in enumerate(sorted(set(places)), start=1)}
    return [order[place] for place in places]


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
