"""The queue in plain Python: what the steps of ``queue_machine.py`` must come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from annotate.services.claiming import HELD_AT_MOST


@dataclass(frozen=True)
class Held:
    """What the model knows of a slot."""

    item: int
    purpose: str
    priority: int
    state: str = "free"
    rater: int | None = None
    ahead: bool = False
    expired: bool = False
    reserved_for: int | None = None

    @property
    def counted(self) -> bool:
        return self.purpose in ("collect", "evaluate")


@dataclass
class QueueModel:
    """What is known of every slot, and of who has had it."""

    slots: dict[int, Held]
    leases: set[tuple[int, int]] = field(default_factory=set)
    """Slot and rater."""
    skips: set[tuple[int, int]] = field(default_factory=set)
    """Item and rater."""
    paused: bool = False
    quota: int | None = None

    def expected_claim(self, rater: int, ahead: bool) -> int | None:
        """The slot that claiming must give, worked out in plain Python."""

        def first(fits: Callable[[Held], bool]) -> int | None:
            found = [pk for pk, held in self.slots.items() if fits(held)]
            return min(found, key=lambda pk: (self.slots[pk].priority, pk), default=None)

        mine = sorted(
            (held.ahead, held.priority, pk)
            for pk, held in self.slots.items()
            if held.state == "leased" and held.rater == rater
        )
        if self.paused:
            mine = [entry for entry in mine if not entry[0]]
        fits = [entry for entry in mine if entry[0]] if ahead else mine
        if fits:
            return fits[0][2]
        if len(mine) >= HELD_AT_MOST or self.paused:
            return None
        barred = self.barred(rater)

        def for_me(held: Held) -> bool:
            return self.is_asked(held, rater)

        def open_to_all(held: Held) -> bool:
            free = held.state == "free" or (held.state == "leased" and held.expired)
            return held.counted and held.item not in barred and free

        def in_a_page_only(held: Held) -> bool:
            return held.counted and held.item not in barred and held.ahead and not ahead

        return first(for_me) or (not self.has_quota(rater) and (first(open_to_all) or first(in_a_page_only))) or None

    def is_asked(self, held: Held, rater: int) -> bool:
        return held.state == "free" and held.reserved_for == rater and (held.item, rater) not in self.skips

    def barred(self, rater: int) -> set[int]:
        had = {held.item for held in self.slots.values() if held.rater == rater}
        return had | {item for item, skipper in self.skips if skipper == rater}

    def has_quota(self, rater: int) -> bool:
        mine = [held for held in self.slots.values() if held.counted and held.rater == rater]
        return self.quota is not None and len(mine) >= self.quota

    def had(self, item: int, rater: int) -> bool:
        on_item = {key: held for key, held in self.slots.items() if held.item == item}
        return (
            (item, rater) in self.skips
            or any(rater in (held.rater, held.reserved_for) for held in on_item.values())
            or any((key, rater) in self.leases for key in on_item)
        )

    def at_work(self, rater: int) -> bool:
        return any(h.state == "leased" and h.rater == rater and not h.ahead for h in self.slots.values())

    def change(self, pk: int, **values: Any) -> None:
        self.slots[pk] = replace(self.slots[pk], **values)
