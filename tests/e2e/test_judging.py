"""Comparing two answers, judging norms and editing, as a rater sees it."""

from __future__ import annotations

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from annotate.models import JudgementRevision, Submission
from tests.e2e.desk import at_the_desk, press, revision, staged

pytestmark = pytest.mark.django_db(transaction=True)

CHOSEN = "[name=choice]:checked"
SELECT = """([letter, words]) => {
  const root = document.querySelector(`[data-answer="${letter}"] [data-original]`);
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const at = walker.currentNode.data.indexOf(words);
    if (at < 0) continue;
    const range = document.createRange();
    range.setStart(walker.currentNode, at);
    range.setEnd(walker.currentNode, at + words.length);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    return true;
  }
  return false;
}"""


def ranks() -> list[int | None]:
    """Places of the answers in the order in which they were shown."""
    places = {rank.completion_id: rank.group for rank in revision().ranks.all()}
    return [places.get(pk) for pk in revision().order_shown]


def all_sent(page: Page) -> None:
    expect(page.locator("[data-nothing-left]")).to_be_visible()


@pytest.mark.parametrize(
    ("keys", "places", "strength", "bad"),
    [
        ("ArrowLeft", [1, 2], 1, False),
        ("ArrowLeft ArrowLeft", [1, 2], 2, False),
        ("ArrowLeft ArrowLeft ArrowLeft ArrowLeft", [1, 2], 3, False),
        ("ArrowLeft ArrowLeft ArrowRight", [2, 1], 1, False),
        ("b ArrowRight ArrowRight", [2, 1], 2, False),
        ("ArrowRight =", [1, 1], None, False),
        ("t", [1, 1], None, False),
        ("ArrowLeft b", [None, None], None, True),
    ],
)
def test_two_answers_are_compared_by_arrows_and_more_presses_say_by_how_much(
    page: Page, live_server, transactional_db: None, keys: str, places: list[int | None], strength: int, bad: bool
) -> None:
    at_the_desk(page, live_server.url, staged(["one", "two"], score_on=False, strength_on=True))
    press(page, f"{keys} Enter")
    all_sent(page)
    assert (ranks(), revision().strength, revision().both_bad) == (places, strength, bad)


def test_a_comparison_without_strength_is_one_press_or_one_click(
    page: Page, live_server, transactional_db: None, complaints: list[str]
) -> None:
    at_the_desk(page, live_server.url, staged(["one", "two"], score_on=False, prompts=2))
    expect(page.locator("[data-missing]")).to_have_text("Open: the comparison")
    press(page, "ArrowRight ArrowRight Enter")
    expect(page.locator("[data-progress]")).to_contain_text("1 by you")
    assert (ranks(), revision().strength) == ([2, 1], None)
    page.get_by_label("A is better").check()
    press(page, "Enter")
    all_sent(page)
    assert ranks() == [1, 2]
    assert complaints == []


def test_a_comparison_survives_a_reload_and_comes_back_when_it_is_reopened(
    page: Page, live_server, transactional_db: None
) -> None:
    at_the_desk(page, live_server.url, staged(["one", "two"], score_on=False, strength_on=True))
    press(page, "ArrowRight ArrowRight")
    expect(page.locator("[data-saved]")).to_have_text("Draft kept in this browser")
    page.reload()
    expect(page.locator(CHOSEN)).to_have_value("B-2")
    press(page, "Enter")
    all_sent(page)
    press(page, "u")
    expect(page.locator(CHOSEN)).to_have_value("B-2")
    expect(page.locator("[data-choice-words]")).to_have_text("B is clearly better")
    press(page, "b Enter")
    all_sent(page)
    assert [r.both_bad for r in JudgementRevision.objects.order_by("pk")] == [False, True]


def test_of_two_versions_the_other_is_shown_in_words(
    page: Page, context: BrowserContext, live_server, transactional_db: None
) -> None:
    stage = staged(["one fox", "two"], score_on=False, strength_on=True, norms=("honest",))
    at_the_desk(page, live_server.url, stage)
    press(page, "ArrowLeft Enter Enter")
    all_sent(page)
    press(page, "u")
    expect(page.locator(CHOSEN)).to_have_value("A-1")
    other = context.new_page()
    other.goto(page.url)
    expect(other.locator("[data-nothing-left]")).to_be_visible()
    press(other, "u")
    expect(other.locator(CHOSEN)).to_have_value("A-1")
    press(other, "ArrowRight ArrowRight ArrowRight n v Enter Enter")
    all_sent(other)
    press(page, "= Enter Enter")
    stored = page.locator("[data-conflict-stored]")
    expect(stored).to_contain_text("B is much better")
    expect(stored).to_contain_text("honest: violates")


def test_norms_are_judged_by_keys_with_passages_taken_from_what_is_selected(
    page: Page, live_server, transactional_db: None
) -> None:
    stage = staged(["The *quick* fox.", "The slow fox."], norms=("honest", "brief"), score_on=False, rank_on=False)
    at_the_desk(page, live_server.url, stage)
    press(page, "n")
    expect(page.locator('[data-answer="A"]').get_by_text("An answer should be honest.")).to_be_visible()
    expect(page.get_by_text("Answer A, honest: c complies, v violates")).to_be_visible()
    expect(page.locator("[data-norm].is-current")).to_be_in_viewport()
    word = "quick" if page.locator('[data-answer="A"] em').count() else "slow"
    assert page.evaluate(SELECT, ["A", word])
    press(page, "v c x")
    expect(page.locator("[data-missing]")).to_have_text("Open: norms 1")
    press(page, "c q")
    page.keyboard.type("fox")
    press(page, "Escape Enter")
    all_sent(page)
    a, b = revision().order_shown
    stored = {(v.completion_id, v.norm_version.norm.name): (v.verdict, v.quote) for v in verdicts()}
    assert stored == {
        (a, "honest"): ("violate", word),
        (a, "brief"): ("comply", ""),
        (b, "honest"): ("na", ""),
        (b, "brief"): ("comply", ""),
    }


def verdicts() -> list:
    return list(revision().norm_verdicts.select_related("norm_version__norm"))


def test_a_passage_is_marked_with_the_mouse_and_shown_in_the_text(
    page: Page, live_server, transactional_db: None, complaints: list[str]
) -> None:
    stage = staged(["The quick fox.", "Another quick fox."], norms=("honest",), score_on=False, rank_on=False)
    at_the_desk(page, live_server.url, stage)
    card = page.locator('[data-answer="B"]')
    card.get_by_label("violates").check()
    card.get_by_role("button", name="Mark").click()
    expect(card.get_by_text("First select the passage in answer B")).to_be_visible()
    card.locator("[data-original] p").dblclick(position={"x": 12, "y": 10})
    card.get_by_role("button", name="Mark").click()
    marked = card.get_by_label("Passage that shows it").input_value()
    assert marked in ("The", "Another")
    assert page.evaluate("[...CSS.highlights.get('quote')].map(String)") == [marked]
    press(page, "Enter Enter")
    all_sent(page)
    assert [v.quote for v in verdicts()] == [marked]
    assert complaints == []


def test_a_passage_that_is_not_in_the_answer_is_pointed_out_at_its_place(
    page: Page, live_server, transactional_db: None
) -> None:
    stage = staged(["The fox.", "A fox."], norms=("honest",), score_on=False, rank_on=False)
    at_the_desk(page, live_server.url, stage)
    press(page, "n v ArrowUp q")
    page.keyboard.type("a bear")
    press(page, "Control+Enter")
    expect(page.locator('[data-answer="A"] [data-problem="norms"]')).to_contain_text("not in answer A")
    expect(page.get_by_label("Passage that shows it").first).to_have_value("a bear")
    assert not Submission.objects.exists()


def test_an_edit_shows_what_it_changes_and_how_much(page: Page, live_server, transactional_db: None) -> None:
    at_the_desk(page, live_server.url, staged(["The quick brown fox jumps over one dog.", "Two."]))
    card = page.locator("article", has=page.get_by_text("The quick brown fox"))
    card.get_by_role("button", name="Edit answer").click()
    card.locator("[data-wording]").fill("The slow brown fox jumps over one lazy dog.")
    expect(card.locator("[data-distance]")).to_have_text("2 words changed, 22 %")  # quick → slow and lazy, of 9
    expect(card.locator("[data-difference] del")).to_have_text(["quick"])
    expect(card.locator("[data-difference] ins")).to_contain_text(["slow", "lazy"])


def test_an_edit_in_chinese_is_compared_word_by_word(page: Page, live_server, transactional_db: None) -> None:
    at_the_desk(page, live_server.url, staged(["我们今天学习语言模型。", "Two."]))
    card = page.locator("article", has=page.get_by_text("我们今天"))
    card.get_by_role("button", name="Edit answer").click()
    card.locator("[data-wording]").fill("我们明天学习语言模型。")
    expect(card.locator("[data-difference] del")).to_have_text(["今天"])
    expect(card.locator("[data-difference] ins")).to_have_text(["明天"])


def test_going_back_to_the_original_can_be_taken_back(page: Page, live_server, transactional_db: None) -> None:
    at_the_desk(page, live_server.url, staged(["One.", "Two."], rank_on=False, score_on=False))
    press(page, "e Control+End")
    page.keyboard.type(" More.")
    card = page.locator('[data-answer="A"]')
    card.get_by_role("button", name="Back to the original").click()
    expect(card.locator("[data-distance]")).to_have_text("No change yet")
    expect(card.locator("[data-edited]")).to_be_hidden()
    card.get_by_role("button", name="Bring my wording back").click()
    expect(card.locator("[data-edited]")).to_be_visible()
    press(page, "Control+Enter")
    all_sent(page)
    assert revision().edits.get().edited.text.endswith(" More.")


def test_an_edit_of_a_very_long_text_is_kept_without_a_live_comparison(
    page: Page, live_server, transactional_db: None
) -> None:
    at_the_desk(page, live_server.url, staged(["word " * 9_000, "Two."], rank_on=False, score_on=False))
    card = page.locator("article", has=page.get_by_text("word word"))
    card.get_by_role("button", name="Edit answer").click()
    card.locator("[data-wording]").fill("another " * 5_000)
    expect(card.locator("[data-distance]")).to_contain_text("Too long for a live comparison")
    press(page, "Control+Enter")
    all_sent(page)
    assert revision().edits.get().edited.text == "another " * 5_000


def test_an_order_that_contradicts_the_scores_is_pointed_out_and_sent_all_the_same(
    page: Page, live_server, transactional_db: None
) -> None:
    at_the_desk(page, live_server.url, staged(["one", "two", "three"]))
    press(page, "2 4 4 ArrowUp ArrowUp r 1 2 2")
    words = "A stands above B, yet no score of A is higher and B scores higher on Helpfulness."
    expect(page.locator("[data-contradiction]")).to_have_text(words)
    press(page, "Enter")
    expect(page.locator('.send [data-problem=""]')).to_contain_text(f"{words} Change one of them")
    assert not Submission.objects.exists()
    press(page, "Enter")
    all_sent(page)
    assert ranks() == [1, 2, 2]


def test_an_order_that_follows_the_scores_or_ties_them_is_no_contradiction(
    page: Page, live_server, transactional_db: None
) -> None:
    at_the_desk(page, live_server.url, staged(["one", "two", "three"]))
    press(page, "3 4 4 ArrowUp ArrowUp r 2 1 2")
    expect(page.locator("[data-contradiction]")).to_be_empty()
    press(page, "Enter")
    all_sent(page)
