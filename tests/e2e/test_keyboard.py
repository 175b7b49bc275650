"""Rating without a mouse."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from annotate.models import Edit, Judgement, JudgementRevision, Rank, Score
from tests.annotate.factory import collect_items, world
from tests.e2e.conftest import PASSWORD
from tests.e2e.desk import at_the_desk, press, revision, staged

pytestmark = pytest.mark.django_db(transaction=True)

ITEMS = 20
COUNT_POINTERS = """window.__pointers = 0;
for (const kind of ["pointerdown", "mousedown", "touchstart"])
  addEventListener(kind, () => window.__pointers += 1, true);
"""


def test_twenty_items_are_rated_by_keys_alone(page: Page, live_server, transactional_db: None) -> None:
    stage = world(prompts=ITEMS)
    collect_items(stage)
    stage.bob.set_password(PASSWORD)
    stage.bob.save()
    page.add_init_script(COUNT_POINTERS)
    page.goto(f"{live_server.url}/sign-in")
    page.keyboard.type(stage.bob.username)
    press(page, "Tab")
    page.keyboard.type(PASSWORD)
    press(page, "Enter")

    for number in range(ITEMS):
        expect(page.locator("[data-progress]")).to_contain_text(f"{number} by you")
        expect(page.locator("[data-missing]")).to_have_text("Open: scores 4, places 4")
        press(page, "5 4 2 3 r 1 2 4 3")
        if number == 7:
            press(page, "ArrowUp e Control+End")
            page.keyboard.type(" And more.")
            press(page, "Escape")
        expect(page.locator("[data-missing]")).to_have_text("Complete")
        press(page, "Enter")
    expect(page.get_by_text("Every item of this project is judged. Thank you!")).to_be_visible()

    assert page.evaluate("window.__pointers") == 0
    assert (Judgement.objects.count(), Score.objects.count(), Rank.objects.count()) == (ITEMS, 4 * ITEMS, 4 * ITEMS)
    for stored in JudgementRevision.objects.all():
        places = {rank.completion_id: rank.group for rank in stored.ranks.all()}
        scores = {score.completion_id: score.value for score in stored.scores.all()}
        assert [places[pk] for pk in stored.order_shown] == [1, 2, 4, 3]
        assert [scores[pk] for pk in stored.order_shown] == [5, 4, 2, 3]
    edit = Edit.objects.select_related("edited", "revision").get()
    assert edit.completion_id == edit.revision.order_shown[2]
    assert edit.edited.text.endswith(" And more.")


def test_an_answer_is_moved_through_the_places_with_the_arrows_and_can_stay_unranked(
    page: Page, live_server, transactional_db: None
) -> None:
    at_the_desk(page, live_server.url, staged(["one", "two", "three"], score_on=False))
    press(page, "r ArrowRight ArrowDown ArrowRight ArrowRight ArrowLeft ArrowDown ArrowRight ArrowLeft ArrowLeft")
    expect(page.get_by_text("Place of answer C: 1–3 or ← →")).to_be_visible()
    press(page, "Escape Enter Enter")
    expect(page.locator("[data-nothing-left]")).to_be_visible()
    a, b, _c = revision().order_shown
    assert {rank.completion_id: rank.group for rank in revision().ranks.all()} == {a: 1, b: 1}


def test_what_has_the_keys_attention_is_seen(page: Page, live_server, transactional_db: None) -> None:
    at_the_desk(page, live_server.url, staged(["one", "two"], norms=("honest",), strength_on=True))
    outlined = "(e) => [e, e.closest('.notch'), e.closest('.answer')].some(x => x && (getComputedStyle(x).outlineStyle"
    outlined += " !== 'none' || x.matches('.is-current')))"
    for _step in range(30):
        press(page, "Tab")
        focused = page.locator("main :focus")
        if focused.count():
            assert focused.evaluate(outlined), focused.evaluate("(e) => e.outerHTML.slice(0, 120)")


def test_the_list_of_keys_has_what_the_project_asks_for(page: Page, live_server, transactional_db: None) -> None:
    at_the_desk(page, live_server.url, staged(["one", "two"], norms=("honest",), strength_on=True))
    press(page, "?")
    keys = page.get_by_role("dialog", name="Keys")
    for words in ("press again for clearly and much better", "both bad", "norms of the answer", "edit the answer"):
        expect(keys).to_contain_text(words)
