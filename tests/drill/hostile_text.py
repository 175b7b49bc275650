"""200 hostile texts in every field that takes text, and every page that shows them, in Chromium.

A page may run nothing of them, ask no other site for anything, and break no rule of its content
security policy. That the texts are dangerous is shown by putting them into a page without
protection, where the same detectors see many of them come to life.
"""

from __future__ import annotations

import os
from typing import Any

from tests import site
from tests.browser import ARGUMENTS, chromium
from tests.drill.outcome import Outcome

WATCH = """
window.__ran = [];
window.__broken = [];
for (const name of ["canary", "alert", "confirm", "prompt", "print"])
  Object.defineProperty(window, name, {value: () => { window.__ran.push(name); }, writable: false});
document.addEventListener("securitypolicyviolation", ({violatedDirective, blockedURI}) => {
  window.__broken.push(`${violatedDirective} ${blockedURI}`);
});
"""
FIND_ACTIVE_MARKUP = """() => {
  const found = [];
  const ownPages = /^\\/(p\\/garden\\/|new$)/;
  const address = /href|src|action|data$/i;
  const script = /^[\\s\\0-\\x20]*(javascript|vbscript|data):/i;
  for (const element of document.querySelectorAll("*")) {
    for (const {name, value} of element.attributes) {
      if (/^on/i.test(name) || /hx-on/i.test(name)) found.push(`${element.tagName} ${name}`);
      if (address.test(name) && script.test(value)) found.push(value);
      if (/^(data-)?hx-(get|post)$/.test(name) && !ownPages.test(value)) found.push(`${name}=${value}`);
    }
  }
  const own = "script[src^='/static/'], script[src='/admin/jsi18n/'], script[type='application/json']";
  const blank = "template[data-blank]";
  const never =
    `iframe, frame, object, embed, base, applet, marquee, template:not(${blank}), mglyph, meta[http-equiv], style`;
  const mathematics = "http://www.w3.org/1998/Math/MathML";
  for (const element of document.querySelectorAll("math *, annotation-xml"))
    if (element.namespaceURI !== mathematics || element.matches("annotation-xml")) found.push(element.tagName);
  for (const element of document.querySelectorAll(never)) found.push(element.tagName);
  for (const element of document.querySelectorAll("script")) if (!element.matches(own)) found.push("script");
  return found;
}"""
FILL = """(text) => {
  const form = document.getElementById("setup-form");
  for (const part of form.querySelectorAll("[data-add=norms]")) part.click();
  for (const box of form.querySelectorAll("input[type=checkbox]")) box.checked = true;
  for (const field of form.querySelectorAll("input.input:not(.number, [type=file]), textarea")) field.value = text;
  form.elements.completions_per_item.value = "none";
  form.dispatchEvent(new Event("input", {bubbles: true}));
}"""
REFUSED = 422
PEOPLE = ("alice", "bob", "objector", "newcomer", "root")
DANGEROUS = 60
"""So many of the texts at least must run in a page without protection, or the detectors are blind."""


class Watch:
    """What the browser was seen to do on the site's pages."""

    def __init__(self) -> None:
        self.pages = 0
        self.ran: list[str] = []
        self.broken: list[str] = []
        self.asked: list[str] = []
        self.active: list[str] = []
        self.failed: list[str] = []

    def attach(self, page: Any, address: str) -> None:
        """Listen to a page's requests, dialogs and complaints."""

        def request(asked: Any) -> None:
            if not asked.url.startswith((f"{address}/", "about:")):
                self.asked.append(f"{page.url}: {asked.url[:80]}")

        def complaint(message: Any) -> None:
            if "Content Security Policy" in message.text:
                self.broken.append(f"{page.url}: {message.text[:120]}")

        def dialog(shown: Any) -> None:
            self.ran.append(f"{page.url}: dialog {shown.message[:40]}")
            shown.dismiss()

        page.on("request", request)
        page.on("console", complaint)
        page.on("dialog", dialog)

    def look(self, page: Any) -> None:
        """Take down what happened on the page that is open."""
        self.pages += 1
        ran, broken = page.evaluate("[window.__ran, window.__broken]")
        self.ran += [f"{page.url}: {name}" for name in ran]
        self.broken += [f"{page.url}: {what}" for what in broken]
        self.active += [f"{page.url}: {what}" for what in page.evaluate(FIND_ACTIVE_MARKUP)]


def drill() -> list[Outcome]:
    """Count scripts run, other sites asked, and violations, over every page."""
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # Playwright's loop runs in this thread
    with site.fresh_site() as folder:
        from playwright.sync_api import sync_playwright

        from tests import hostile_stage

        stage = hostile_stage.prepare()
        site.set_passwords()
        with site.web_server(folder) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium("shows the hostile texts"),
                args=[*ARGUMENTS, "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
            )
            alive, stopped = _in_a_bare_page(browser), _stopped_by_the_policy(browser, address)
            watch = Watch()
            pages = {name: _signed_in(browser, address, name, watch) for name in PEOPLE}
            for visit in hostile_stage.visits(stage):
                hostile_stage.rename(visit.text)
                answer = pages[visit.person].goto(address + visit.path, wait_until="load")
                if answer.status != 200:
                    watch.failed.append(f"{visit.path}: {answer.status}")
                watch.look(pages[visit.person])
            _set_up(pages["alice"], address, watch, hostile_stage)
            _rate(pages["bob"], address, watch, hostile_stage, stage)
            _qualify(pages["newcomer"], address, watch, hostile_stage, stage)
            browser.close()
    return _outcomes(watch, alive, stopped)


def _outcomes(watch: Watch, alive: int, stopped: bool) -> list[Outcome]:
    from tests.hostile import TEXTS

    for line in [*watch.ran, *watch.broken, *watch.asked, *watch.active, *watch.failed][:20]:
        print(f"    {line}")
    what = f"{len(TEXTS)} hostile texts on {watch.pages} pages"
    return [
        Outcome(f"{what}: scripts run", str(len(watch.ran)), "0", met=not watch.ran),
        Outcome(f"{what}: violations of the policy", str(len(watch.broken)), "0", met=not watch.broken),
        Outcome(
            f"{what}: other sites asked, active markup, pages that failed",
            f"{len(watch.asked)}, {len(watch.active)}, {len(watch.failed)}",
            "0, 0, 0",
            met=not (watch.asked or watch.active or watch.failed),
        ),
        Outcome(
            "the same texts in a page without protection: come to life",
            f"{alive} of {len(TEXTS)}",
            f"≥ {DANGEROUS}",
            met=alive >= DANGEROUS,
        ),
        Outcome(
            "a handler planted in a page of the site",
            "stopped by the policy, and seen" if stopped else "not stopped or not seen",
            "stopped and seen",
            met=stopped,
        ),
    ]


def _in_a_bare_page(browser: Any) -> int:
    """How many of the texts run something or ask another site, where nothing escapes them."""
    from tests.hostile import TEXTS

    page = browser.new_context().new_page()
    page.add_init_script(WATCH)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "evil" in request.url else None)
    page.on("dialog", lambda dialog: dialog.dismiss())
    alive = 0
    for text in TEXTS:
        asked.clear()
        page.goto("about:blank")
        page.evaluate("(text) => { document.open(); document.write(text); document.close(); }", text)
        page.wait_for_timeout(30)
        alive += bool(asked or page.evaluate("window.__ran?.length"))
    page.context.close()
    return alive


def _stopped_by_the_policy(browser: Any, address: str) -> bool:
    """Whether markup that got into a page would run nothing, and the detectors see that it tried."""
    page = browser.new_context().new_page()
    page.add_init_script(WATCH)
    page.goto(f"{address}/sign-in")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=canary()>')")
    page.wait_for_timeout(300)
    ran, broken = page.evaluate("[window.__ran, window.__broken]")
    found = "IMG onerror" in page.evaluate(FIND_ACTIVE_MARKUP)
    page.context.close()
    return not ran and bool(broken) and found


def _signed_in(browser: Any, address: str, name: str, watch: Watch) -> Any:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_init_script(WATCH)
    page = context.new_page()
    watch.attach(page, address)
    page.goto(f"{address}/sign-in")
    page.fill("#id_username", name)
    page.fill("#id_password", site.PASSWORD)
    page.click("form.signin-form button")
    page.wait_for_url(lambda url: "sign-in" not in url)
    return page


def _rate(page: Any, address: str, watch: Watch, hostile_stage: Any, stage: Any) -> None:
    """The rating page with each open item and a draft of it, and with the last answer reopened out of its JSON."""
    for text in hostile_stage.TEXTS:
        hostile_stage.rename(text)
        if not hostile_stage.keep_draft(stage, text):
            break
        page.goto(f"{address}/p/garden/rate", wait_until="load")
        page.wait_for_selector("[data-item]")
        watch.look(page)
        hostile_stage.hand_out_another(stage)
    for text in hostile_stage.TEXTS[:10] + hostile_stage.TEXTS[31:40]:
        hostile_stage.rationale(stage, text)
        page.goto(f"{address}/p/garden/rate", wait_until="load")
        page.keyboard.press("u")
        page.wait_for_selector("[data-item]")
        watch.look(page)


def _set_up(page: Any, address: str, watch: Watch, hostile_stage: Any) -> None:
    """The form of a new project with a text in each of its fields: its preview, and the page that refuses it."""
    for text in hostile_stage.RENAMED:
        page.goto(f"{address}/new", wait_until="load")
        with page.expect_response(lambda response: response.request.method == "POST") as previewed:
            page.evaluate(FILL, text)
        previewed.value.finished()
        page.wait_for_timeout(100)
        watch.look(page)
        with page.expect_navigation(wait_until="load") as answered:
            page.evaluate("document.getElementById('setup-form').requestSubmit()")
        if answered.value.status != REFUSED:
            watch.failed.append(f"/new: {answered.value.status}")
        watch.look(page)


def _qualify(page: Any, address: str, watch: Watch, hostile_stage: Any, stage: Any) -> None:
    """The feedback after an item of the qualification, and the result after the last one."""
    from tests import hostile_quality

    hostile_quality.begin_qualification(stage)
    for shown in ("[data-feedback]", "[data-nothing-left]"):
        hostile_quality.judge_next(stage, hostile_stage.TEXTS[0])
        for text in hostile_stage.RENAMED:
            hostile_stage.rename(text)
            page.goto(f"{address}/p/garden/rate", wait_until="load")
            if shown == "[data-feedback]":
                page.wait_for_selector("[data-item]")
                page.keyboard.press("u")
            page.wait_for_selector(shown)
            page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
            watch.look(page)
