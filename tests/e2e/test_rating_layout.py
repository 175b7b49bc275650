"""The rating page at every number of answers and every width: nothing clipped, nothing overlapping, easy to hit."""

from __future__ import annotations

import gzip

import pytest
from playwright.sync_api import Page, Response, expect

from tests.e2e.desk import MARKDOWN, at_the_desk, press, staged

pytestmark = pytest.mark.django_db(transaction=True)

MOST_SCRIPT = 100_000
"""Bytes of JavaScript on a page, compressed."""

FAULTS = """() => {
  const faults = [];
  const name = (e) => `${e.tagName.toLowerCase()}.${e.className} ${e.textContent.trim().slice(0, 30)}`;
  const forReaders = (e) => getComputedStyle(e).clipPath !== "none";
  const seen = (e) => e.checkVisibility() && !e.closest(".visually-hidden, dialog") && !forReaders(e);
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) faults.push(`the page is ${root.scrollWidth} wide`);
  const all = [...document.querySelectorAll("main *")].filter(seen);
  for (const e of all) {
    const { left, right, width } = e.getBoundingClientRect();
    if (width && !e.parentElement.closest(".wide, math") && (left < -1 || right > innerWidth + 1))
      faults.push(`beyond the window: ${name(e)}`);
    const clips = getComputedStyle(e).overflowX === "hidden" || getComputedStyle(e).overflowY === "hidden";
    const cut = e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1;
    if (clips && cut && !e.matches(".wide")) faults.push(`clipped: ${name(e)}`);
    if (e.matches(".prose, .notch, .button, .place, .norm") && e.scrollWidth > e.clientWidth + 1)
      faults.push(`too wide for its box: ${name(e)}`);
  }
  const apart = (what, elements) => {
    const boxes = elements.filter(seen).map((e) => [e, e.getBoundingClientRect()]).filter(([, b]) => b.width);
    for (const [i, [one, a]] of boxes.entries())
      for (const [other, b] of boxes.slice(i + 1))
        if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)
          faults.push(`${what} overlap: ${name(one)} and ${name(other)}`);
  };
  const find = (where, what) => [...where.querySelectorAll(what)];
  apart("answers", find(document, ".answer"));
  for (const card of find(document, ".answer")) apart("parts of an answer", [...card.children]);
  for (const head of find(document, ".answer-head")) apart("tools", find(head, ".letter, .pill, .select, .button"));
  apart("places", find(document, ".place"));
  apart("chips", find(document, ".chip"));
  apart("choices", find(document, ".chooser .notch"));
  if (getComputedStyle(document.querySelector(".dock")).display !== "contents")
    apart("parts of the dock", find(document, ".order, .rationale, .send"));
  return faults;
}"""

SMALL_TARGETS = """() => [...document.querySelectorAll(
    "main :is(button, select, summary, textarea, .input, .notch, [data-chip], a)")]
  .filter((e) => e.checkVisibility())
  .map((e) => [e, e.getBoundingClientRect()])
  .filter(([, { width, height }]) => width < 43.5 || height < 43.5)
  .map(([e, { width, height }]) => `${e.outerHTML.slice(0, 80)} ${width} × ${height}`)"""


@pytest.mark.parametrize("count", range(2, 10))
def test_two_to_nine_answers_fit_every_window(
    page: Page, live_server, transactional_db: None, complaints: list[str], count: int
) -> None:
    texts = [MARKDOWN, "Short.", "- مرحبا\n- שלום\n- Hello", "长" * 300, *("More words to read. " * 20,) * 5]
    stage = staged([f"{text}\n\nThe end of {n}." for n, text in enumerate(texts[:count])], norms=("honest", "brief"))
    stage.project.strength_on = count == 2
    stage.project.save()
    at_the_desk(page, live_server.url, stage)
    for width in (360, 768, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        page.reload()
        expect(page.locator("article.is-current")).to_be_visible()
        assert page.evaluate(FAULTS) == [], width
        press(page, "e n v" if width == 768 else "n v ArrowUp")
        page.locator("#rationale").fill("A reason. " * 30)
        assert page.evaluate(FAULTS) == [], width
    assert complaints == []


@pytest.mark.parametrize("count", [2, 4])
def test_on_a_phone_everything_that_is_pressed_is_large_enough_for_a_finger(
    page: Page, live_server, transactional_db: None, count: int
) -> None:
    page.set_viewport_size({"width": 360, "height": 780})
    stage = staged([f"Answer {n}" for n in range(count)], norms=("honest",), strength_on=True)
    at_the_desk(page, live_server.url, stage)
    press(page, "e")
    page.keyboard.type("More. ")
    press(page, "Escape f Escape n v")
    assert page.evaluate(SMALL_TARGETS) == []


def test_the_scripts_of_the_page_are_small(page: Page, live_server, transactional_db: None) -> None:
    bodies: dict[str, bytes] = {}

    def keep(response: Response) -> None:
        if response.request.resource_type == "script":
            bodies[response.url] = response.body()

    page.on("response", keep)
    at_the_desk(page, live_server.url, staged(["one", "two", "three"], norms=("honest",)))
    page.wait_for_load_state("networkidle")
    assert any("compare.js" in url for url in bodies)
    assert sum(len(gzip.compress(body)) for body in bodies.values()) <= MOST_SCRIPT
