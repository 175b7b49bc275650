"""The page of a project so large that its statistics are taken by a task: it waits, and shows them by itself."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from annotate.services import aggregates
from annotate.tasks import count
from tests.annotate.compared import Compared, compared
from tests.e2e.conftest import sign_in

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def large(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Compared:
    """Three planned prompts of two raters, all judged, where so few judgements are many."""
    made = compared(number=3, overlap=2, leads_rate=True)
    for rater in (made.stage.alice, made.stage.bob):
        for _n in range(3):
            made.judge(rater)
    monkeypatch.setattr(aggregates, "AT_ONCE", 1)
    return made


@pytest.mark.parametrize(
    ("path", "title"), [("quality/raters", "How raters agree"), ("generations/", "How generations compare")]
)
def test_the_figures_of_a_large_project_appear_by_themselves_once_they_are_taken(
    page: Page, live_server, large: Compared, path: str, title: str, complaints: list[str]
) -> None:
    sign_in(page, live_server.url, large.stage.alice)
    page.goto(f"{live_server.url}/p/garden/{path}")
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("The figures are being put together")
    expect(page.get_by_role("status")).to_contain_text("6 judgements to go through")
    count()
    expect(page.get_by_role("status")).to_have_count(0, timeout=15_000)
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    expect(page.get_by_role("table").first).to_be_visible()
    assert complaints == []
