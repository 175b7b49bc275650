// Keys of the rating page. Inside a text field only Esc and Ctrl+Enter mean something.

import { toggleFlag } from "./answer.js";
import { startEdit } from "./edit.js";
import * as modes from "./modes.js";

const TEXT_FIELD = "textarea, input:not([type=radio]):not([type=checkbox])";
const VERDICTS = { c: "comply", v: "violate", x: "na" };
const CHOICES = { ArrowLeft: "A", ArrowRight: "B", "=": "equal", t: "equal", b: "bad" };

/**
 * @param {KeyboardEvent} event
 * @param {import("./item.js").Item} item the item on the desk, or null
 * @param {{submit, skip, reopen, mine, open}} acts what keys can ask for beyond the item
 * @returns {boolean} whether the key meant something
 */
export function press(event, item, acts) {
  const target = event.target;
  if (event.isComposing || event.altKey || document.querySelector("dialog[open]")) return false;
  if (target.matches(TEXT_FIELD)) return inText(event, item, acts);
  if (event.ctrlKey || event.metaKey) return false;
  if (everywhere(event.key, acts)) return true;
  if (!item) return false;
  return inMode(event, item) || onItem(event, item, acts);
}

function inText(event, item, acts) {
  if (!item) return false;
  if (event.key === "Escape") {
    item.leaveField(event.target);
    return true;
  }
  if (event.key !== "Enter") return false;
  if (event.ctrlKey || event.metaKey) acts.submit();
  // Enter in a one-line field would submit the form by itself.
  return event.ctrlKey || event.metaKey || !event.target.matches("textarea");
}

function everywhere(key, acts) {
  if (key === "?") acts.open("keys");
  else if (key === "i") acts.open("instructions");
  else if (key === "u") acts.reopen();
  else if (key === "m") acts.mine();
  else return false;
  return true;
}

/** Keys that mean something else while ranking, or while judging norms. */
function inMode({ key, target }, item) {
  if (target.matches("select")) return false;
  if (item.mode === "rank") {
    if (/^[0-9]$/.test(key)) modes.rank(item, Number(key));
    else if (key === "ArrowLeft") modes.rankBy(item, -1);
    else if (key === "ArrowRight") modes.rankBy(item, 1);
    else if (key === "Escape") item.setMode("");
    else return false;
    return true;
  }
  if (item.mode !== "norms") return false;
  if (key in VERDICTS) modes.judge(item, VERDICTS[key]);
  else if (key === "ArrowDown") modes.moveNorm(item, 1);
  else if (key === "ArrowUp") modes.moveNorm(item, -1);
  else if (key === "p") modes.markPassage(item);
  else if (key === "q") modes.typePassage(item);
  else if (key === "Escape" || key === "n") modes.leaveNorms(item);
  else return false;
  return true;
}

function onItem({ key, target }, item, acts) {
  // In a group of values the arrows move within it, and in a list they choose.
  const arrowsTaken = target.matches("select, .answer [type=radio]");
  if (/^[1-5]$/.test(key) && !target.matches("select")) item.score(Number(key));
  else if (key === "r" && item.mode === "rank") item.setMode("");
  else if (key === "r") modes.enterRank(item);
  else if (key === "n") modes.enterNorms(item);
  else if (item.isPair && key in CHOICES && !(key.startsWith("Arrow") && arrowsTaken)) item.compare(CHOICES[key]);
  else if (key === "ArrowDown" && !target.matches("select")) item.move(1);
  else if (key === "ArrowUp" && !target.matches("select")) item.move(-1);
  else if (key === "e") startEdit(item.card);
  else if (key === "f") toggleFlag(item.card);
  else if (key === "s") acts.skip();
  else if (key === "Enter" && !target.matches("button, a, summary, select")) acts.submit();
  else return false;
  if (key === "f") item.changed();
  return true;
}
