"""A lead invites somebody, who joins from another browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from annotate.models import Membership
from tests.annotate.factory import World, world
from tests.e2e.conftest import sign_in

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stage(transactional_db: None) -> World:
    return world()


def test_a_lead_invites_and_a_newcomer_joins_by_the_copied_link(
    page: Page, browser: Browser, live_server, stage: World, complaints: list[str]
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    sign_in(page, live_server.url, stage.alice)
    page.goto(f"{live_server.url}/p/garden/members/")
    page.get_by_role("button", name="Invite").click()
    page.get_by_role("dialog", name="Invite").get_by_role("button", name="Make the link").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(f"{live_server.url}/join/")

    newcomer = browser.new_context().new_page()
    newcomer.goto(link)
    newcomer.get_by_label("User name").fill("dora")
    for label in ("Password", "The password again"):
        newcomer.get_by_label(label, exact=True).fill("correct horse battery")
    newcomer.get_by_role("button", name="Make the account and join").click()
    expect(newcomer).to_have_url(f"{live_server.url}/p/garden/rate")
    assert Membership.objects.get(user__username="dora").role == "rater"

    page.goto(f"{live_server.url}/p/garden/members/")
    page.get_by_role("row", name="dora").get_by_role("button", name="Remove").click()
    dialog = page.get_by_role("dialog", name="Are you sure?")
    expect(dialog).to_contain_text("Take dora out of the project?")
    dialog.get_by_role("button", name="Yes").click()
    expect(page.get_by_role("status")).to_contain_text("dora is not in the project any more.")
    assert not Membership.objects.filter(user__username="dora").exists()
    assert complaints == []
