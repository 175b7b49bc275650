"""Two leads who save at the same moment: real transactions, one after the other."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.models import F

from annotate.models import AuditEvent, Project
from annotate.services.changing import ChangedMeanwhile, change_project, parts_of, stamps
from annotate.services.description import ProjectDescription, describe
from tests.annotate.factory import World, world

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stage(transactional_db: None) -> World:
    return world()


def change(stage: World, seen: dict[str, str], **changes: Any) -> list[str]:
    project = Project.objects.get(pk=stage.project.pk)
    return change_project(
        project=project,
        description=ProjectDescription.model_validate(describe(stage.project) | changes),
        base_model=stage.project.base_model,
        criteria=[stage.criterion.pk],
        norms=[],
        must_read=True,
        seen=seen,
        actor=stage.alice,
    )


def test_of_two_leads_who_save_at_once_one_is_stored_and_the_other_is_told(stage: World) -> None:
    seen = stamps(parts_of(stage.project))
    gate = threading.Barrier(2)
    outcomes: list[str] = []

    def save(overlap: int) -> None:
        try:
            gate.wait(10)
            change(stage, seen, overlap=overlap)
            outcomes.append(f"stored {overlap}")
        except ChangedMeanwhile as conflict:
            outcomes.append(f"told of {conflict.parts} {conflict.mine}")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=save, args=(overlap,)) for overlap in (3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    stored = Project.objects.get().overlap
    assert sorted(outcomes) == [f"stored {stored}", "told of ['overlap'] ['overlap']"]
    assert stored in (3, 5)
    assert AuditEvent.objects.filter(action="changed").count() == 1


def test_a_save_waits_for_another_that_is_under_way_and_then_sees_it(stage: World) -> None:
    seen = stamps(parts_of(stage.project))
    outcome: list[BaseException] = []

    def save() -> None:
        try:
            change(stage, seen, quota=7)
        except ChangedMeanwhile as conflict:
            outcome.append(conflict)
        finally:
            connections.close_all()

    with transaction.atomic():
        Project.objects.select_for_update().get()
        thread = threading.Thread(target=save)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        Project.objects.update(overlap=F("overlap") + 1)
    thread.join(30)
    assert [conflict.parts for conflict in outcome] == [["overlap"]]  # type: ignore[attr-defined]
    assert Project.objects.get().quota is None


def test_who_makes_the_same_change_as_another_is_not_bothered(stage: World) -> None:
    seen = stamps(parts_of(stage.project))
    assert change(stage, seen, overlap=3) == ["overlap"]
    assert change(stage, seen, overlap=3) == []


def test_instructions_of_two_leads_never_get_one_number(stage: World) -> None:
    seen = stamps(parts_of(stage.project))
    outcomes: list[str] = []

    def save(text: str) -> None:
        try:
            change(stage, seen, instructions=text)
            outcomes.append(text)
        except ChangedMeanwhile:
            pass
        finally:
            connections.close_all()

    threads = [threading.Thread(target=save, args=(text,)) for text in ("One.", "Two.", "Three.")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    texts = list(stage.project.guidelines.order_by("number").values_list("text", flat=True))
    assert texts == ["Prefer the answer that helps.", *outcomes]
    assert len(outcomes) == 1
