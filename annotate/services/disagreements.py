"""Items whose raters disagree, and what became of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _

from annotate.models import Item, JudgementRevision, Project, Purpose, Slot
from annotate.services import adjudication
from annotate.services.raters import SharedItem

SHOWN = 30
USUAL = 0.5
"""Disagreement that is worth a look where the project sets no threshold: that of two unrelated orders."""


@dataclass(frozen=True)
class Disagreement:
    """An item, how much its raters disagree, and who decides."""

    item: Item
    share: float
    revisions: list[JudgementRevision]
    decided: bool
    state: str
    """In words."""
    is_mixed: bool
    """Whether its raters judged under different instructions."""


def of(project: Project, shared: Sequence[SharedItem]) -> list[Disagreement]:
    """Items above the project's threshold, the undecided first, then those with the most disagreement.

    :param shared: items to look at, as :func:`~annotate.services.raters.shared_items` gives them.
    """
    threshold = USUAL if project.adjudicate_above is None else project.adjudicate_above
    found = [(each, share) for each in shared if (share := each.disagreement) is not None and share > threshold]
    slots = Slot.objects.filter(item__in=[each.item.pk for each, _share in found], purpose=Purpose.ADJUDICATE)
    asked = {slot.item_id: slot for slot in slots.select_related("reserved_for").order_by("pk")}
    declined = set(slots.filter(skips__isnull=False, state=Slot.State.FREE).values_list("pk", flat=True))
    decided = {item: slot for item, slot in asked.items() if slot.state == Slot.State.DONE}
    found.sort(key=lambda entry: (entry[0].item.pk in decided, -entry[1]))
    return [
        Disagreement(
            item=each.item,
            share=share,
            revisions=each.revisions,
            decided=each.item.pk in decided,
            state=_state(each.item, asked.get(each.item.pk), declined),
            is_mixed=each.is_mixed,
        )
        for each, share in found[:SHOWN]
    ]


def _state(item: Item, slot: Slot | None, declined: set[int]) -> str:
    if slot is None:
        if adjudication.eligible(item).exists():
            return _("Nobody has been asked.")
        return _("Nobody can be asked: every member who may decide has had this item.")
    person = {"name": slot.reserved_for}
    if slot.state == Slot.State.DONE:
        return _("%(name)s decided.") % person
    if slot.pk in declined:
        return _("%(name)s passed over it: ask somebody else.") % person
    return _("%(name)s has been asked.") % person
