"""The qualification and an objection to a key, as people walk through them in a browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from annotate.models import Contest, Judgement, Membership, Project, Purpose, Slot
from tests.annotate.factory import World, collect_items, world
from tests.annotate.keyed import WRONG, answer_next, checked, make_key, member
from tests.e2e.conftest import sign_in

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stage(transactional_db: None) -> World:
    made = world(prompts=6)
    collect_items(made)
    return made


def places(stage: World, *, reverse: bool = False) -> str:
    """The digits that rank the item on the page as its key does, or the other way round."""
    slot = Slot.objects.get(rater=stage.bob, state=Slot.State.LEASED)
    order = sorted(slot.shown, reverse=reverse)
    return "".join(str(order.index(pk) + 1) for pk in slot.shown)


def rank(page: Page, digits: str) -> None:
    """Rank every answer and submit, by keyboard; scores are left open, which is asked back about."""
    expect(page.locator("article.is-current")).to_have_attribute("data-answer", "A")
    page.keyboard.press("r")
    for digit in digits:
        page.keyboard.press(digit)
    page.keyboard.press("Enter")
    expect(page.get_by_text("Press Submit once more to send it as it is.")).to_be_visible()
    page.keyboard.press("Enter")


def test_a_newcomer_qualifies_by_keyboard_at_the_second_try(
    page: Page, browser: Browser, live_server, stage: World, complaints: list[str]
) -> None:
    for _n in range(2):
        make_key(stage, "qualify")
    Project.objects.update(pass_mark=0.9)
    sign_in(page, live_server.url, stage.bob)
    line = page.locator("[data-progress]")
    expect(line).to_contain_text("Qualification 1 of 2")
    expect(page.locator("[data-skip-open]")).to_be_hidden()
    rank(page, places(stage, reverse=True))
    expect(page.get_by_role("heading", name="The key sees it differently")).to_be_visible()
    expect(page.get_by_text("differs")).to_have_count(4)
    expect(page.get_by_text("Because it helps.")).to_be_visible()
    expect(page.get_by_role("button", name="Continue")).to_be_focused()
    page.keyboard.press("Enter")
    expect(line).to_contain_text("Qualification 2 of 2")
    page.keyboard.press("u")
    expect(page.get_by_role("heading", name="The key sees it differently")).to_be_visible()
    page.keyboard.press("Enter")
    rank(page, places(stage))
    expect(page.get_by_role("heading", name="Just as the key has it")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Your answers agree 50.0% with the right ones; 90.0% are asked for")).to_be_visible()

    lead = browser.new_context().new_page()
    sign_in(lead, live_server.url, stage.alice)
    lead.goto(f"{live_server.url}/p/garden/quality")
    row = lead.get_by_role("row", name="bob")
    expect(row).to_contain_text("50.0% in round 1")
    row.get_by_role("button", name="Allow another try").click()
    expect(lead.get_by_role("status")).to_contain_text("bob can try again.")
    lead.context.close()

    page.reload()
    for number in (1, 2):
        expect(line).to_contain_text(f"Qualification {number} of 2")
        rank(page, places(stage))
        expect(page.get_by_role("heading", name="Just as the key has it")).to_be_visible()
        if number == 2:
            expect(page.get_by_text("You have passed the qualification. Real items follow.")).to_be_visible()
        page.keyboard.press("Enter")
    expect(line).to_contain_text("4 by you")
    expect(page.locator("[data-item]")).to_have_count(1)
    assert Slot.objects.get(rater=stage.bob, ahead=False, state=Slot.State.LEASED).purpose == Purpose.COLLECT
    assert Membership.objects.get(user=stage.bob).qualified_at is not None
    assert complaints == []


def test_a_rater_contests_a_key_and_reads_the_lead_s_decision(
    page: Page, browser: Browser, live_server, stage: World, complaints: list[str]
) -> None:
    checked(make_key(stage, "gold"), stage.bob, WRONG)
    sign_in(page, live_server.url, stage.bob)
    expect(page.locator("article.is-current")).to_have_attribute("data-answer", "A")
    page.keyboard.press("m")
    page.get_by_role("button", name="Show the right answers").click()
    dialog = page.get_by_role("dialog", name="Are you sure?")
    expect(dialog).to_contain_text("can then not be changed any more")
    dialog.get_by_role("button", name="Yes").click()
    gold = page.get_by_role("region", name="Items with a known answer")
    expect(gold).to_contain_text("You judged 1 of 1 otherwise.")
    gold.locator("summary").click()
    gold.get_by_label("Why the key is wrong").fill("The first one is made up.")
    gold.get_by_role("button", name="Contest the key").click()
    expect(gold).to_contain_text("contested")

    lead = browser.new_context().new_page()
    sign_in(lead, live_server.url, stage.alice)
    lead.goto(f"{live_server.url}/p/garden/quality")
    objection = lead.get_by_role("region", name="Objections to decide")
    expect(objection).to_contain_text("The first one is made up.")
    objection.get_by_label("If accepted, retire the key as well").check()
    objection.get_by_label("Reply to the rater").fill("You are right.")
    objection.get_by_role("button", name="Accept").click()
    expect(lead.get_by_role("status")).to_contain_text("Your decision is stored")
    expect(lead.get_by_role("region", name="Answer keys")).to_contain_text("retired")
    lead.context.close()

    page.reload()
    expect(gold).to_contain_text("objection accepted")
    gold.locator("summary").click()
    expect(gold).to_contain_text("You are right.")
    expect(gold).to_contain_text("does not count against you")
    assert Contest.objects.get().decided_by == stage.alice
    assert complaints == []


def test_an_answer_is_found_again_and_changed(page: Page, live_server, stage: World, complaints: list[str]) -> None:
    for n in range(3):
        answer_next(stage.bob, stage.project, rationale=f"Reason number {n}.")
    answer_next(member(stage, "carol"), stage.project, rationale="Reason number 1, too.")
    sign_in(page, live_server.url, stage.bob)
    page.goto(f"{live_server.url}/p/garden/mine")
    page.get_by_placeholder("Search prompts, answers and what you wrote").fill("Reason number 1")
    page.get_by_role("button", name="Search").click()
    (entry,) = page.locator(".mine-entry").all()
    entry.locator("summary").click()
    entry.get_by_role("link", name="Change it").click()
    expect(page.get_by_label("Why, if you like")).to_have_value("Reason number 1.")
    page.get_by_label("Why, if you like").fill("A better reason.")
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("[data-saved]")).to_contain_text("Saved")
    judgement = Judgement.objects.filter(rater=stage.bob).order_by("pk")[1]
    assert (judgement.version, judgement.revisions.get(number=2).rationale) == (2, "A better reason.")
    assert complaints == []
