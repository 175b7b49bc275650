"""TRL's dataset types, conversational and plain, and transcripts as in HH-RLHF.

Source: TRL 1.16, "Dataset formats and types"; Anthropic's HH-RLHF, whose rows are two whole transcripts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.utils.translation import gettext as _

from annotate.formats.reading.problems import LeftOut, Wrong
from annotate.formats.reading.rows import (
    A_TAG,
    COMPLETION,
    DEMONSTRATION,
    LABEL,
    THE_REFERENCE,
    Row,
    answer_of,
    chat_of,
    number_of,
    pair,
    prompt_of,
    ranked_row,
    ranking,
    shared,
    text_of,
    transcript,
    two_chats,
)

LABELS = {1: 1.0, 0: 0.0, "true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}
"""What stands for a good answer and for a bad one; True and False are 1 and 0."""
HIGHEST_RANK = 2**31 - 1
MOST_TAGS, LONGEST_TAG = 100, 50


def preference(value: Mapping[str, Any]) -> list[Row]:
    """``prompt``, ``chosen``, ``rejected``: answers as text or as one message."""
    messages = prompt_of(value.get("prompt"))
    chosen, rejected = value.get("chosen"), value.get("rejected")
    if isinstance(chosen, list) and isinstance(rejected, list) and min(len(chosen), len(rejected)) > 1:
        # UltraFeedback-binarized and its kin: the prompt once more inside of both answers.
        messages, better, worse = two_chats(chosen, rejected, ("chosen", "rejected"))
        return pair(value, messages, better, worse)
    return pair(value, messages, answer_of(chosen, "chosen"), answer_of(rejected, "rejected"))


def implicit(value: Mapping[str, Any]) -> list[Row]:
    """``chosen``, ``rejected``, each with the prompt in it: whole chats, or texts that begin alike."""
    chosen, rejected = value.get("chosen"), value.get("rejected")
    if isinstance(chosen, list) or isinstance(rejected, list):
        return pair(value, *two_chats(chosen, rejected, ("chosen", "rejected")))
    better, worse = text_of(chosen, "chosen"), text_of(rejected, "rejected")
    if better == worse:
        raise Wrong(_("the two answers are the same"))
    shorter = min(len(better), len(worse))
    begin = next((n for n in range(shorter) if better[n] != worse[n]), shorter)
    if begin and better[begin - 1] == " ":
        begin -= 1
    return pair(
        value, prompt_of(better[:begin]), answer_of(better[begin:], "chosen"), answer_of(worse[begin:], "rejected")
    )


def transcripts(value: Mapping[str, Any]) -> list[Row]:
    r"""``chosen``, ``rejected``: texts of turns that begin ``\n\nHuman: `` or ``\n\nAssistant: ``."""
    better, worse = transcript(value.get("chosen"), "chosen"), transcript(value.get("rejected"), "rejected")
    return pair(value, *two_chats(better, worse, ("chosen", "rejected")))


def unpaired(value: Mapping[str, Any]) -> list[Row]:
    """``prompt``, ``completion``, ``label``: whether the answer is a good one."""
    label = value.get("label")
    if isinstance(label, str):
        label = label.strip().lower()
    if not isinstance(label, (bool, int, float, str)) or label not in LABELS:
        raise Wrong(_("the label is neither true nor false"))
    answer = answer_of(value.get("completion"), "completion")
    return [Row(prompt_of(value.get("prompt")), LABEL, (answer,), label=LABELS[label], **shared(value))]


def demonstration(value: Mapping[str, Any]) -> list[Row]:
    """``prompt``, ``completion``: an answer to learn from."""
    answer = answer_of(value.get("completion"), "completion")
    return [Row(prompt_of(value.get("prompt")), DEMONSTRATION, (answer,), **shared(value))]


def chat(value: Mapping[str, Any]) -> list[Row]:
    """``messages`` (or ``conversations``): a chat whose last message is an answer to learn from."""
    turns = chat_of(value.get("messages", value.get("conversations")), "messages")
    answer = answer_of(turns[-1]["content"], "messages")
    return [Row(turns[:-1], DEMONSTRATION, (answer,), **shared(value))]


def completion(value: Mapping[str, Any]) -> list[Row]:
    """``prompt``, ``completion``: an answer of some model, neither good nor bad yet."""
    answer = answer_of(value.get("completion"), "completion")
    return [Row(prompt_of(value.get("prompt")), COMPLETION, (answer,), **shared(value))]


def prompt(value: Mapping[str, Any]) -> list[Row]:
    """``prompt`` or ``messages``, and perhaps ``reference`` and ``tags``."""
    messages = value.get("messages")
    if messages is None:
        messages = value.get("prompt")
    if messages is None:
        raise Wrong(_("no messages and no prompt"))
    if not isinstance(messages, (list, str)):
        raise Wrong(_("no messages and no prompt"))
    try:
        turns = prompt_of(messages)
    except LeftOut as empty:
        raise Wrong(str(empty)) from None
    reference, tags = value.get("reference"), value.get("tags") or []
    if reference is not None:
        reference = text_of(reference, THE_REFERENCE)
    if not isinstance(tags, list) or len(tags) > MOST_TAGS:
        raise Wrong(_("the tags are not a list of short words"))
    try:
        words = tuple(text_of(tag, A_TAG, LONGEST_TAG) for tag in tags)
    except Wrong:
        raise Wrong(_("the tags are not a list of short words")) from None
    return [Row(turns, reference=reference, tags=words, **shared(value))]


def ranked(value: Mapping[str, Any]) -> list[Row]:
    """``prompt`` or ``messages``, ``responses`` and ``ranks``: 1 is best, equal ranks are ties, null is unranked."""
    messages = prompt_of(value.get("messages", value.get("prompt")))
    responses, ranks = value.get("responses"), value.get("ranks")
    if not isinstance(responses, list) or not isinstance(ranks, list) or len(responses) != len(ranks):
        raise Wrong(_("responses and ranks are not two lists of the same length"))
    answers = [answer_of(response, "responses") for response in responses]
    places = [number_of({"ranks": rank}, "ranks") for rank in ranks]
    strength = number_of(value, "strength")
    if all(place is None or (place.is_integer() and 1 <= place <= HIGHEST_RANK) for place in places):
        whole = [None if place is None else int(place) for place in places]
        return [ranked_row(value, messages, answers, whole, strength=strength)]
    return [replace(ranking(value, messages, answers, places), strength=strength)]
