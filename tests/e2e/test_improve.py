"""The page *Improve policy*, as a lead fills it in: fields of the chosen method, an estimate that follows, a run."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from annotate.models import Run
from annotate.services import estimates
from tests.annotate.factory import World, world
from tests.annotate.lineage import judge, turn
from tests.e2e.conftest import sign_in
from tests.e2e.test_accessibility import findings
from tests.e2e.test_pages import overflow
from tests.raters import sessions

pytestmark = pytest.mark.django_db(transaction=True)

METHODS = ("PPO", "RLOO", "GRPO", "Best-of-n", "SFT", "DPO")


@pytest.fixture
def stage(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> World:
    """3 prompts of each split, all judged, a reward model, and no GPU, of which nothing could be estimated."""
    monkeypatch.setattr(estimates, "GPUS", "no such device")
    made = world(prompts=9, max_tokens=12)
    turn(made)
    for _item in range(9 + 3 - 1):
        judge(made)
    return made


def test_a_lead_chooses_a_method_reads_how_long_it_takes_and_starts_it(
    page: Page, live_server, stage: World, complaints: list[str]
) -> None:
    sign_in(page, live_server.url, stage.alice)
    page.goto(f"{live_server.url}/p/{stage.project.slug}/")
    page.locator("#loop-improve").click()
    expect(page.get_by_role("heading", name="Improve the policy")).to_be_visible()
    expect(page.locator('[name="method"][value="ppo"]')).to_be_checked()
    estimate = page.locator("#estimate")
    samples, n, snapshot = (
        page.get_by_label(name, exact=True) for name in ("Answers to draw", "Answers a prompt (n)", "Snapshot")
    )
    expect(samples).to_be_visible()
    expect(n).to_be_hidden()
    expect(snapshot).to_be_hidden()
    expect(estimate).to_contain_text("120 answers are drawn and scored. 12 of them only measure the result.")

    samples.fill("600")
    expect(estimate).to_contain_text("612 answers are drawn and scored.")
    expect(estimate).to_contain_text("about")

    page.locator('[name="method"][value="bestofn"]').check()
    expect(n).to_be_visible()
    expect(samples).to_be_hidden()
    expect(estimate).to_contain_text("24 answers are drawn and scored.")
    n.fill("8")
    expect(estimate).to_contain_text("48 answers are drawn and scored.")
    n.fill("1")
    expect(estimate).to_contain_text("Answers a prompt (n) must be a number from 2 to 256.")

    page.locator('[name="method"][value="dpo"]').check()
    expect(snapshot).to_be_visible()
    expect(n).to_be_hidden()
    expect(page.get_by_label("Reward model", exact=True)).to_be_hidden()
    expect(estimate).to_contain_text("6 rows are gone over")

    page.locator('[name="method"][value="ppo"]').check()
    samples.fill("24")
    expect(estimate).to_contain_text("36 answers are drawn and scored.")
    # The 1 still stands in a field that is hidden now, where the browser would refuse to send it without a word.
    page.get_by_role("button", name="Improve policy").click()
    expect(page.locator(".run-card .pill")).to_have_text("queued")
    made = Run.objects.latest("created_at")
    assert (made.kind, made.state, made.selection["method"], made.job["updates"]) == ("improve", "queued", "ppo", 2)
    assert complaints == []


@pytest.mark.parametrize(("colours", "language"), [("light", "zh-CN"), ("dark", "en-GB")])
def test_on_a_phone_the_fields_of_every_method_fit_and_have_no_serious_finding(
    browser, live_server, stage: World, colours: Any, language: str
) -> None:
    context = browser.new_context(locale=language, color_scheme=colours, viewport={"width": 360, "height": 780})
    try:
        (cookies,) = sessions([stage.alice])
        context.add_cookies([{"name": name, "value": value, "url": live_server.url} for name, value in cookies.items()])
        page = context.new_page()
        page.goto(f"{live_server.url}/p/{stage.project.slug}/improve")
        page.locator("details.fold summary").click()
        found = {}
        for method in METHODS:
            page.get_by_role("radio", name=method).first.check()
            assert overflow(page) <= 0, method
            found[method] = findings(page)
        assert {name: grave for name, grave in found.items() if grave} == {}
        if language == "zh-CN":
            page.get_by_role("radio", name="PPO").first.check()
            page.get_by_label("要抽取的回答数").fill("600")
            expect(page.locator("#estimate")).to_contain_text("将抽取 612 个回答并打分。")
            expect(page.locator("#estimate .estimate-time")).to_contain_text("约")
    finally:
        context.close()
