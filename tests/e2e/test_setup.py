"""A lead sets a project up in a real browser and gets its first answers; a newcomer rates within a minute."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings as site_settings
from playwright.sync_api import Page, expect

from annotate.models import GuidelineReading, Item, Judgement, Membership, Project, User
from tests.annotate.factory import World, collect_items, user, world
from tests.e2e.conftest import sign_in
from tests.policy.conftest import make_model

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stage(transactional_db: None, settings) -> World:
    settings.HONE_ENGINE = "transformers"
    return world()


def test_a_lead_goes_from_nothing_to_the_first_judgement(
    page: Page, live_server, worker: None, stage: World, complaints: list[str]
) -> None:
    folder = make_model(Path(site_settings.MODELS_DIR) / "tiny")
    sign_in(page, live_server.url, stage.alice)
    page.get_by_role("link", name="New project").click()
    page.get_by_label("Name", exact=True).first.fill("Café & Kitchen")
    expect(page.get_by_label("Name in addresses")).to_have_value("cafe-kitchen")
    page.get_by_label("Answers side by side").fill("3")
    expect(page.locator("#preview-page .answer")).to_have_count(3)
    page.get_by_role("button", name="Add a criterion").click()
    page.keyboard.type("Taste")  # the new row has the focus
    row = page.locator("[data-rows=criteria] > li").last
    for value in range(1, 6):
        row.get_by_label(f"Words for {value}").first.fill(f"taste {value}")
    expect(page.locator("#preview-page")).to_contain_text("Taste")
    row.get_by_role("button", name="Move up").press("Enter")
    expect(page.locator("#preview-page .answer").first.locator(".scale-name")).to_have_text(["Taste", "Helpfulness"])
    page.get_by_text("The model", exact=True).click()
    page.get_by_label("A model of your own").check()
    page.locator("#f-base_model").fill(str(folder))
    page.get_by_label("Longest answer").fill("8")
    page.get_by_label("Prompts, one on each line").fill("How do I sharpen a knife?\nWhat is a roux?")
    page.get_by_role("button", name="Make the project").click()

    expect(page.get_by_role("heading", name="Next steps")).to_be_visible()
    page.get_by_role("button", name="Generate answers").click()
    page.get_by_role("dialog", name="Generate completions").get_by_role("button", name="Generate").click()
    expect(page.locator(".run-card .pill")).to_have_text("succeeded", timeout=120_000)
    made = Project.objects.get(slug="cafe-kitchen")
    assert Item.objects.filter(project=made).count() == 2

    page.goto(f"{live_server.url}/p/cafe-kitchen/")
    page.get_by_role("link", name="Start rating").click()
    expect(page.get_by_role("dialog", name="Welcome to Café & Kitchen")).to_be_visible()
    page.wait_for_timeout(700)
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("#desk .answer")).to_have_count(3)
    assert complaints == []


def test_nothing_typed_is_lost_when_something_is_wrong(page: Page, live_server, stage: World) -> None:
    sign_in(page, live_server.url, stage.alice)
    page.goto(f"{live_server.url}/new")
    page.get_by_label("Name", exact=True).first.fill("Kitchen")
    page.get_by_text("Who judges how much").click()
    page.get_by_label("Raters for each item").fill("none")
    page.get_by_label("Prompts, one on each line").fill("One?")
    page.get_by_role("button", name="Make the project").click()
    summary = page.get_by_role("alert")
    expect(summary).to_be_focused()
    summary.get_by_role("link", name="Raters for each item").click()
    field = page.get_by_label("Raters for each item")
    expect(field).to_have_value("none")
    expect(field).to_be_in_viewport()
    expect(page.get_by_label("Prompts, one on each line")).to_have_value("One?")
    field.fill("2")
    page.once("dialog", lambda asked: asked.dismiss())
    page.get_by_role("link", name="Cancel").click()  # the browser asks back: something is not saved
    expect(field).to_have_value("2")


def test_a_narrow_screen_shows_the_form_or_the_preview(page: Page, live_server, stage: World) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    sign_in(page, live_server.url, stage.alice)
    page.goto(f"{live_server.url}/p/garden/settings")
    expect(page.locator("#preview-page")).to_be_hidden()
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#preview-page")).to_be_visible()
    expect(page.locator("#setup-form")).to_be_hidden()


@pytest.fixture
def dora(stage: World) -> User:
    collect_items(stage)
    made = user("dora")
    Membership.objects.create(user=made, project=stage.project, role="rater")
    return made


def test_a_stranger_rates_the_first_item_with_a_few_keys(
    page: Page, live_server, stage: World, dora: User, complaints: list[str]
) -> None:
    sign_in(page, live_server.url, dora)
    dialog = page.get_by_role("dialog", name="Welcome to Garden")
    expect(dialog).to_contain_text("You see a prompt and 4 answers.")
    page.keyboard.press("Enter")  # a key that was pressed for the page before waves nothing through
    expect(dialog).to_be_visible()
    page.wait_for_timeout(700)
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    assert GuidelineReading.objects.filter(user=dora).exists()
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator("[data-progress]")).to_contain_text("1 by you; 33 % of the project")
    guideline = Judgement.objects.get(rater=dora).revisions.get().guideline
    assert guideline is not None
    assert guideline.number == 1
    assert complaints == []


def test_changed_instructions_wait_for_the_next_item_and_take_nothing_that_was_typed(
    page: Page, live_server, stage: World, dora: User
) -> None:
    page.clock.install()
    sign_in(page, live_server.url, dora)
    page.clock.run_for(1_000)
    page.get_by_role("button", name="I have read them: start").click()
    expect(page.get_by_role("dialog")).to_have_count(0)  # until then the page beneath takes no typing
    stage.project.guidelines.create(number=2, text="Prefer the answer that lasts.")
    page.get_by_label("Why, if you like").fill("Typed before the change.")
    page.clock.fast_forward(5 * 60 * 1000)
    page.locator("[data-reading-dialog]").wait_for(state="attached")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_label("Why, if you like")).to_have_value("Typed before the change.")
    page.keyboard.press("Escape")
    for key in ("3", "Enter", "Enter"):
        page.keyboard.press(key)
    dialog = page.get_by_role("dialog", name="The instructions have changed")
    expect(dialog.locator("ins")).to_have_text("lasts")
    page.clock.run_for(1_000)
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    page.keyboard.press("i")
    expect(page.get_by_role("dialog", name="Instructions")).to_contain_text("Prefer the answer that lasts.")
