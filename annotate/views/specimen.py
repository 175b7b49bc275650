"""The rating page as raters would see it under settings that are only typed so far: an example, to look at."""

from __future__ import annotations

from typing import Any

from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from annotate.models import Criterion, GuidelineVersion, Norm, NormVersion, Project, Prompt
from annotate.models.content import MAX_COMPLETIONS, MIN_COMPLETIONS
from annotate.services.description import Protocol
from annotate.views.letters import LETTERS

PROMPT = _("How can I fall asleep more easily?")
ANSWERS = (
    _(
        "Go to bed at the same time every day, and keep the room dark and cool. Put screens away an hour before. "
        "If you still lie awake after twenty minutes, get up and read something dull."
    ),
    _("Try:\n\n- no coffee after noon\n- a short walk in the evening\n- a warm bath before bed"),
    _("Sleep is important for your health. Many people have trouble sleeping. It is good to sleep well."),
    _("Count backwards from 300 in threes. It is just hard enough that worries find no room."),
    _("You should see a doctor at once."),
    _("Read the same calm page each night; soon the page itself will make you drowsy."),
    _("I don't know, but there are many books about it."),
    _("Breathe in for four seconds, hold for seven, and breathe out for eight. Repeat four times."),
    _("Simply close your eyes."),
)
DEFAULT_COUNT = 4


def specimen(raw: dict[str, Any]) -> dict[str, Any]:
    """What the template of an item shows, for a description that need not be right yet.

    :param raw: a description as it was typed.
    """
    asked = {f"{name}_on": raw["protocol"][name] for name in Protocol.model_fields}
    project = Project(slug="preview", name=raw["name"], **asked)
    count = _count(raw["completions_per_item"])
    return {
        "project": project,
        "slot": True,
        "prompt": Prompt(messages=[{"role": "user", "content": str(PROMPT)}]),
        "answers": [{"letter": letter, "text": str(text)} for letter, text in zip(LETTERS, ANSWERS, strict=True)][
            :count
        ],
        "places": range(1, count + 1),
        "criteria": _criteria(raw) if project.score_on else [],
        "norms": _norms(raw) if project.norms_on else [],
        "pair": project.rank_on and count == 2,
        "data": {},
    }


def instructions(raw: dict[str, Any]) -> str:
    """The typed instructions in the viewer's language."""
    renderings = {language: {"text": texts["instructions"]} for language, texts in raw["translations"].items()}
    return GuidelineVersion(text=raw["instructions"], translations=renderings).in_language(
        "text", get_language() or "en"
    )


def _count(typed: str) -> int:
    number = int(typed) if typed.isascii() and typed.isdecimal() and len(typed) < 3 else DEFAULT_COUNT
    return min(max(number, MIN_COMPLETIONS), MAX_COMPLETIONS)


def _criteria(raw: dict[str, Any]) -> list[Criterion]:
    return [
        Criterion(pk=number, **{**criterion, "name": criterion["name"] or "…"})
        for number, criterion in enumerate(raw["criteria"], start=1)
    ]


def _norms(raw: dict[str, Any]) -> list[NormVersion]:
    return [
        NormVersion(pk=number, norm=Norm(name=norm["name"] or "…"), text=norm["text"])
        for number, norm in enumerate(raw["norms"], start=1)
    ]
