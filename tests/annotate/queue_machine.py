"""The queue beside a model of it in plain Python: whatever raters do, in any order, both agree.

Hypothesis draws the steps. Each example runs on real PostgreSQL in a transaction that is rolled back.
Races between transactions are the matter of ``tests/drill/pool.py``.
"""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from datetime import timedelta
from typing import Any, ClassVar

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from annotate.models import Draft, Judgement, JudgementRevision, Membership, Purpose, Slot, Submission, User
from annotate.services import Conflict, Refused, drafts, keys
from annotate.services.claiming import HELD_AT_MOST, claim, open_ahead, renew, skip
from annotate.services.judging import submit
from annotate.services.offers import why_none
from annotate.services.ondemand import counted_revisions, make_on_demand
from tests.annotate.factory import World, collect_items, user, world
from tests.annotate.queue_model import Held, QueueModel

OVERLAP = 2
BROWSER = uuid.uuid4()

raters = st.integers(0, 3)
places = st.integers(0, 40)
"""Which of the slots or submissions that there are; taken modulo their number."""


class QueueMachine(RuleBasedStateMachine):
    """Four raters at a queue of three items with an overlap of two."""

    stage: ClassVar[World]
    people: ClassVar[list[User]]
    examples: ClassVar[int] = 0

    @classmethod
    def prepare(cls) -> None:
        """Make the project that every example starts from."""
        cls.stage = world(prompts=3, overlap=OVERLAP, completions_per_item=2, gold_rate=0.5)
        collect_items(cls.stage, samples=2)
        cls.people = [cls.stage.bob, *(user(name) for name in ("carol", "dora", "erin"))]
        for person in cls.people[1:]:
            Membership.objects.create(user=person, project=cls.stage.project, role=Membership.Role.RATER)

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1
        self.example = transaction.atomic()
        self.example.__enter__()
        self.model = QueueModel({s.pk: Held(s.item_id, s.purpose, s.priority) for s in Slot.objects.all()})
        self.set_project(paused=False, quota=None)
        self.completions = {
            slot.item_id: sorted(slot.item.completions.values_list("pk", flat=True)) for slot in Slot.objects.all()
        }
        self.versions: dict[int, int] = {}
        self.answered: list[int] = []
        self.receipts: dict[uuid.UUID, tuple[int, int, str, dict[str, Any]]] = {}
        self.drafts: dict[tuple[int, int], int] = {}
        self.keys: set[int] = set()
        self.drafted = 0

    def teardown(self) -> None:
        try:
            self.every_acknowledged_submission_is_there_with_its_content()
            self.each_done_slot_has_one_judgement_with_every_version()
            self.an_adjudication_counts_alone_and_other_slots_on_demand_never()
            self.the_newest_draft_of_each_open_answer_is_kept()
        finally:
            transaction.set_rollback(True)
            self.example.__exit__(None, None, None)

    # What raters and leads do

    @rule(who=raters, ahead=st.booleans())
    def claims(self, who: int, ahead: bool) -> None:
        rater = self.people[who]
        expected = self.model.expected_claim(rater.pk, ahead)
        slot = claim(user=rater, project=self.stage.project, ahead=ahead)
        if slot is not None and slot.pk not in self.model.slots:
            self.is_gold_in_place_of(expected, slot, rater.pk)
            expected = slot.pk
        assert (slot and slot.pk) == expected
        if expected is None and not ahead:
            self.the_reason_is_right(rater)
        if expected is not None:
            self.model.change(expected, state="leased", rater=rater.pk, ahead=ahead, expired=False)
            self.model.leases.add((expected, rater.pk))

    @rule(paused=st.sampled_from([False, False, True]), quota=st.sampled_from([None, None, 1, 2]))
    def a_lead_changes_the_project(self, paused: bool, quota: int | None) -> None:
        self.set_project(paused, quota)

    @rule(which=places)
    def time_passes(self, which: int) -> None:
        leased = [pk for pk, held in self.model.slots.items() if held.state == "leased"]
        if leased:
            pk = leased[which % len(leased)]
            Slot.objects.filter(pk=pk).update(lease_expires_at=Now() - timedelta(seconds=1))
            self.model.change(pk, expired=True)

    @rule(who=raters, which=places)
    def renews(self, who: int, which: int) -> None:
        rater, pk = self.people[who], self.slot(which)
        held = self.model.slots[pk]
        mine = held.state == "leased" and held.rater == rater.pk and not (self.model.paused and held.ahead)
        assert renew(user=rater, slot=Slot.objects.get(pk=pk)) == mine
        if mine:
            self.model.change(pk, expired=False, ahead=False)

    @rule(who=raters, which=places)
    def moves_on(self, who: int, which: int) -> None:
        rater, pk = self.people[who], self.slot(which)
        held = self.model.slots[pk]
        mine = held.state == "leased" and held.rater == rater.pk
        if mine and self.model.at_work(rater.pk):
            return  # the page moves on only from an item that it has just sent or skipped
        assert open_ahead(user=rater, project=self.stage.project, slot_id=pk) == (mine and not self.model.paused)
        if mine and not self.model.paused:
            self.model.change(pk, expired=False, ahead=False)

    @rule(who=raters, which=places, what=places, stale=st.booleans())
    def submits(self, who: int, which: int, what: int, stale: bool) -> None:
        """A first answer, or an edit of one, from the version that is there or from a stale one."""
        rater, pk = self.people[who], self.slot(which, had_by=self.people[who].pk)
        held, version = self.model.slots[pk], self.versions.get(pk)
        given = version if not stale else (version or 0) + 1
        key, raw = uuid.uuid4(), self.answer(held.item, what)

        def send() -> str:
            slot = Slot.objects.get(pk=pk)
            return submit(user=rater, slot=slot, uuid=key, raw=raw, version=given).outcome

        if held.rater != rater.pk and (pk, rater.pk) not in self.model.leases:
            return refused(Refused, send)
        if held.rater == rater.pk and held.state == "done" and stale:
            return refused(Conflict, send)
        outcome = "accepted" if held.rater == rater.pk else "late"
        assert send() == outcome
        self.receipts[key] = (pk, rater.pk, outcome, raw)
        self.drafts.pop((pk, rater.pk), None)
        if outcome == "accepted":
            if version is None:
                self.answered.append(pk)
            self.versions[pk] = (version or 0) + 1
            self.model.change(pk, state="done", ahead=False, expired=False)

    @rule(which=places, who=raters, what=places, same=st.booleans())
    def submits_again(self, which: int, who: int, what: int, same: bool) -> None:
        if not self.receipts:
            return
        key = list(self.receipts)[which % len(self.receipts)]
        pk, sender, outcome, raw = self.receipts[key]
        rater = next(person for person in self.people if person.pk == sender) if same else self.people[who]
        again = raw if same else self.answer(self.model.slots[pk].item, what)

        def send() -> str:
            return submit(user=rater, slot=Slot.objects.get(pk=pk), uuid=key, raw=again).outcome

        if (rater.pk, again) == (sender, raw):
            assert send() == outcome
        else:
            refused(Conflict, send)

    @rule(who=raters, which=places)
    def skips_it(self, who: int, which: int) -> None:
        rater, pk = self.people[who], self.slot(which, had_by=self.people[who].pk)
        held = self.model.slots[pk]

        def give_back() -> None:
            skip(user=rater, slot=Slot.objects.get(pk=pk), reason="unsure")

        if held.rater != rater.pk or held.state != "leased":
            return refused(Refused, give_back)
        give_back()
        self.model.skips.add((held.item, rater.pk))
        self.drafts.pop((pk, rater.pk), None)
        self.model.change(pk, state="free", rater=None, ahead=False, expired=False)

    @rule(who=raters, which=places, delayed=st.booleans())
    def types(self, who: int, which: int, delayed: bool) -> None:
        rater, pk = self.people[who], self.slot(which, had_by=self.people[who].pk)
        if (pk, rater.pk) not in self.model.leases:
            return
        self.drafted += 1
        number = 0 if delayed else self.drafted
        mine = self.model.slots[pk].rater == rater.pk
        version = self.versions.get(pk, 0) if mine else 0
        typed = drafts.Typed(number, 0, BROWSER, version, {"rationale": str(number)})
        replaced = self.drafts.get((pk, rater.pk))
        kept = drafts.keep(user=rater, slot=Slot.objects.get(pk=pk), typed=typed)
        assert kept == (replaced is None or number > replaced)
        if kept:
            self.drafts[pk, rater.pk] = number

    @rule(who=raters, which=places, purpose=st.sampled_from([Purpose.ADJUDICATE, Purpose.ADJUDICATE, Purpose.REPEAT]))
    def asks(self, who: int, which: int, purpose: Purpose) -> None:
        rater, pk = self.people[who], self.slot(which)
        item = Slot.objects.get(pk=pk).item
        on_item = {key: held for key, held in self.model.slots.items() if held.item == item.pk}
        judged_by = {on_item[key].rater for key in self.versions if key in on_item}
        had = self.model.had(item.pk, rater.pk)
        fits = rater.pk in judged_by if purpose == Purpose.REPEAT else bool(judged_by) and not had
        if not fits:
            return refused(
                Refused, lambda: make_on_demand(item=item, purpose=purpose, rater=rater, actor=self.stage.alice)
            )
        made = make_on_demand(item=item, purpose=purpose, rater=rater, actor=self.stage.alice)
        moved = [k for k, held in on_item.items() if held.purpose == purpose == "adjudicate" and held.state != "done"]
        assert made.pk in moved if moved else made.pk not in self.model.slots
        self.model.slots[made.pk] = Held(item.pk, purpose, made.priority, reserved_for=rater.pk)

    @rule(which=places)
    def makes_a_key(self, which: int) -> None:
        if not self.answered:
            return
        pk = self.answered[which % len(self.answered)]
        if self.model.slots[pk].item in self.keys:
            return
        judgement = Judgement.objects.get(slot=pk)
        keys.make(judgement=judgement, use="gold", explanation="", actor=self.stage.alice)
        self.keys.add(self.model.slots[pk].item)

    def is_gold_in_place_of(self, expected: int | None, slot: Slot, rater: int) -> None:
        """Check a slot that claiming made by itself, and take it into the model."""
        assert expected is not None
        assert self.model.slots[expected].counted
        assert slot.purpose == Purpose.GOLD
        assert slot.item_id in self.keys
        assert not self.model.had(slot.item_id, rater)
        self.model.slots[slot.pk] = Held(slot.item_id, slot.purpose, slot.priority, reserved_for=rater)

    # What must hold: the first two after every step, the rest, of what is only ever added to, after the last

    @invariant()
    def the_slots_are_what_the_model_says(self) -> None:
        stored = {
            pk: tuple(rest) for pk, *rest in Slot.objects.values_list("pk", "state", "rater", "ahead", "reserved_for")
        }
        assert stored == {pk: (s.state, s.rater, s.ahead, s.reserved_for) for pk, s in self.model.slots.items()}

    @invariant()
    def nobody_holds_more_than_two_and_no_item_is_judged_more_often_than_wanted(self) -> None:
        holding: dict[int | None, int] = defaultdict(int)
        judged: dict[int, list[int | None]] = defaultdict(list)
        for held in self.model.slots.values():
            holding[held.rater] += held.state == "leased"
            if held.counted and held.state == "done":
                judged[held.item].append(held.rater)
        holding.pop(None, None)
        assert all(count <= HELD_AT_MOST for count in holding.values())
        assert all(len(by) <= OVERLAP and len(set(by)) == len(by) for by in judged.values())

    def every_acknowledged_submission_is_there_with_its_content(self) -> None:
        stored = {
            key: tuple(rest)
            for key, *rest in Submission.objects.values_list("uuid", "slot", "rater", "outcome", "payload")
        }
        assert stored == self.receipts

    def each_done_slot_has_one_judgement_with_every_version(self) -> None:
        versions = dict(Judgement.objects.values_list("slot", "version"))
        assert versions == self.versions
        assert set(versions) == {pk for pk, held in self.model.slots.items() if held.state == "done"}
        numbers = defaultdict(list)
        revisions = JudgementRevision.objects.order_by("number").values_list("judgement__slot", "number")
        for slot, number in revisions:
            numbers[slot].append(number)
        assert numbers == {pk: list(range(1, version + 1)) for pk, version in versions.items()}

    def an_adjudication_counts_alone_and_other_slots_on_demand_never(self) -> None:
        counted = counted_revisions(kinds=["human"])
        expected: set[int] = set()
        for item in self.completions:
            judged = [pk for pk in self.answered if self.model.slots[pk].item == item]
            decided = [pk for pk in judged if self.model.slots[pk].purpose == "adjudicate"]
            expected |= {decided[-1]} if decided else {pk for pk in judged if self.model.slots[pk].counted}
        assert set(counted.values_list("judgement__slot", flat=True)) == expected

    def the_newest_draft_of_each_open_answer_is_kept(self) -> None:
        stored = {(d.slot_id, d.rater_id): (d.sequence, json.loads(d.answer)) for d in Draft.objects.all()}
        assert stored == {key: (number, {"rationale": str(number)}) for key, number in self.drafts.items()}

    def the_reason_is_right(self, rater: User) -> None:
        """Paused or a quota is given as the reason exactly where it keeps something from the rater."""
        barred = self.model.barred(rater.pk)
        open_to_all = any(h.counted and h.state != "done" and h.item not in barred for h in self.model.slots.values())
        own = any(h.state == "leased" and h.rater == rater.pk for h in self.model.slots.values())
        asked = any(self.model.is_asked(held, rater.pk) for held in self.model.slots.values())
        reason = why_none(user=rater, project=self.stage.project)
        assert ("paused" in reason) == (self.model.paused and (open_to_all or own or asked))
        assert ("one person may" in reason) == (
            not self.model.paused and open_to_all and self.model.has_quota(rater.pk)
        )

    def set_project(self, paused: bool, quota: int | None) -> None:
        project = self.stage.project
        self.model.paused, self.model.quota = paused, quota
        project.paused_at, project.quota = (timezone.now() if paused else None), quota
        project.save(update_fields=["paused_at", "quota"])

    def slot(self, which: int, had_by: int | None = None) -> int:
        """A slot; preferably one that the rater has had."""
        had = sorted(pk for pk, rater in self.model.leases if rater == had_by)
        pks = had if had and which % 8 else sorted(self.model.slots)
        return pks[which % len(pks)]

    def answer(self, item: int, what: int) -> dict[str, Any]:
        first, second = self.completions[item]
        return {"ranks": {str(first): 1 + what % 2, str(second): 2 - what % 2}, "rationale": str(what)}


def refused(kind: type[Refused], act: Any) -> None:
    """Do something that must be refused."""
    try:
        act()
    except kind:
        return
    raise AssertionError(f"not refused: {act}")
