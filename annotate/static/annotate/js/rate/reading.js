// Instructions that the rater has not read: shown when the page opens, or between two items when they change meanwhile.

import { fetchPiece, post } from "./send.js";

const LOOK_MS = 5 * 60 * 1000;
// The Enter that sent the last answer must not wave the instructions through.
const GUARD_MS = 600;

const page = document.querySelector("main.rate");
const place = document.querySelector("[data-reading-place]");
const desk = document.getElementById("desk");
let shownAt = 0;

const dialog = () => place.querySelector("[data-reading-dialog]");

function show() {
  const found = dialog();
  if (!found || found.open || document.querySelector("dialog[open]")) return;
  shownAt = performance.now();
  found.addEventListener("close", () => {
    place.replaceChildren();
    desk.querySelector("[data-answer]")?.focus({ preventScroll: true });
  });
  found.showModal();
}

async function noteRead(event) {
  event.preventDefault();
  if (performance.now() - shownAt < GUARD_MS) return;
  const problem = event.target.querySelector("[data-read-problem]");
  try {
    const { status } = await post(event.target.dataset.read, {});
    if (status !== 200) throw new Error(String(status));
    document.querySelector("[data-instructions]").innerHTML = dialog().querySelector(".reading-text").innerHTML;
    dialog().close();
  } catch {
    problem.textContent = problem.dataset.readProblem;
    problem.hidden = false;
  }
}

/** Fetch what has become to be read; it waits until the next item, so that nobody is interrupted while typing. */
async function look() {
  if (document.visibilityState !== "visible" || dialog()) return;
  try {
    const piece = await fetchPiece(page.dataset.reading);
    if (piece !== null) place.innerHTML = piece;
  } catch {
    // The next look tries again.
  }
}

place.addEventListener("submit", noteRead);
new MutationObserver(show).observe(desk, { childList: true });
setInterval(look, LOOK_MS);
show();
