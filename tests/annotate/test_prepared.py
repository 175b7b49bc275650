"""Querysets whose SQL is made once find what the querysets find."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.models import Count
from django.test.utils import CaptureQueriesContext

from annotate.models import Criterion, Project, Slot
from annotate.prepared import Prepared
from annotate.services.projects import create_project
from tests.annotate.factory import GARDEN, collect_items, world

pytestmark = pytest.mark.django_db

criteria = Prepared(lambda project: Criterion.objects.filter(project=project).order_by("-position"))
by_slug = Prepared(
    lambda slug, least: Project.objects.annotate(lots=Count("criteria")).filter(slug=slug, lots__gte=least),
    words=("slug",),
)


def lots_of(project: Project | None) -> int | None:
    return getattr(project, "lots", None)


def test_each_call_has_its_own_values() -> None:
    stage = world()
    garden = stage.project
    orchard = create_project(description=GARDEN, slug="orchard", base_model=garden.base_model, actor=stage.alice)
    Criterion.objects.create(project=orchard, name="Brevity", anchors=["", "", "", "", ""], position=7)
    for project in (garden, orchard):
        expected = list(project.criteria.order_by("-position"))
        assert criteria(project=project.pk) == expected
        assert [c.anchors for c in criteria(project=project.pk)] == [c.anchors for c in expected]
    assert criteria(project=0) == []


def test_words_and_annotations_come_along() -> None:
    project = world().project
    found = by_slug.first(slug="garden", least=1)
    assert found == project
    assert lots_of(found) == project.criteria.count()
    assert by_slug.first(slug="garden", least=99) is None
    assert by_slug.first(slug="meadow", least=0) is None


def test_a_record_is_a_whole_one_that_can_be_saved() -> None:
    world()
    found = by_slug.first(slug="garden", least=0)
    assert found is not None
    found.name = "Kitchen garden"
    found.save(update_fields=["name"])
    assert Project.objects.get().name == "Kitchen garden"
    assert not found.get_deferred_fields()


def test_a_locking_query_locks() -> None:
    stage = world()
    collect_items(stage)
    locked = Prepared(lambda project: Slot.objects.filter(project=project).select_for_update(skip_locked=True)[:1])
    with CaptureQueriesContext(
        connection,
    ) as asked:
        assert len(locked(project=stage.project.pk)) == 1
    assert asked[-1]["sql"].endswith("LIMIT 1 FOR UPDATE SKIP LOCKED")


def test_a_parameter_that_the_query_does_not_use_is_a_mistake() -> None:
    wrong = Prepared(lambda project, user: Criterion.objects.filter(project=project))
    with pytest.raises(TypeError, match="does not depend on user"):
        wrong(project=1, user=2)
