"""A lead starts a run in a real browser, and a real worker carries it out with a real, tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings as site_settings
from playwright.sync_api import Page, expect

from annotate.models import Generation, Item, Run
from tests.annotate.factory import World, world
from tests.e2e.conftest import sign_in
from tests.policy.conftest import make_model

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stage(transactional_db: None, settings) -> World:
    settings.HONE_ENGINE = "transformers"
    made = world(max_tokens=8)
    folder = make_model(Path(site_settings.MODELS_DIR) / "tiny")
    Generation.objects.filter(pk=made.generation.pk).update(weights_path=str(folder))
    return made


def test_a_lead_starts_a_run_and_sees_it_finish(
    page: Page, live_server, worker: None, stage: World, complaints: list[str]
) -> None:
    sign_in(page, live_server.url, stage.alice)
    page.get_by_role("link", name="Open the loop").click()
    page.get_by_role("button", name="Generate", exact=True).click()
    page.get_by_role("dialog", name="Generate completions").get_by_role("button", name="Generate", exact=True).click()
    expect(page.get_by_role("heading", name="Generate completions")).to_be_visible()
    # No reload by hand: the page follows the run.
    expect(page.locator(".run-card .pill")).to_have_text("succeeded", timeout=120_000)
    expect(page.get_by_role("link", name="12", exact=True)).to_be_visible()
    assert Run.objects.get().state == Run.State.SUCCEEDED
    assert Item.objects.count() == 3
    assert complaints == []


def test_a_run_that_fails_says_why_on_its_page(page: Page, live_server, worker: None, stage: World) -> None:
    (Path(site_settings.MODELS_DIR) / "tiny" / "model.safetensors").write_bytes(b"no weights")
    sign_in(page, live_server.url, stage.alice)
    page.goto(f"{live_server.url}/p/{stage.project.slug}/")
    page.get_by_role("button", name="Generate", exact=True).click()
    page.get_by_role("dialog", name="Generate completions").get_by_role("button", name="Generate", exact=True).click()
    expect(page.locator(".run-card .pill")).to_have_text("failed", timeout=120_000)
    expect(page.locator(".run-card").get_by_role("alert")).not_to_be_empty()
    expect(page.locator(".log pre")).not_to_be_empty()
    assert not Item.objects.exists()
