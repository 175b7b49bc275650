"""Claiming and submitting: nothing lost, nothing counted twice."""

from __future__ import annotations

import json
import threading
import time
import uuid
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.utils import timezone

from annotate.models import Judgement, Lease, Project, Slot, Submission, User
from annotate.services import Conflict, Refused
from annotate.services.claiming import claim, open_ahead, renew, shown_order, skip
from annotate.services.judging import submit
from annotate.services.offers import available, why_none
from annotate.services.standing import standing
from tests.annotate.factory import World, collect_items, user, world

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage() -> World:
    made = world(prompts=3)
    collect_items(made)
    return made


def ranking(slot: Slot, **more: object) -> dict[str, object]:
    return {"ranks": {str(pk): place for place, pk in enumerate(shown_order(slot), start=1)}, **more}


def held(rater: User, stage: World) -> Slot:
    slot = claim(user=rater, project=stage.project)
    assert slot is not None
    return slot


def take_over(slot: Slot, rater: User) -> None:
    """Let the lease run out and another rater take the slot."""
    Slot.objects.filter(pk=slot.pk).update(rater=rater)


def test_claiming_again_returns_the_slot_already_held(stage: World) -> None:
    assert held(stage.bob, stage) == held(stage.bob, stage)


def test_two_raters_never_hold_the_same_slot(stage: World) -> None:
    assert held(stage.bob, stage) != held(stage.alice, stage)


def test_a_prefetch_hands_out_one_more_slot(stage: World) -> None:
    first = held(stage.bob, stage)
    assert claim(user=stage.bob, project=stage.project, ahead=True) not in (None, first)


def test_a_rater_holds_one_slot_at_work_and_one_ahead_and_never_more(stage: World) -> None:
    first = held(stage.bob, stage)
    second = claim(user=stage.bob, project=stage.project, ahead=True)
    assert claim(user=stage.bob, project=stage.project, ahead=True) == second
    assert held(stage.bob, stage) == first
    assert Slot.objects.filter(rater=stage.bob).count() == 2


def test_a_slot_held_ahead_becomes_the_one_at_work_when_the_first_is_judged(stage: World) -> None:
    first = held(stage.bob, stage)
    second = claim(user=stage.bob, project=stage.project, ahead=True)
    submit(user=stage.bob, slot=first, uuid=uuid.uuid4(), raw=ranking(first))
    assert second is not None
    assert open_ahead(user=stage.bob, project=stage.project, slot_id=second.pk)
    assert (held(stage.bob, stage), held(stage.bob, stage).ahead) == (second, False)


def test_a_slot_held_ahead_is_taken_by_one_for_whom_nothing_is_free_but_never_to_be_held_ahead_again() -> None:
    stage = world(prompts=2)
    collect_items(stage)
    held(stage.bob, stage)
    ahead = claim(user=stage.bob, project=stage.project, ahead=True)
    assert ahead is not None
    assert claim(user=stage.alice, project=stage.project, ahead=True) is None
    assert held(stage.alice, stage) == ahead
    assert not open_ahead(user=stage.bob, project=stage.project, slot_id=ahead.pk)
    carol = user("carol")
    assert claim(user=carol, project=stage.project) is None


def test_leases_follow_the_database_s_clock_however_wrong_the_web_server_s_is(
    stage: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    slot = held(stage.alice, stage)
    for skew in (timedelta(hours=1), timedelta(hours=-1)):
        monkeypatch.setattr(timezone, "now", lambda skew=skew: now + skew)
        assert slot not in available(stage.bob.pk, stage.project.pk)
        assert renew(user=stage.alice, slot=slot)
        mine = held(stage.bob, stage)
        assert mine.lease_expires_at is not None
        assert timedelta(minutes=29) < mine.lease_expires_at - now < timedelta(minutes=31)


@pytest.mark.django_db(transaction=True)
def test_nothing_left_is_never_said_of_a_slot_that_somebody_has_only_locked() -> None:
    stage = world(prompts=1)
    collect_items(stage)
    locked, found = threading.Event(), []

    def look() -> None:
        try:
            found.append(claim(user=stage.bob, project=stage.project))
        finally:
            connections.close_all()

    def lock_and_let_go() -> None:
        try:
            with transaction.atomic():
                Slot.objects.select_for_update().get()
                locked.set()
                time.sleep(0.5)
                transaction.set_rollback(True)
        finally:
            connections.close_all()

    holder, looker = threading.Thread(target=lock_and_let_go), threading.Thread(target=look)
    holder.start()
    locked.wait()
    looker.start()
    for thread in (holder, looker):
        thread.join()
    assert found == [Slot.objects.get()]


def test_a_free_slot_is_refused_to_one_who_judged_the_item_in_another_slot() -> None:
    stage = world(prompts=1, overlap=2)
    collect_items(stage)
    slot = held(stage.bob, stage)
    submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=ranking(slot))
    assert claim(user=stage.bob, project=stage.project) is None
    assert held(stage.alice, stage).item == slot.item


def test_an_expired_lease_goes_to_another_rater_but_the_first_may_still_submit_before(stage: World) -> None:
    slot = held(stage.bob, stage)
    Slot.objects.filter(pk=slot.pk).update(lease_expires_at=timezone.now() - timedelta(minutes=1), priority=-1)
    assert slot in available(stage.alice.pk, stage.project.pk)
    assert submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=ranking(slot)).outcome == "accepted"


def test_the_answer_of_a_rater_whose_slot_was_taken_is_kept_as_late(stage: World) -> None:
    slot = held(stage.bob, stage)
    take_over(slot, stage.alice)
    receipt = submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=ranking(slot))
    assert receipt.outcome == "late"
    assert Submission.objects.get(rater=stage.bob).payload == ranking(slot)
    assert not Judgement.objects.exists()


def test_sending_a_submission_again_returns_its_outcome_and_stores_nothing(stage: World) -> None:
    slot, key = held(stage.bob, stage), uuid.uuid4()
    first = submit(user=stage.bob, slot=slot, uuid=key, raw=ranking(slot))
    again = submit(user=stage.bob, slot=slot, uuid=key, raw=ranking(slot))
    assert (again.outcome, again.replay, again.judgement) == ("accepted", True, first.judgement)
    assert Judgement.objects.get().revisions.count() == 1


def test_the_same_uuid_with_another_payload_is_a_conflict(stage: World) -> None:
    slot, key = held(stage.bob, stage), uuid.uuid4()
    submit(user=stage.bob, slot=slot, uuid=key, raw=ranking(slot))
    with pytest.raises(Conflict):
        submit(user=stage.bob, slot=slot, uuid=key, raw=ranking(slot, rationale="on second thoughts"))


def test_an_edit_of_an_answer_is_a_new_revision_and_a_stale_one_is_a_conflict(stage: World) -> None:
    slot = held(stage.bob, stage)
    submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=ranking(slot))
    submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=ranking(slot, rationale="better"), version=1)
    judgement = Judgement.objects.get()
    assert [r.rationale for r in judgement.revisions.order_by("number")] == ["", "better"]
    with pytest.raises(Conflict):
        submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=ranking(slot, rationale="stale"), version=1)
    assert judgement.revisions.count() == 2


def test_everything_judged_is_stored(stage: World) -> None:
    slot = held(stage.bob, stage)
    a, b, c, d = shown_order(slot)
    raw = {
        "scores": {str(a): {str(stage.criterion.pk): 5}},
        "ranks": {str(a): 1, str(b): 2, str(c): 2},
        "edits": {str(d): "A better answer."},
        "flags": {str(b): "rude"},
        "rationale": "a is clear",
        "active_ms": 4200,
    }
    submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=raw)
    revision = Judgement.objects.get().revisions.get()
    assert list(revision.scores.values_list("completion", "criterion", "value")) == [(a, stage.criterion.pk, 5)]
    assert dict(revision.ranks.values_list("completion", "group")) == {a: 1, b: 2, c: 2}
    assert revision.edits.get().edited.text == "A better answer."
    assert revision.edits.get().edited.edit_of_id == d
    assert revision.flags.get().note == "rude"
    assert (revision.active_ms, revision.order_shown) == (4200, [a, b, c, d])
    assert revision.guideline is not None
    assert revision.guideline.number == 1


def test_a_stranger_to_the_slot_is_refused(stage: World) -> None:
    slot = held(stage.bob, stage)
    with pytest.raises(Refused, match="not given to you"):
        submit(user=stage.charlie, slot=slot, uuid=uuid.uuid4(), raw=ranking(slot))


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ([], "not a JSON object"),
        ({}, "Nothing is judged"),
        ({"ranks": {"999999": 1}}, "no completion 999999.*Reload"),
        ({"stars": {"A": 5}}, "no part stars.*Reload"),
        ({"ranks": {"A": 1}, "both_bad": "yes"}, "true or false"),
        ({"ranks": {"A": 1, "B": 3}}, "gap"),
        ({"ranks": {"A": 0}}, "from 1 to 4"),
        ({"ranks": {"A": True}}, "from 1 to 4"),
        ({"scores": {"A": {"criterion": 6}}}, "from 1 to 5"),
        ({"scores": {"A": {"0": 3}}}, "no criterion 0.*Reload"),
        ({"edits": {"A": "  "}}, "must not be empty"),
        ({"edits": {"A": "same"}}, "same as the original"),
        ({"ranks": {"A": 1}, "rationale": "x" * 10_001}, "longer than"),
        ({"ranks": {"A": 1}, "rationale": "a\x00b"}, "cannot be stored"),
        ({"ranks": {"A": 1}, "active_ms": -1}, "milliseconds"),
    ],
)
def test_a_wrong_payload_is_refused_with_a_sentence_and_nothing_is_stored(
    stage: World, raw: object, sentence: str
) -> None:
    slot = held(stage.bob, stage)
    a, b, *_rest = shown_order(slot)
    names = {"A": str(a), "B": str(b), "criterion": str(stage.criterion.pk)}

    def put_in(value: object) -> object:
        if isinstance(value, dict):
            return {names.get(k, k): put_in(v) for k, v in value.items()}
        return slot.item.completions.get(pk=a).text if value == "same" else value

    with pytest.raises(Refused, match=sentence):
        submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=put_in(raw))  # type: ignore[arg-type]
    assert not Submission.objects.exists()
    assert not Judgement.objects.exists()


@pytest.mark.parametrize(
    ("protocol", "raw"),
    [
        ({"score_on": False}, {"scores": {"A": {"criterion": 3}}}),
        ({"rank_on": False}, {"ranks": {"A": 1}}),
        ({"edit_on": False}, {"edits": {"A": "Better."}}),
        ({"rationale_on": False}, {"ranks": {"A": 1}, "rationale": "because"}),
    ],
)
def test_a_page_from_before_the_protocol_changed_is_asked_to_reload(
    stage: World, protocol: dict[str, bool], raw: dict[str, object]
) -> None:
    slot = held(stage.bob, stage)
    a = str(shown_order(slot)[0])
    Project.objects.update(**protocol)
    slot = Slot.objects.get(pk=slot.pk)
    text = json.dumps(raw).replace('"A"', f'"{a}"').replace('"criterion"', f'"{stage.criterion.pk}"')
    with pytest.raises(Refused, match=r"older than the project.*Reload"):
        submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=json.loads(text))


def test_one_uuid_for_two_items_at_once_is_a_conflict(stage: World) -> None:
    first, second, key = held(stage.bob, stage), held(stage.alice, stage), uuid.uuid4()
    submit(user=stage.bob, slot=first, uuid=key, raw=ranking(first))
    with pytest.raises(Conflict, match="already sent"):
        submit(user=stage.alice, slot=second, uuid=key, raw=ranking(second))


def test_a_skip_frees_the_slot_for_others_and_bars_its_return(stage: World) -> None:
    slot = held(stage.bob, stage)
    skip(user=stage.bob, slot=slot, reason="I cannot read Chinese")
    assert slot not in available(stage.bob.pk, stage.project.pk)
    assert slot in available(stage.alice.pk, stage.project.pk)


def test_a_skip_needs_a_reason(stage: World) -> None:
    slot = held(stage.bob, stage)
    with pytest.raises(Refused, match="why you skip"):
        skip(user=stage.bob, slot=slot, reason="  ")


def test_a_lease_is_renewed_only_for_its_holder(stage: World) -> None:
    slot = held(stage.bob, stage)
    Slot.objects.filter(pk=slot.pk).update(lease_expires_at=timezone.now())
    assert not renew(user=stage.alice, slot=slot)
    assert renew(user=stage.bob, slot=slot)
    slot.refresh_from_db()
    assert slot.lease_expires_at is not None
    assert slot.lease_expires_at > timezone.now() + timedelta(minutes=29)


def test_the_order_shown_is_drawn_once_a_slot_and_is_not_the_stored_one_everywhere() -> None:
    stage = world(prompts=12)
    collect_items(stage)
    slots = list(Slot.objects.all())
    assert [shown_order(s) for s in slots] == [shown_order(s) for s in slots]
    stored = [list(s.item.entries.values_list("completion_id", flat=True)) for s in slots]
    assert [shown_order(s) for s in slots] != stored


def test_standing_says_why_there_is_nothing_to_do(stage: World) -> None:
    assert standing(user=stage.bob, project=stage.project).total == 3
    Slot.objects.update(state="leased", rater=stage.alice, lease_expires_at=timezone.now() + timedelta(minutes=5))
    assert "Others are judging" in why_none(user=stage.bob, project=stage.project)
    Slot.objects.update(state="done", lease_expires_at=None)
    assert "Every item" in why_none(user=stage.bob, project=stage.project)


def test_the_database_refuses_a_second_slot_of_the_same_rater_on_an_item() -> None:
    stage = world(prompts=1, overlap=2)
    collect_items(stage)
    with pytest.raises(IntegrityError), transaction.atomic():
        Slot.objects.update(state="done", rater=stage.bob)


def test_the_database_refuses_more_slots_than_the_overlap_numbers(stage: World) -> None:
    slot = Slot.objects.first()
    assert slot is not None
    with pytest.raises(IntegrityError), transaction.atomic():
        Slot.objects.create(project=stage.project, item=slot.item, number=0, order_seed=1)


@pytest.mark.parametrize("table", ["submission", "judgementrevision"])
def test_what_was_said_cannot_be_altered_or_deleted_in_the_database(stage: World, table: str) -> None:
    slot = held(stage.bob, stage)
    submit(user=stage.bob, slot=slot, uuid=uuid.uuid4(), raw=ranking(slot))
    for statement in (f"UPDATE annotate_{table} SET created_at = now()", f"DELETE FROM annotate_{table}"):
        with pytest.raises(IntegrityError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)


@pytest.mark.django_db(transaction=True)
def test_many_raters_at_once_collect_exactly_the_overlap() -> None:
    stage = world(prompts=6, overlap=2)
    collect_items(stage)
    raters = [user(f"rater{n}") for n in range(6)]

    def work(rater: User) -> None:
        try:
            while slot := claim(user=rater, project=stage.project):
                submit(user=rater, slot=slot, uuid=uuid.uuid4(), raw=ranking(slot))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=(rater,)) for rater in raters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Judgement.objects.count() == 12
    assert Slot.objects.exclude(state="done").count() == 0
    assert Lease.objects.count() == 12


@pytest.mark.django_db(transaction=True)
def test_the_same_submission_sent_by_many_threads_is_stored_once() -> None:
    stage = world(prompts=1)
    collect_items(stage)
    slot, key = held(stage.bob, stage), uuid.uuid4()
    outcomes: list[str] = []

    def send() -> None:
        try:
            outcomes.append(submit(user=stage.bob, slot=slot, uuid=key, raw=ranking(slot)).outcome)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=send) for _n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["accepted"] * 8
    assert Submission.objects.count() == 1
    assert Judgement.objects.get().version == 1
