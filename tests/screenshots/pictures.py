"""What is pictured: who looks at which page, in which window, and what they have done there."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from annotate.models import Item, Slot
from annotate.services import drafts
from tests.screenshots.stage import ANSWERS, Stage, hand

WEATHER, VOWELS, SNOW = ANSWERS
DESKTOP, PHONE = (1440, 900), (390, 844)


@dataclass(frozen=True)
class Picture:
    """One picture.

    :param person: who looks.
    :param path: of the page, within the project.
    :param window: width and height in CSS pixels.
    :param density: pixels of the picture to one of CSS.
    :param before: what that person has done by then.
    :param scrolled_to: a selector of what stands at the top, "" for the page's beginning.
    """

    name: str
    person: str
    path: str
    window: tuple[int, int] = DESKTOP
    density: float = 1.5
    colours: str = "light"
    locale: str = "en-GB"
    before: Callable[[Stage], None] = lambda _stage: None
    scrolled_to: str = ""


def weather(stage: Stage) -> None:
    """Amara has ranked three answers and scored two of them."""
    slot = hand(stage, "amara", WEATHER, Item.Purpose.COLLECT, order=(1, 0, 3, 2))
    _type(
        slot,
        scores={"A": _scores(stage, 4, 4, 5), "B": _scores(stage, 5, 5, 5)},
        ranks={"A": 2, "B": 1, "D": 3},
        rationale="B gives a picture that a child remembers, and it is right.",
    )


def vowels(stage: Stage) -> None:
    """Jonas has scored the first answer."""
    slot = hand(stage, "jonas", VOWELS, Item.Purpose.COLLECT, order=(0, 2, 1, 3))
    _type(slot, scores={"A": _scores(stage, 5, 5, 4)}, ranks={"A": 1})


def snow(stage: Stage) -> None:
    """Mei compares two generations without knowing which is which."""
    slot = hand(stage, "mei", SNOW, Item.Purpose.EVALUATE, order=(1, 0))
    _type(
        slot,
        scores={"A": _scores(stage, 3, 4, 3), "B": _scores(stage, 5, 5, 5)},
        ranks={"A": 2, "B": 1},
        strength=2,
        rationale="B 有画面感，三句话各写一个景象；A 只是重复“有雪”。",
    )


def _scores(stage: Stage, *values: int) -> dict[str, int]:
    criteria = stage.project.criteria.order_by("position").values_list("pk", flat=True)
    return dict(zip(map(str, criteria), values, strict=True))


def _type(slot: Slot, **answer: Any) -> None:
    """Leave a draft on the site, which the page takes up."""
    assert slot.rater is not None
    drafts.keep(user=slot.rater, slot=slot, typed=drafts.Typed(1, 0, uuid.uuid4(), 0, answer))


PICTURES = (
    Picture("rating", "amara", "rate", before=weather),
    Picture("phone", "jonas", "rate", window=PHONE, density=2, colours="dark", before=vowels),
    Picture("chinese", "mei", "rate", locale="zh-CN", before=snow),
    Picture("loop", "helen", "", window=(1440, 1180)),
    Picture("quality", "helen", "quality", window=(1440, 1180)),
    Picture("raters", "helen", "quality/raters", window=(1440, 1180)),
    Picture("generations", "helen", "generations/", window=(1440, 1180)),
    Picture("set-up", "helen", "settings"),
)
