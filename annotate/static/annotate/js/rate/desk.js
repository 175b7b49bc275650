// The rating page: an item comes, is judged, is sent, and the next one comes, all without loading a page.

import { fetchAhead, slotAhead, takeAhead } from "./ahead.js";
import { choose } from "./conflict.js";
import * as draft from "./draft.js";
import { Item } from "./item.js";
import { press } from "./keys.js";
import { Gone, Offline, SignedOut, fetchPiece, newUuid, post } from "./send.js";
import { say } from "./words.js";

const LOOK_AGAIN_MS = 20 * 1000;
const LONGEST_PAUSE_S = 30;

const page = document.querySelector("main.rate");
const desk = document.getElementById("desk");
const skipDialog = document.getElementById("skip");
let item = null;
let skippable = true;
let busy = false;

/** Take up the item that lies on the desk, if one does. */
function takeUp() {
  item?.close();
  const form = desk.querySelector("[data-item]");
  const data = JSON.parse(document.getElementById("desk-data").textContent);
  if (data.progress) showProgress(data.progress);
  if (!form) {
    item = null;
    desk.querySelector("[data-continue], [data-nothing-left]").focus();
    return;
  }
  item = new Item(form, data, page.dataset.user);
  skippable = data.skippable;
  if (!skippable) form.querySelector("[data-skip-open]").hidden = true;
  item.focus(item.cards[0]);
  if (item.version === null) fetchAhead(page.dataset.ahead);
}

function layPiece(piece) {
  desk.innerHTML = piece;
  scrollTo({ top: 0 });
  takeUp();
}

/** Fetch what comes next and lay it on the desk; false where there is nothing of the kind. */
async function lay(address) {
  desk.setAttribute("aria-busy", "true");
  try {
    const piece = await fetchPiece(address);
    if (piece === null) return false;
    layPiece(piece);
    return true;
  } finally {
    desk.removeAttribute("aria-busy");
  }
}

function showProgress({ done, total, words }) {
  const line = page.querySelector("[data-progress]");
  Object.assign(line.querySelector("progress"), { max: total || 1, value: done });
  line.querySelector("span").textContent = words;
}

async function submit() {
  if (!item || busy) return;
  item.clearProblems();
  const objection = item.objection();
  if (objection) return item.problem(objection.text, objection.place, objection.card);
  item.keeper.keep();
  // The same uuid with the same content however often it is sent: the site stores it once.
  const body = { uuid: newUuid(), version: item.version, answer: item.payload, ahead: toOpen() };
  await working(async () => {
    item.status(say("sending"));
    const { status, data } = await deliver(() => post(item.addresses.submit, body));
    if (status === 409 && data.stored) return settle(data.stored);
    if (status !== 200) return item.problem(data.error, data.place);
    item.keeper.forget();
    const late = data.outcome === "late";
    await goOn(data, say(late ? "late" : "saved"), late ? "is-bad" : "is-good");
  });
}

/** The slot that the site is asked to open after the item at work; a reopened answer leads back to that item. */
const toOpen = () => (item.version === null ? slotAhead() : null);

/** Do something with the item locked; a failure is said and leaves all that was typed. */
async function working(act) {
  const mine = item;
  busy = true;
  mine.lock(true);
  try {
    await act();
  } catch (problem) {
    const word = wordFor(problem);
    if (!word) throw problem;
    mine.problem(say(word));
    mine.status("");
  } finally {
    busy = false;
    mine.lock(false);
    if (mine === item && !mine.form.contains(document.activeElement)) mine.focus(mine.card);
  }
}

function wordFor(problem) {
  if (problem instanceof SignedOut) return "signedOut";
  if (problem instanceof Gone) return "gone";
  return problem instanceof Offline ? "failed" : "";
}

/** Try until the site answers, waiting longer after each failure and saying for how long. */
async function deliver(send, tell = (seconds) => item.status(say("offline", { seconds }), "is-bad")) {
  for (let pause = 1; ; pause = Math.min(pause * 2, LONGEST_PAUSE_S)) {
    try {
      return await send();
    } catch (problem) {
      if (!(problem instanceof Offline)) throw problem;
      tell(pause);
      await new Promise((resolve) => setTimeout(resolve, pause * 1000));
    }
  }
}

/** Lay feedback on the desk where there is any, or the next item: the one held ahead if it is open, or one fetched now. */
async function goOn({ opened, progress, feedback }, words, mood) {
  const piece = takeAhead();
  if (feedback) await layNext(words, feedback);
  else if (opened && piece) layPiece(piece);
  else await layNext(words);
  showProgress(progress);
  item?.status(words, mood);
}

async function layNext(words, address = page.dataset.next) {
  const tell = (text) => {
    item?.close();
    item = null;
    const notice = document.createElement("p");
    notice.className = "notice notice-warning";
    notice.setAttribute("role", "status");
    notice.textContent = words ? `${words}. ${text}` : text;
    desk.replaceChildren(notice);
  };
  try {
    await deliver(
      () => lay(address),
      (seconds) => tell(say("unloaded", { seconds })),
    );
  } catch (problem) {
    if (!wordFor(problem)) throw problem;
    tell(say("unloadedSignedOut"));
  }
}

/** From feedback to what comes next. */
async function goFurther() {
  if (busy) return;
  busy = true;
  await layNext("").finally(() => (busy = false));
}

async function reopen() {
  if (busy) return;
  item?.keeper.flush();
  try {
    if (await lay(page.dataset.last)) item.status(say("reopened"));
    else item?.status(say("nothingToReopen"));
  } catch {
    item?.problem(say("failed"));
  }
}

/** A newer version was saved in another tab: the rater chooses between it and what is here. */
function settle(stored) {
  item.status("");
  const question = {
    words: say("conflict", { version: stored.version }),
    other: stored.answer,
    mine: say("conflictMine"),
    theirs: say("conflictTheirs"),
  };
  const asked = item;
  choose(item.form, question).then((mine) => {
    if (asked !== item) return;
    item.rebase(stored.version);
    if (mine) return submit();
    item.replace(stored.answer);
  });
}

async function sendSkip(event) {
  event.preventDefault();
  if (!item || busy) return;
  const fields = new FormData(event.target);
  const problem = event.target.querySelector("[data-problem]");
  problem.hidden = true;
  busy = true;
  try {
    const body = { reason: fields.get("reason"), note: fields.get("note"), ahead: toOpen() };
    const { status, data } = await post(item.addresses.skip, body);
    if (status !== 200) throw new Error(data.error);
    item.keeper.forget();
    event.target.reset();
    skipDialog.close();
    await goOn(data, "", "");
  } catch (failure) {
    const word = wordFor(failure);
    problem.textContent = word ? say(word) : failure.message;
    problem.hidden = false;
  } finally {
    busy = false;
  }
}

/** Keep the lease while somebody is at work, and hear of drafts from elsewhere. */
async function renew({ returned = false } = {}) {
  if (!item || item.version !== null || !(item.clock.active || returned)) return;
  const asked = item;
  try {
    const { data } = await post(item.addresses.renew, {});
    if (asked !== item) return;
    if (data.done) item.status(say("doneElsewhere"), "is-bad");
    else if (data.held === false) item.status(say("lost"), "is-bad");
    item.keeper.heard(data.draft);
  } catch {
    // The next beat tries again; submitting says what is wrong.
  }
}

/** While there is nothing to do, see whether something has come. */
async function lookAgain() {
  if (item || busy || document.visibilityState !== "visible" || !desk.querySelector("[data-nothing-left]")) return;
  try {
    const piece = await fetchPiece(page.dataset.next);
    if (!piece.includes("data-nothing-left")) layPiece(piece);
  } catch {
    // The next look tries again.
  }
}

const acts = {
  submit,
  reopen,
  open: (name) => document.getElementById(name).showModal(),
  mine: () => location.assign(page.dataset.mine),
  skip: () => item?.version === null && skippable && skipDialog.showModal(),
};

document.addEventListener("keydown", (event) => {
  if (!busy && press(event, item, acts)) event.preventDefault();
});

desk.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});

desk.addEventListener("click", (event) => {
  if (event.target.closest("[data-reopen]")) reopen();
  else if (event.target.closest("[data-continue]")) goFurther();
});

// A tab that comes back into sight may have been overtaken by another machine.
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") renew({ returned: true });
  else item?.keeper.flush();
});
addEventListener("pagehide", () => item?.keeper.flush());

skipDialog.querySelector("form").addEventListener("submit", sendSkip);
setInterval(renew, Number(page.dataset.renew) * 1000);
setInterval(lookAgain, LOOK_AGAIN_MS);
draft.tidy();
takeUp();
