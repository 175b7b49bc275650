"""What cannot be stored, in the browser: said at its place, nothing stored, nothing typed lost, the page goes on."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import Page, expect

from annotate.models import NormVersion, Submission
from tests.e2e.desk import at_the_desk, press, revision, staged

pytestmark = pytest.mark.django_db(transaction=True)

SECONDS_TO_ANSWER_A_KEY = 1.0


@pytest.fixture
def sent(page: Page) -> list[str]:
    """Addresses of the submissions that the page has sent."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/submit") else None)
    return asked


def goes_on(page: Page) -> None:
    """The same page still takes a whole answer."""
    press(page, "Escape")
    page.locator('[data-answer="A"]').focus()
    press(page, "3 3 ArrowLeft Enter Enter")
    expect(page.locator("[data-nothing-left]")).to_be_visible()
    assert Submission.objects.count() == 1


def said(page: Page, place: str, words: str) -> None:
    expect(page.locator(f'[data-problem="{place}"]:visible').first).to_contain_text(words)
    expect(page.locator('.send [data-problem=""]')).to_contain_text(words)
    assert not Submission.objects.exists()


def test_an_empty_answer_is_not_sent_by_ctrl_and_enter_either(
    page: Page, live_server, transactional_db: None, sent: list[str]
) -> None:
    at_the_desk(page, live_server.url, staged(["one", "two"]))
    press(page, "Enter")
    said(page, "", "Nothing is judged yet")
    page.get_by_label("Why, if you like").fill("No idea")
    press(page, "Control+Enter")
    said(page, "", "Nothing is judged yet")
    assert sent == []
    expect(page.get_by_label("Why, if you like")).to_have_value("No idea")
    goes_on(page)


def test_ranks_with_a_gap_are_pointed_out_at_the_board(
    page: Page, live_server, transactional_db: None, sent: list[str]
) -> None:
    at_the_desk(page, live_server.url, staged(["one", "two", "three"]))
    press(page, "r 1 3 Escape Enter")
    said(page, "ranks", "No answer has place 2")
    assert sent == []
    expect(page.get_by_label("Place of answer B")).to_have_value("3")


def test_an_edit_that_is_emptied_is_pointed_out_at_its_answer(
    page: Page, live_server, transactional_db: None, sent: list[str]
) -> None:
    at_the_desk(page, live_server.url, staged(["one", "two"]))
    press(page, "ArrowDown e Control+a Delete Control+Enter")
    expect(page.locator('[data-answer="B"] [data-problem="edits"]')).to_contain_text("The edit of answer B is empty")
    said(page, "edits", "The edit of answer B is empty")
    assert sent == []
    page.get_by_role("button", name="Back to the original").locator("visible=true").click()
    goes_on(page)


def test_an_edit_equal_to_the_original_is_none(
    page: Page, live_server, transactional_db: None, sent: list[str]
) -> None:
    at_the_desk(page, live_server.url, staged(["one", "two"]))
    press(page, "e End x")
    expect(page.locator('[data-answer="A"] [data-edited]')).to_be_visible()
    press(page, "Backspace Control+Enter")
    said(page, "", "Nothing is judged yet")
    expect(page.locator('[data-answer="A"] [data-edited]')).to_be_hidden()
    assert sent == []
    goes_on(page)


def test_a_rationale_of_a_megabyte_is_too_long_and_stays_in_its_field(
    page: Page, live_server, transactional_db: None, sent: list[str]
) -> None:
    at_the_desk(page, live_server.url, staged(["one", "two"]))
    press(page, "3 3 ArrowLeft")
    field = page.get_by_label("Why, if you like")
    field.fill("because " * 131_072)
    press(page, "Control+Enter")
    said(page, "rationale", "1048576 characters long; at most 10000")
    assert sent == []
    assert len(field.input_value()) == 1_048_576
    field.fill("because")
    press(page, "Control+Enter")
    expect(page.locator("[data-nothing-left]")).to_be_visible()
    assert revision().rationale == "because"


def test_a_norm_that_was_changed_meanwhile_is_refused_at_its_place_and_the_rest_survives_the_reload(
    page: Page, live_server, transactional_db: None
) -> None:
    stage = staged(["one", "two"], norms=("honest",), score_on=False)
    at_the_desk(page, live_server.url, stage)
    old = NormVersion.objects.get()
    NormVersion.objects.create(norm=old.norm, number=2, text="Another text.")
    press(page, "ArrowLeft n v c")
    page.get_by_label("Why, if you like").fill("Kept")
    press(page, "Control+Enter")
    said(page, "norms", "This page is older than the project")
    page.reload()
    expect(page.get_by_label("Why, if you like")).to_have_value("Kept")
    expect(page.locator("[data-missing]")).to_have_text("Open: norms 2")
    press(page, "n v c Enter")
    expect(page.locator("[data-nothing-left]")).to_be_visible()
    assert set(revision().norm_verdicts.values_list("norm_version__number", flat=True)) == {2}


def test_nine_answers_of_four_thousand_tokens_to_a_prompt_of_fifty_thousand_characters_are_rated_as_quickly(
    page: Page, live_server, transactional_db: None
) -> None:
    long = "A sentence with `code`, **weight** and $x_i^2$ in it. " * 300  # about 16,000 characters
    stage = staged([f"Answer number {n}.\n\n{long}" for n in range(9)], norms=("honest",))
    prompt = stage.project.prompts.get()
    prompt.messages = [{"role": "user", "content": "Word after word. " * 2_941}]
    prompt.save()
    at_the_desk(page, live_server.url, stage)
    assert sum(len(text) for text in page.locator("[data-original]").all_inner_texts()) > 9 * 12_000
    start = time.monotonic()
    press(page, "5 4 3 2 1 5 4 3 2")
    assert time.monotonic() - start < 9 * SECONDS_TO_ANSWER_A_KEY
    start = time.monotonic()
    press(page, "e")
    page.keyboard.type("New. ")
    assert time.monotonic() - start < 6 * SECONDS_TO_ANSWER_A_KEY
    press(page, "Control+Enter Control+Enter")
    expect(page.locator("[data-nothing-left]")).to_be_visible()
    assert revision().scores.count() == 9
    assert len(revision().edits.get().edited.text) > 16_000
