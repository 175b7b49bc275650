"""The queue as a whole: a model of it agrees with it, and the database alone holds the overlap."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from annotate.models import Judgement, Slot
from tests.annotate.factory import collect_items, user, world
from tests.annotate.queue_machine import QueueMachine

pytestmark = pytest.mark.django_db

OVERLAP = 2
WRITES = st.lists(
    st.tuples(st.sampled_from(["take", "judge", "free", "add"]), st.integers(0, 3), st.integers(0, 2)),
    min_size=1,
    max_size=12,
)


def test_whatever_raters_do_in_any_order_the_queue_and_its_model_agree() -> None:
    QueueMachine.prepare()
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(
            max_examples=30, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_no_write_whatever_makes_the_database_hold_two_judgements_of_one_rater_or_more_than_there_are_slots() -> None:
    stage = world(prompts=1, overlap=OVERLAP)
    collect_items(stage)
    raters = [stage.alice, stage.bob, user("carol")]
    slots = list(Slot.objects.order_by("pk"))
    item = slots[0].item

    def write(what: str, which: int, who: int) -> None:
        slot, rater = slots[which % len(slots)], raters[who]
        if what == "take":
            Slot.objects.filter(pk=slot.pk).update(state="done", rater=rater)
        elif what == "judge":
            Judgement.objects.create(slot=slot, item=item, rater=rater)
        elif what == "free":
            Slot.objects.filter(pk=slot.pk).update(state="free", rater=None)
        else:
            Slot.objects.create(project=stage.project, item=item, number=which % OVERLAP, order_seed=1)

    @settings(max_examples=60, deadline=None, database=None)
    @given(writes=WRITES)
    def attempt(writes: list[tuple[str, int, int]]) -> None:
        with transaction.atomic():
            for entry in writes:
                _carelessly(write, *entry)
            done = Counter(Slot.objects.filter(item=item, state="done").values_list("rater", flat=True))
            assert all(count == 1 for count in done.values())
            assert Slot.objects.filter(item=item).count() == OVERLAP
            assert Judgement.objects.filter(item=item).count() <= OVERLAP
            transaction.set_rollback(True)

    attempt()


def _carelessly(write: Any, *entry: Any) -> None:
    """Write without any check; the database may refuse."""
    try:
        with transaction.atomic():
            write(*entry)
    except IntegrityError:
        pass
