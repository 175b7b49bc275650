"""The page on which a lead decides about a reward model: charts of its tables, and nothing in the way of anybody."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from annotate.services.reward_reports.report import make_report
from tests.annotate.factory import World, collect_items, world
from tests.annotate.test_reward_reports import SCORES, judge_all, trained
from tests.e2e.conftest import sign_in
from tests.e2e.test_accessibility import findings
from tests.raters import sessions

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stage(transactional_db: None) -> World:
    made = world(prompts=6, overlap=2, completions_per_item=3)
    collect_items(made, samples=3)
    judge_all(made, made.alice, scores={0: 1, 1: 3, 2: 3})
    judge_all(made, made.bob, reverse_last=True)
    trained(made, SCORES)
    make_report(reward_model=trained(made, [[value + 1 for value in row] for row in SCORES], number=2))
    return made


def test_the_tables_of_a_report_are_drawn_and_lead_on(
    page: Page, live_server, stage: World, complaints: list[str]
) -> None:
    sign_in(page, live_server.url, stage.alice)
    page.goto(f"{live_server.url}/p/garden/reward-models/2")
    # Two models, calibration before and after, and scores by author; all answers to a prompt are of one length or two.
    expect(page.locator(".plotted canvas").first).to_be_visible()
    assert page.locator("table[data-plot]").count() >= page.locator(".plotted canvas").count() >= 4
    page.get_by_role("region", name="What it gets most wrong").get_by_role("link", name="Judgement").first.click()
    expect(page.get_by_text("By bob,")).to_be_visible()
    assert complaints == []


@pytest.mark.parametrize(("colours", "language"), [("light", "zh-CN"), ("dark", "en-GB")])
def test_a_report_has_no_serious_finding(browser, live_server, stage: World, colours: Any, language: str) -> None:
    context = browser.new_context(locale=language, color_scheme=colours, viewport={"width": 390, "height": 844})
    try:
        (cookies,) = sessions([stage.alice])
        context.add_cookies([{"name": name, "value": value, "url": live_server.url} for name, value in cookies.items()])
        page = context.new_page()
        page.goto(f"{live_server.url}/p/garden/reward-models/2")
        expect(page.locator(".plotted canvas").first).to_be_visible()
        assert findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    finally:
        context.close()
