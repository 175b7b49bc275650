"""What a model wrote, in the browser: drawn where it is mathematics or code, and never more than text."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from annotate.models import Completion
from tests.e2e.desk import at_the_desk, staged
from tests.hostile import FORMULAS

pytestmark = pytest.mark.django_db(transaction=True)

WATCH = "window.__ran = 0; window.canary = () => { window.__ran += 1; };"
ACTIVE = """() => [...document.querySelectorAll(".prose *")].filter((e) =>
  e.matches("img, svg, script, style, iframe, form, mglyph, annotation-xml, a[href^='java' i]")
  || e.closest("math") && e.namespaceURI !== "http://www.w3.org/1998/Math/MathML"
  || [...e.attributes].some(({ name }) => /^(on|style$|id$)/.test(name))).map((e) => e.outerHTML)"""
COLUMN = "(e) => getComputedStyle(e).direction"


def test_hostile_formulas_and_code_come_to_nothing(
    page: Page, live_server, transactional_db: None, complaints: list[str]
) -> None:
    page.add_init_script(WATCH)
    asked: list[str] = []
    page.on("request", lambda request: None if request.url.startswith(live_server.url) else asked.append(request.url))
    half = len(FORMULAS) // 2
    for number, texts in enumerate((FORMULAS[:half], FORMULAS[half:])):
        if number == 0:
            at_the_desk(page, live_server.url, staged(texts))
        else:
            for sample, text in enumerate(texts):
                Completion.objects.filter(sample=sample).update(text=text)
            page.reload()
        expect(page.locator("article.is-current")).to_be_visible()
        page.wait_for_timeout(100)
        assert page.evaluate(ACTIVE) == []
        assert page.evaluate("window.__ran") == 0
    assert asked == complaints == []


def test_a_formula_is_drawn_and_a_price_is_not(page: Page, live_server, transactional_db: None) -> None:
    at_the_desk(page, live_server.url, staged([r"So $\frac{a}{b}$.", "It costs $5 and $10."]))
    fraction = page.locator("math mfrac").bounding_box()
    letter = page.locator("math mfrac mi").first.bounding_box()
    assert fraction is not None
    assert letter is not None
    assert fraction["height"] > 1.5 * letter["height"]
    expect(page.get_by_role("paragraph").filter(has_text="It costs $5 and $10.")).to_be_visible()


def test_lists_of_two_directions_have_their_marks_on_their_own_sides(
    page: Page, live_server, transactional_db: None
) -> None:
    at_the_desk(page, live_server.url, staged(["- مرحبا بالعالم\n- Hello", "| اسم | b |\n| - | - |\n| ا | ب |"]))
    items = page.locator("li")
    assert [items.nth(n).evaluate(COLUMN) for n in range(2)] == ["rtl", "ltr"]
    assert [items.nth(n).evaluate("(e) => getComputedStyle(e).marginRight !== '0px'") for n in range(2)] == [
        True,
        False,
    ]
    first, second = page.locator("th").nth(0).bounding_box(), page.locator("th").nth(1).bounding_box()
    assert first is not None
    assert second is not None
    assert first["x"] > second["x"]  # the table begins on the right


def test_a_wide_table_scrolls_in_its_own_box_and_is_reached_by_keys(
    page: Page, live_server, transactional_db: None
) -> None:
    wide = "|" + " a rather long heading |" * 12 + "\n|" + " - |" * 12 + "\n|" + " x |" * 12
    at_the_desk(page, live_server.url, staged([wide, "two"]))
    box = page.locator(".wide")
    assert box.evaluate("(e) => e.scrollWidth > e.clientWidth")
    box.focus()
    page.keyboard.press("End")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    expect(box).to_be_focused()
