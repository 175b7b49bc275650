"""A rater at work in a real browser."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from playwright.sync_api import Browser, BrowserContext, Page, expect

from annotate.models import Judgement, Skip, Slot, Submission, User
from annotate.services.claiming import claim, shown_order, skip
from tests.annotate.factory import World, collect_items, user, world
from tests.e2e.conftest import sign_in
from tests.e2e.desk import press, revision
from tests.raters import sessions
from tests.site import free_port, start_web

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stage(transactional_db: None) -> World:
    made = world()
    collect_items(made)
    return made


@pytest.fixture
def desk(page: Page, live_server, stage: World, complaints: list[str]) -> Page:
    """Bob's rating page with its first item."""
    sign_in(page, live_server.url, stage.bob)
    expect(page.locator("article.is-current")).to_have_attribute("data-answer", "A")
    return page


def wait_for_answers(page: Page, count: int) -> None:
    expect(page.locator("[data-progress]")).to_contain_text(f"{count} by you")
    expect(page.locator("[data-item], [data-nothing-left]")).to_have_count(1)


@contextmanager
def own_web_server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A web server in a process of its own, on the test's database."""
    database = connection.settings_dict
    address = f"postgresql://{database['USER']}@/{database['NAME']}?host={quote(database['HOST'], safe='')}"
    # With DEBUG it serves static files as they lie in the tree.
    variables = {"DATABASE_URL": address, "DJANGO_SETTINGS_MODULE": "annotate.settings", "DEBUG": "1"}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)
        server = start_web(folder, port)
    try:
        yield server
    finally:
        server.kill()
        server.wait()


def test_a_rater_signs_in_scores_ranks_edits_and_submits(desk: Page, stage: World, complaints: list[str]) -> None:
    desk.locator('[data-answer="B"]').get_by_label("5: word 5").check()
    desk.get_by_label("Place of answer A").select_option("2")
    desk.drag_and_drop('[data-chip="B"]', '[data-zone="1"]')
    expect(desk.get_by_label("Place of answer B")).to_have_value("1")
    desk.get_by_label("Edit answer C").click()
    desk.locator('[name="edit-C"]').fill("A better wording.")
    desk.get_by_label("Flag answer D").click()
    desk.get_by_label("What is wrong with it").last.fill("invented")
    desk.get_by_label("Why, if you like").fill("B is clear.")
    desk.get_by_role("button", name="Submit").click()
    expect(desk.get_by_text("Still open: scores 3, places 2.")).to_be_visible()
    desk.get_by_role("button", name="Submit").click()
    wait_for_answers(desk, 1)

    stored = revision()
    a, b, c, d = stored.order_shown
    assert {score.completion_id: score.value for score in stored.scores.all()} == {b: 5}
    assert {rank.completion_id: rank.group for rank in stored.ranks.all()} == {b: 1, a: 2}
    edit = stored.edits.get()
    assert (edit.completion_id, edit.edited.text) == (c, "A better wording.")
    assert (stored.flags.get().completion_id, stored.flags.get().note) == (d, "invented")
    assert stored.rationale == "B is clear."
    assert stored.active_ms > 0
    assert complaints == []


def test_an_item_is_judged_by_keys_alone(desk: Page, stage: World) -> None:
    press(desk, "4 3 5 1")  # one criterion: each digit moves on to the next answer
    press(desk, "ArrowUp ArrowUp ArrowUp r 2 3 1 3")
    expect(desk.locator("[data-missing]")).to_have_text("Complete")
    press(desk, "e Control+End")
    desk.keyboard.type(" And more.")
    press(desk, "Escape Enter")
    wait_for_answers(desk, 1)
    stored = revision()
    a, b, c, d = stored.order_shown
    assert {score.completion_id: score.value for score in stored.scores.all()} == {a: 4, b: 3, c: 5, d: 1}
    assert {rank.completion_id: rank.group for rank in stored.ranks.all()} == {a: 2, b: 3, c: 1, d: 3}
    assert stored.edits.get().edited.text.endswith(" And more.")


def test_a_draft_survives_a_reload(desk: Page, stage: World) -> None:
    press(desk, "4 3")
    desk.get_by_label("Why, if you like").fill("Not finished")
    expect(desk.locator("[data-saved]")).to_have_text("Draft kept in this browser")
    desk.reload()
    expect(desk.get_by_label("Why, if you like")).to_have_value("Not finished")
    expect(desk.locator("[data-missing]")).to_have_text("Open: scores 2, places 4")


def test_a_draft_goes_on_in_another_browser_and_neither_overwrites_the_other_unseen(
    desk: Page, browser: Browser, browser_context_args: dict[str, Any], stage: World
) -> None:
    desk.get_by_label("Why, if you like").fill("Begun here")
    expect(desk.locator("[data-saved]")).to_have_text("Draft saved")
    other_machine = browser.new_context(**browser_context_args)
    other_machine.add_cookies(desk.context.cookies())  # type: ignore[arg-type]  # what one gives, the other takes
    elsewhere = other_machine.new_page()
    elsewhere.goto(desk.url)
    expect(elsewhere.get_by_label("Why, if you like")).to_have_value("Begun here")
    elsewhere.get_by_label("Why, if you like").fill("Begun here, ended there")
    expect(elsewhere.locator("[data-saved]")).to_have_text("Draft saved")

    desk.get_by_label("Why, if you like").fill("Begun here, ended here")
    expect(desk.get_by_text("This item was also worked on in another browser.")).to_be_visible()
    expect(desk.locator("[data-conflict-stored]")).to_contain_text("Begun here, ended there")
    desk.get_by_role("button", name="Go on with that").click()
    expect(desk.get_by_label("Why, if you like")).to_have_value("Begun here, ended there")
    other_machine.close()


def test_of_two_tabs_on_one_item_the_newer_draft_wins_and_the_other_tab_is_told(
    desk: Page, context: BrowserContext, stage: World
) -> None:
    desk.get_by_label("Why, if you like").fill("First tab")
    expect(desk.locator("[data-saved]")).to_have_text("Draft kept in this browser")
    second = context.new_page()
    second.goto(desk.url)
    expect(second.get_by_label("Why, if you like")).to_have_value("First tab")
    second.get_by_label("Why, if you like").fill("Second tab")
    expect(desk.get_by_label("Why, if you like")).to_have_value("Second tab")
    expect(desk.locator("[data-saved]")).to_have_text("Another tab went on with this item: this is the newer draft.")
    press(second, "Escape r 1 2 3 4 Enter Enter")
    wait_for_answers(second, 1)
    desk.get_by_role("button", name="Submit").click()
    desk.get_by_role("button", name="Submit").click()
    expect(desk.get_by_text("Nothing is judged yet").or_(desk.locator("[data-conflict-stored]")).first).to_be_visible()
    assert Judgement.objects.get().version == 1


def test_an_answer_sent_without_a_network_arrives_once_when_it_is_back(
    desk: Page, context: BrowserContext, stage: World
) -> None:
    press(desk, "5 4 3 1 ArrowUp ArrowUp ArrowUp r 1 2 3 4")
    context.set_offline(True)
    press(desk, "Enter")
    expect(desk.locator("[data-saved]")).to_contain_text("No connection")
    context.set_offline(False)
    wait_for_answers(desk, 1)
    assert Submission.objects.count() == 1


def test_an_answer_whose_receipt_was_lost_is_stored_once(desk: Page, stage: World) -> None:
    lost: list[int] = []

    def lose_the_first(route) -> None:
        if lost:
            route.continue_()
        else:
            lost.append(route.fetch().status)
            route.abort()

    desk.route("**/submit", lose_the_first)
    press(desk, "5 4 3 1 ArrowUp ArrowUp ArrowUp r 1 2 3 4 Enter")
    wait_for_answers(desk, 1)
    assert lost == [200]
    assert Submission.objects.count() == Judgement.objects.count() == 1


def test_being_signed_out_loses_nothing(desk: Page, context: BrowserContext, live_server, stage: World) -> None:
    press(desk, "5 4 3 1 ArrowUp ArrowUp ArrowUp r 1 2 3 4")
    context.clear_cookies()
    press(desk, "Enter")
    expect(desk.get_by_text("You were signed out.").first).to_be_visible()
    other_tab = context.new_page()
    sign_in(other_tab, live_server.url, stage.bob)
    press(desk, "Enter")
    wait_for_answers(desk, 1)


def test_the_session_ends_while_typing_and_nothing_typed_is_lost(
    desk: Page, context: BrowserContext, live_server, stage: World
) -> None:
    press(desk, "5 4 3 1 ArrowUp ArrowUp ArrowUp r 1 2 3 4")
    context.clear_cookies()
    desk.get_by_label("Why, if you like").fill("Typed after the session had ended")
    expect(desk.get_by_text("your draft is in this browser").first).to_be_visible()
    sign_in(desk, live_server.url, stage.bob)
    expect(desk.get_by_label("Why, if you like")).to_have_value("Typed after the session had ended")
    press(desk, "Enter")
    wait_for_answers(desk, 1)
    assert revision().rationale == "Typed after the session had ended"


def test_the_web_server_dies_and_comes_back_and_the_page_goes_on_by_itself(
    page: Page, transactional_db: None, tmp_path: Path
) -> None:
    stage = world()
    collect_items(stage)
    port = free_port()
    with own_web_server(tmp_path, port) as server:
        (cookies,) = sessions([stage.bob])
        page.context.add_cookies(
            [{"name": n, "value": v, "domain": "127.0.0.1", "path": "/"} for n, v in cookies.items()]
        )
        page.goto(f"http://127.0.0.1:{port}/p/garden/rate")
        expect(page.locator("article.is-current")).to_be_visible()
        press(page, "5 4 3 1 ArrowUp ArrowUp ArrowUp r 1 2 3 4")
        page.get_by_label("Why, if you like").fill("Sent to nobody at first")
        press(page, "Escape")
        server.kill()
        server.wait()
        press(page, "Enter")
        expect(page.locator("[data-saved]")).to_contain_text("No connection")
    with own_web_server(tmp_path, port):
        wait_for_answers(page, 1)
        assert revision().rationale == "Sent to nobody at first"
        assert Submission.objects.count() == 1


def test_moving_on_fetches_nothing_because_the_next_item_is_there_already(desk: Page, stage: World) -> None:
    fetched: list[str] = []
    desk.on("request", lambda request: fetched.append(request.url.rsplit("/", 1)[1]))
    desk.wait_for_load_state("networkidle")
    press(desk, "1 1 1 1 ArrowUp ArrowUp ArrowUp r 1 2 3 4 Enter")
    wait_for_answers(desk, 1)
    expect(desk.locator("[data-missing]")).to_have_text("Open: scores 4, places 4")
    assert "next" not in fetched
    assert fetched[0] == "submit"


def test_an_item_that_others_give_back_appears_by_itself(page: Page, live_server, stage: World) -> None:
    taken = [claim(user=user(name), project=stage.project) for name in ("carol", "dora", "erin")]
    page.clock.install()
    sign_in(page, live_server.url, stage.bob)
    expect(page.get_by_text("Others are judging what is left.")).to_be_visible()
    assert taken[0] is not None
    skip(user=User.objects.get(username="carol"), slot=taken[0], reason="unsure")
    page.clock.fast_forward(21_000)
    expect(page.locator("article.is-current")).to_have_attribute("data-answer", "A")


def test_an_empty_answer_is_refused_in_a_sentence(desk: Page, stage: World) -> None:
    press(desk, "Enter")
    expect(desk.locator('.send [data-problem=""]')).to_contain_text("Nothing is judged yet")
    assert not Submission.objects.exists()


def test_ranks_with_a_gap_are_pointed_out_before_sending(desk: Page, stage: World) -> None:
    press(desk, "r 1 3 Escape Enter")
    expect(desk.locator('.send [data-problem=""]')).to_contain_text("No answer has place 2")
    assert not Submission.objects.exists()


def test_the_last_answer_is_reopened_and_becomes_a_new_version(desk: Page, stage: World) -> None:
    press(desk, "1 1 1 1 ArrowUp ArrowUp ArrowUp r 1 2 3 4 Enter")
    wait_for_answers(desk, 1)
    press(desk, "u")
    expect(desk.locator("[data-missing]")).to_have_text("Complete")
    press(desk, "5 Enter")
    expect(desk.locator("[data-missing]")).to_have_text("Open: scores 4, places 4")
    assert Judgement.objects.get().version == 2
    assert revision().scores.get(completion_id=revision().order_shown[0]).value == 5


def test_a_version_from_another_tab_is_shown_beside_one_s_own(
    desk: Page, context: BrowserContext, live_server, stage: World
) -> None:
    press(desk, "1 1 1 1 ArrowUp ArrowUp ArrowUp r 1 2 3 4 Enter")
    wait_for_answers(desk, 1)
    press(desk, "u")
    expect(desk.locator("[data-missing]")).to_have_text("Complete")
    other_tab = context.new_page()
    other_tab.goto(desk.url)
    expect(other_tab.locator("article.is-current")).to_be_visible()
    press(other_tab, "u")
    expect(other_tab.locator("[data-missing]")).to_have_text("Complete")
    press(other_tab, "5 Enter")
    expect(other_tab.locator("[data-missing]")).not_to_have_text("Complete")
    desk.wait_for_timeout(1500)
    press(desk, "3 Enter")
    expect(desk.locator("[data-conflict-stored]")).to_contain_text("A: #1, Helpfulness 5")
    desk.get_by_role("button", name="Send mine as the newer version").click()
    expect(desk.locator("[data-missing]")).not_to_have_text("Complete")
    assert Judgement.objects.get().version == 3
    assert revision().scores.get(completion_id=revision().order_shown[0]).value == 3
    assert revision().active_ms < 1500  # what went by before may be in the other version


def test_skipping_takes_a_reason_and_brings_the_next_item(desk: Page, stage: World) -> None:
    press(desk, "s")
    skip = desk.get_by_role("dialog", name="Skip this item")
    skip.get_by_role("button", name="Skip", exact=True).click()
    expect(skip.get_by_role("alert")).to_have_text("Choose why you skip this item.")
    skip.get_by_label("I cannot tell what is right").check()
    skipped = desk.locator(".prompt").inner_text()
    skip.get_by_role("button", name="Skip", exact=True).click()
    expect(skip).to_be_hidden()
    expect(desk.locator(".prompt")).not_to_have_text(skipped)
    assert Skip.objects.get().reason == "unsure"
    assert Skip.objects.get().slot not in Slot.objects.filter(rater=stage.bob)


def test_when_all_is_judged_the_page_says_why_there_is_nothing(desk: Page, stage: World) -> None:
    for count in (1, 2, 3):
        press(desk, "1 1 1 1 ArrowUp ArrowUp ArrowUp r 1 2 3 4 Enter")
        wait_for_answers(desk, count)
        if count < 3:
            expect(desk.locator("[data-missing]")).to_have_text("Open: scores 4, places 4")
    expect(desk.get_by_text("Every item of this project is judged. Thank you!")).to_be_visible()


def test_the_order_on_the_page_is_the_order_of_the_slot(desk: Page, stage: World) -> None:
    slot = Slot.objects.get(rater=stage.bob, ahead=False)
    texts = {c.pk: c.text for c in slot.item.completions.all()}
    assert desk.locator("[data-original]").all_inner_texts() == [texts[pk] for pk in shown_order(slot)]


def test_the_keys_and_the_instructions_are_one_key_away(desk: Page, stage: World) -> None:
    press(desk, "?")
    expect(desk.get_by_role("dialog", name="Keys")).to_be_visible()
    press(desk, "Escape i")
    expect(desk.get_by_role("dialog", name="Instructions")).to_contain_text("Prefer the answer that helps.")
