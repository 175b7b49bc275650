"""The administration: every record can be listed, searched and opened; what the loop recorded cannot be changed."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import models
from django.test import Client
from django.urls import reverse

from annotate.models import Project
from tests.annotate.factory import user, world
from tests.annotate.lineage import Turn, turn

pytestmark = pytest.mark.django_db

RECORDS = list(apps.get_app_config("annotate").get_models())
WRITTEN_BY_PEOPLE = {"user", "membership", "project", "guidelineversion", "criterion", "norm", "normversion"}


@pytest.fixture
def left() -> Turn:
    return turn(world())


@pytest.fixture
def root(client: Client, left: Turn) -> Client:
    client.force_login(user("root", is_superuser=True, is_staff=True))
    return client


def address(record: type[models.Model], what: str, *key: object) -> str:
    return reverse(f"admin:annotate_{record._meta.model_name}_{what}", args=key)


@pytest.mark.parametrize("record", RECORDS)
def test_every_record_can_be_listed_and_searched(root: Client, record: type[models.Model]) -> None:
    assert admin.site.get_model_admin(record).search_fields
    assert root.get(address(record, "changelist")).status_code == 200
    assert root.get(address(record, "changelist"), {"q": "1"}).status_code == 200


@pytest.mark.parametrize("record", RECORDS)
def test_every_record_can_be_opened(root: Client, record: type[models.Model]) -> None:
    for found in record._default_manager.all()[:1]:
        assert root.get(address(record, "change", found.pk)).status_code == 200


@pytest.mark.parametrize("record", [r for r in RECORDS if r._meta.model_name not in WRITTEN_BY_PEOPLE])
def test_what_the_loop_recorded_can_be_neither_made_changed_nor_deleted(
    root: Client, record: type[models.Model]
) -> None:
    assert root.get(address(record, "add")).status_code == 403
    for found in record._default_manager.all()[:1]:
        assert root.post(address(record, "change", found.pk), {}).status_code == 403
        assert root.post(address(record, "delete", found.pk), {"post": "yes"}).status_code == 403
        assert record._default_manager.filter(pk=found.pk).exists()


@pytest.mark.parametrize("record", RECORDS)
def test_a_list_takes_a_bounded_number_of_queries(
    root: Client, record: type[models.Model], django_assert_max_num_queries: object
) -> None:
    with django_assert_max_num_queries(16):  # type: ignore[operator]
        root.get(address(record, "changelist"))


def test_a_list_links_to_the_site_s_own_page(root: Client, left: Turn) -> None:
    html = root.get(address(Project, "changelist")).content.decode()
    assert f'href="{reverse("project", args=[left.stage.project.slug])}"' in html


def test_a_rater_does_not_reach_the_administration(client: Client, left: Turn) -> None:
    client.force_login(left.stage.bob)
    assert client.get(reverse("admin:index")).status_code == 302
