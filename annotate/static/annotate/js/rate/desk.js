// The rating page: an item comes, is judged, is sent, and the next one comes, all without loading a page.

import * as answer from "./answer.js";
import * as draft from "./draft.js";
import { Item } from "./item.js";
import { press } from "./keys.js";
import { Offline, SignedOut, fetchPiece, newUuid, post } from "./send.js";
import { say } from "./words.js";

const RENEW_MS = 5 * 60 * 1000;
const LONGEST_PAUSE_S = 30;

const page = document.querySelector("main.rate");
const desk = document.getElementById("desk");
const skipDialog = document.getElementById("skip");
let item = null;
let busy = false;

/** Take up the item that lies on the desk, if one does. */
function takeUp() {
  item?.close();
  const form = desk.querySelector("[data-item]");
  if (!form) {
    item = null;
    desk.querySelector("[data-nothing-left]")?.focus();
    return;
  }
  item = new Item(form, JSON.parse(document.getElementById("desk-data").textContent), page.dataset.user);
  item.focus(item.cards[0]);
}

/** Fetch what comes next and lay it on the desk; false where there is nothing of the kind. */
async function lay(address) {
  desk.setAttribute("aria-busy", "true");
  try {
    const piece = await fetchPiece(address);
    if (piece === null) return false;
    desk.innerHTML = piece;
    scrollTo({ top: 0 });
    takeUp();
    return true;
  } finally {
    desk.removeAttribute("aria-busy");
  }
}

async function submit() {
  if (!item || busy) return;
  item.clearProblems();
  const objection = item.objection();
  if (objection) return item.problem(objection);
  item.keepDraft();
  // The same uuid with the same content however often it is sent: the site stores it once.
  const body = { uuid: newUuid(), version: item.version, answer: item.payload };
  await working(async () => {
    item.status(say("sending"));
    const { status, data } = await deliver(() => post(item.addresses.submit, body));
    if (status === 409 && data.stored) return showConflict(data.stored);
    if (status !== 200) return item.problem(data.error, data.place);
    item.forgetDraft();
    await goOn(say(data.outcome === "late" ? "late" : "saved"), data.outcome === "late" ? "is-bad" : "is-good");
  });
}

/** Do something with the item locked; a failure is said and leaves all that was typed. */
async function working(act) {
  const mine = item;
  busy = true;
  mine.lock(true);
  try {
    await act();
  } catch (problem) {
    if (!(problem instanceof SignedOut || problem instanceof Offline)) throw problem;
    mine.problem(say(problem instanceof SignedOut ? "signedOut" : "failed"));
    mine.status("");
  } finally {
    busy = false;
    mine.lock(false);
    if (mine === item && !mine.form.contains(document.activeElement)) mine.focus(mine.card);
  }
}

/** Send until it is delivered, waiting longer after each failure. */
async function deliver(send) {
  for (let pause = 1; ; pause = Math.min(pause * 2, LONGEST_PAUSE_S)) {
    try {
      return await send();
    } catch (problem) {
      if (!(problem instanceof Offline)) throw problem;
      item.status(say("offline", { seconds: pause }), "is-bad");
      await new Promise((resolve) => setTimeout(resolve, pause * 1000));
    }
  }
}

async function goOn(words, mood) {
  try {
    await lay(page.dataset.next);
    item?.status(words, mood);
  } catch {
    item.close();
    item = null;
    const notice = document.createElement("p");
    notice.className = "notice notice-warning";
    notice.textContent = `${words}. ${say("unloaded")}`;
    desk.replaceChildren(notice);
  }
}

async function reopen() {
  if (busy) return;
  try {
    if (await lay(page.dataset.last)) item.status(say("reopened"));
    else item?.status(say("nothingToReopen"));
  } catch {
    item?.problem(say("failed"));
  }
}

function showConflict(stored) {
  const box = item.form.querySelector("[data-conflict]");
  box.querySelector("[data-conflict-words]").textContent = say("conflict", { version: stored.version });
  box.querySelector("[data-conflict-stored]").textContent = inWords(stored.answer);
  box.querySelector("[data-keep-mine]").onclick = () => {
    box.hidden = true;
    item.version = stored.version;
    submit();
  };
  box.querySelector("[data-take-stored]").onclick = () => {
    box.hidden = true;
    item.version = stored.version;
    answer.fill(item.form, stored.answer);
    item.forgetDraft();
    item.show();
  };
  box.hidden = false;
  item.status("");
}

/** A stored answer in lines that can be read beside one's own. */
function inWords(stored) {
  const lines = item.cards.map((card) => {
    const letter = card.dataset.answer;
    const parts = answer.scales(card).map((scale) => {
      const value = stored.scores?.[letter]?.[scale.dataset.criterion] ?? "–";
      return `${scale.querySelector("[data-name]").textContent} ${value}`;
    });
    if (stored.ranks?.[letter]) parts.unshift(`#${stored.ranks[letter]}`);
    if (stored.edits?.[letter]) parts.push(`${say("edited")}: ${stored.edits[letter]}`);
    return `${letter}: ${parts.join(", ")}`;
  });
  return [...lines, stored.rationale].filter(Boolean).join("\n");
}

async function sendSkip(event) {
  event.preventDefault();
  if (!item || busy) return;
  const fields = new FormData(event.target);
  const problem = event.target.querySelector("[data-problem]");
  problem.hidden = true;
  busy = true;
  try {
    const body = { reason: fields.get("reason"), note: fields.get("note") };
    const { status, data } = await post(item.addresses.skip, body);
    if (status !== 200) throw new Error(data.error);
    item.forgetDraft();
    event.target.reset();
    skipDialog.close();
    await goOn("", "");
  } catch (failure) {
    const known = failure instanceof SignedOut ? say("signedOut") : failure.message;
    problem.textContent = known || say("failed");
    problem.hidden = false;
  } finally {
    busy = false;
  }
}

async function renew() {
  if (!item || item.version !== null || !item.clock.active) return;
  try {
    const { data } = await post(item.addresses.renew, {});
    if (data.held === false) item.status(say("lost"), "is-bad");
  } catch {
    // The next beat tries again; submitting says what is wrong.
  }
}

const acts = {
  submit,
  reopen,
  open: (name) => document.getElementById(name).showModal(),
  skip: () => item?.version === null && skipDialog.showModal(),
};

document.addEventListener("keydown", (event) => {
  if (!busy && press(event, item, acts)) event.preventDefault();
});

desk.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});

desk.addEventListener("click", (event) => {
  if (event.target.closest("[data-reopen]")) return reopen();
  const card = event.target.closest("[data-answer]");
  if (!card || !item) return;
  if (event.target.closest("[data-flag]")) answer.toggleFlag(card);
  else if (event.target.closest("[data-reset]")) answer.resetEdit(card);
  else if (event.target.closest("[data-edit]")) item.toggleEdit(card);
  else return;
  item.changed();
});

skipDialog.querySelector("form").addEventListener("submit", sendSkip);
setInterval(renew, RENEW_MS);
draft.tidy();
takeUp();
