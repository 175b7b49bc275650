"""A lead has a large project frozen and written by a real worker, and sees in a real browser how far it is."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from annotate.models import BackgroundTask, Snapshot
from annotate.services import snapshots
from tests.annotate.factory import World, collect_items, world
from tests.annotate.test_rows import ids_of, judge, pair, ranks
from tests.e2e.conftest import sign_in

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stage(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> World:
    made = world()
    collect_items(made)
    judge(made, ranks(ids_of(made), 1, 2, 3, 4))
    pair(made, "helpsteer")
    monkeypatch.setattr(snapshots, "AT_ONCE", 0)  # everything is large
    return made


def test_a_large_snapshot_is_frozen_and_a_form_of_it_written_while_the_page_follows(
    page: Page, live_server, worker: None, stage: World, complaints: list[str]
) -> None:
    sign_in(page, live_server.url, stage.alice)
    page.goto(f"{live_server.url}/p/garden/")
    page.get_by_role("button", name="Take a snapshot").click()
    # No reload by hand: the page follows the task to what came of it.
    expect(page.get_by_role("heading", name="Snapshot v1", exact=True)).to_be_visible(timeout=60_000)
    assert Snapshot.objects.get().counts["pairs_train"] == 7
    page.get_by_role("link", name="rankings, train, parquet").click()
    expect(page.get_by_role("heading", name="Writing files")).to_be_visible()
    with page.expect_download(timeout=60_000) as download:
        page.get_by_role("link", name="train.parquet").click()
    assert download.value.suggested_filename.endswith("-rankings-train.parquet")
    assert set(BackgroundTask.objects.values_list("state", flat=True)) == {"done"}
    assert complaints == []
