"""Every page in a real browser: nothing blocked, nothing broken, nothing wider than the window."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from annotate.models import Generation
from tests.annotate.access_table import TABLE, Stage
from tests.annotate.compared import compared
from tests.annotate.factory import world
from tests.annotate.lineage import Turn, turn
from tests.e2e.conftest import sign_in

pytestmark = pytest.mark.django_db(transaction=True)

PIECES = {
    *("next_item", "item_ahead", "last_answer", "reading", "feedback", "change", "run_live", "run_series", "loop"),
    *("export", "import_live", "background_task_live", "snapshot_card", "archive_file", "run_scores", "gate_live"),
    "evaluation_terms",
}
SENT_ON = {"login", "admin_sign_in", "admin_password"}


@pytest.fixture
def left(transactional_db: None) -> Turn:
    return turn(world())


def overflow(page: Page) -> int:
    """CSS pixels by which the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_every_page_fits_the_window_and_breaks_no_rule_of_the_browser(
    page: Page, live_server, left: Turn, complaints: list[str], width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    sign_in(page, live_server.url, left.stage.alice)
    stage = Stage(left)
    for name in [name for name, method in TABLE if method == "GET" and name not in PIECES | SENT_ON]:
        page.goto(live_server.url + stage.address(name))
        expect(page.locator("main")).to_be_visible()
        assert overflow(page) <= 0, name
    assert complaints == []


def test_the_gate_draws_its_sequence_of_looks(page: Page, live_server, transactional_db, complaints: list[str]) -> None:
    made = compared(number=4)
    for outcome in (1.0, 0.5, 1.0, 1.0):
        made.judge(made.stage.bob, outcome)
    sign_in(page, live_server.url, made.stage.alice)
    page.set_viewport_size({"width": 360, "height": 900})
    page.goto(f"{live_server.url}/p/garden/generations/1/gate")
    chart = page.locator("[data-sequence] canvas")
    expect(chart).to_be_visible()
    drawn = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"
    assert chart.evaluate(drawn)
    assert overflow(page) <= 0
    page.set_viewport_size({"width": 1440, "height": 900})
    expect(page.locator("#verdict")).to_contain_text("87.5% of 4 test prompts")
    page.wait_for_function("document.querySelector('[data-sequence] canvas').getBoundingClientRect().width > 400")
    assert complaints == []


def test_the_form_that_evaluates_says_what_can_be_stated_of_the_chosen_generation(
    page: Page, live_server, transactional_db, complaints: list[str]
) -> None:
    made = compared(number=3)
    made.judge(made.stage.bob)
    fields = {"parent": made.newer, "weights_path": made.newer.weights_path}
    Generation.objects.create(project=made.stage.project, number=2, **fields)
    sign_in(page, live_server.url, made.stage.alice)
    page.goto(f"{live_server.url}/p/garden/")
    page.locator("#loop-evaluate").click()
    dialog = page.get_by_role("dialog", name="Evaluate a generation")
    expect(dialog.get_by_label("Test prompts to compare")).to_be_visible()
    dialog.get_by_label("Generation").select_option("1")
    expect(dialog.get_by_label("More test prompts to draw")).to_be_visible()
    expect(dialog).to_contain_text("Raters, as stated: bob")
    assert complaints == []


def test_the_choice_of_colours_is_kept(page: Page, live_server, left: Turn) -> None:
    page.goto(f"{live_server.url}/sign-in")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    toggle = page.locator("[data-theme-toggle]")
    toggle.click()
    toggle.click()
    page.reload()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


def test_the_language_is_switched_from_the_bar(page: Page, live_server, left: Turn) -> None:
    page.goto(f"{live_server.url}/sign-in")
    page.get_by_label("Language").click()
    page.get_by_role("button", name="简体中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")


def test_promoting_asks_back_first(page: Page, live_server, left: Turn) -> None:
    sign_in(page, live_server.url, left.stage.alice)
    page.goto(f"{live_server.url}/p/{left.stage.project.slug}/")
    page.get_by_role("button", name="Promote").click()
    dialog = page.get_by_role("dialog", name="Are you sure?")
    expect(dialog).to_contain_text("Serve generation 1 from now on?")
    dialog.get_by_role("button", name="Yes").click()
    expect(page.get_by_role("status")).to_contain_text("Generation 1 is served from now on.")
    left.generation.refresh_from_db()
    assert left.generation.state == "promoted"
