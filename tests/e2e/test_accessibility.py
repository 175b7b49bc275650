"""axe-core over every page, in both colours and languages: nothing serious for people who see or move otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Page, expect

from tests.annotate.access_table import TABLE, Stage
from tests.annotate.factory import world
from tests.annotate.lineage import turn
from tests.e2e.test_pages import PIECES, SENT_ON
from tests.raters import sessions

pytestmark = pytest.mark.django_db(transaction=True)

AXE = Path(settings.BASE_DIR) / "node_modules" / "axe-core" / "axe.min.js"
GRAVE = {"serious", "critical"}


def findings(page: Page) -> list[dict[str, Any]]:
    """What axe-core finds serious or critical on the page that is open, with the places."""
    page.evaluate(AXE.read_text())
    result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        {"rule": found["id"], "places": [node["target"] for node in found["nodes"]][:3]}
        for found in result["violations"]
        if found["impact"] in GRAVE
    ]


@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_no_page_has_a_serious_finding(browser, live_server, colours: Any, language: str) -> None:
    left = turn(world())
    context = browser.new_context(locale=language, color_scheme=colours, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    try:
        page.goto(f"{live_server.url}/sign-in")
        found = {"login": findings(page)}
        (cookies,) = sessions([left.stage.alice])
        context.add_cookies([{"name": name, "value": value, "url": live_server.url} for name, value in cookies.items()])
        stage = Stage(left)
        names = [name for name, method in TABLE if method == "GET" and name not in PIECES | SENT_ON]
        for name in [name for name in names if not name.startswith("admin:")]:
            page.goto(live_server.url + stage.address(name))
            expect(page.locator("main")).to_be_visible()
            found[name] = findings(page)
    finally:
        context.close()
    assert len(found) > 15
    assert {name: grave for name, grave in found.items() if grave} == {}


def test_a_page_with_a_fault_is_found_out(page: Page, live_server) -> None:
    page.goto(f"{live_server.url}/sign-in")
    page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    assert [found["rule"] for found in findings(page)] == ["button-name"]
