"""Published preference sets: UltraFeedback, HelpSteer2 and 3, Chatbot Arena battles, OpenAssistant trees.

Sources: the data cards of openbmb/UltraFeedback, nvidia/HelpSteer2 and HelpSteer3, lmsys/chatbot_arena_conversations,
lmsys/lmsys-arena-human-preference-55k and OpenAssistant/oasst1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.utils.translation import gettext as _

from annotate.formats.reading.problems import LeftOut, Wrong
from annotate.formats.reading.rows import (
    Messages,
    Row,
    answer_of,
    message_of,
    number_of,
    pair,
    prompt_of,
    ranking,
    scored,
    text_of,
    two_chats,
)

DEEPEST_TREE = 200


def ultrafeedback(value: Mapping[str, Any]) -> list[Row]:
    """``instruction`` and ``completions``, each with ``response`` and a score; the higher score is better."""
    completions = value.get("completions")
    if not isinstance(completions, list) or not all(isinstance(c, dict) for c in completions):
        raise Wrong(_("completions is not a list of objects"))
    answers = [answer_of(c.get("response"), "response") for c in completions]
    messages = prompt_of(value.get("instruction", value.get("prompt")))
    return [scored(value, messages, answers, [_score(c) for c in completions])]


def _score(completion: Mapping[str, Any]) -> float | None:
    """The finest score that a completion has; ``overall_score`` is known to be wrong in places, so it comes last."""
    for name in ("fine-grained_score", "score", "overall_score"):
        if (score := number_of(completion, name)) is not None:
            return score
    return None


def helpsteer(value: Mapping[str, Any]) -> list[Row]:
    """``prompt`` (or ``context``), two responses and a preference from −3, the first is much better, to 3."""
    messages = prompt_of(value.get("context", value.get("prompt")))
    first = answer_of(value.get("response_1", value.get("response1")), "response_1")
    second = answer_of(value.get("response_2", value.get("response2")), "response_2")
    name = "preference_strength" if "preference_strength" in value else "overall_preference"
    preference = number_of(value, name)
    if preference is None or not -3 <= preference <= 3:
        raise Wrong(_("%(name)s is not a number from −3 to 3") % {"name": name})
    if preference == 0:
        raise LeftOut(_("a tie: no answer is better than another"))
    better, worse = (first, second) if preference < 0 else (second, first)
    return pair(value, messages, better, worse, abs(preference))


def battle(value: Mapping[str, Any]) -> list[Row]:
    """``conversation_a``, ``conversation_b``, ``winner``: model_a, model_b, tie, tie (bothbad) or both_bad."""
    winner = value.get("winner")
    if winner not in ("model_a", "model_b", "tie", "tie (bothbad)", "both_bad"):
        raise Wrong(_("the winner is not model_a, model_b, tie or tie (bothbad)"))
    names = ("conversation_a", "conversation_b")
    messages, a, b = two_chats(value.get(names[0]), value.get(names[1]), names)
    if winner not in ("model_a", "model_b"):
        raise LeftOut(_("a tie: no answer is better than another"))
    return pair(value, messages, *((a, b) if winner == "model_a" else (b, a)))


def battle_in_columns(value: Mapping[str, Any]) -> list[Row]:
    """``prompt``, ``response_a``, ``response_b`` as lists of turns, and a column of 0 or 1 for each outcome."""
    said, a, b = (value.get(name) for name in ("prompt", "response_a", "response_b"))
    one_chat, other_chat = _interleaved(said, a), _interleaved(said, b)
    outcomes = [number_of(value, f"winner_{who}") for who in ("model_a", "model_b", "tie")]
    if sorted(outcome or 0.0 for outcome in outcomes) != [0.0, 0.0, 1.0]:
        raise Wrong(_("not exactly one of winner_model_a, winner_model_b and winner_tie is 1"))
    messages, one, other = two_chats(one_chat, other_chat, ("response_a", "response_b"))
    if outcomes[2]:
        raise LeftOut(_("a tie: no answer is better than another"))
    return pair(value, messages, *((one, other) if outcomes[0] else (other, one)))


def _interleaved(said: Any, answers: Any) -> Messages:
    if isinstance(said, str) and isinstance(answers, str):
        said, answers = [said], [answers]
    if not isinstance(said, list) or not isinstance(answers, list) or len(said) != len(answers):
        raise Wrong(_("prompt and responses are not lists of the same length"))
    roles = ("user", "assistant")
    turns = zip(said, answers, strict=True)
    return [
        {"role": role, "content": text_of(text, "prompt")}
        for turn in turns
        for role, text in zip(roles, turn, strict=True)
    ]


def tree(value: Mapping[str, Any]) -> list[Row]:
    """A message tree: wherever the replies of the assistant are ranked (``rank`` 0 is best), a ranking of them."""
    root = value.get("prompt", value)
    if not isinstance(root, dict):
        raise Wrong(_("the prompt is not a message"))
    rows = []
    for messages, replies in _ranked_replies(root):
        answers = [answer_of(reply.get("text"), "text") for reply in replies]
        places = [number_of(reply, "rank") for reply in replies]
        try:
            rows.append(ranking(value, messages, answers, places))
        except LeftOut:
            continue
    if not rows:
        raise LeftOut(_("fewer than two answers are ranked"))
    return rows


def _ranked_replies(root: dict[str, Any]) -> Iterator[tuple[Messages, list[dict[str, Any]]]]:
    """Each chat of a tree that goes on with several answers, from the root downwards."""
    waiting: list[tuple[Messages, dict[str, Any]]] = [([], root)]
    while waiting:
        before, node = waiting.pop()
        role = node.get("role")
        turn = message_of({"role": role, "content": node.get("text")})
        chat = [*before, turn]
        if len(chat) > DEEPEST_TREE:
            raise Wrong(_("too deeply nested"))
        replies = node.get("replies") or []
        if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
            raise Wrong(_("the replies are not a list of messages"))
        answers = [r for r in replies if r.get("role") == "assistant" and not r.get("deleted")]
        if len(answers) > 1:
            yield chat, answers
        waiting += [(chat, reply) for reply in reversed(replies)]
