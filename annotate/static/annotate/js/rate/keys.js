// Keys of the rating page. Inside a text field only Esc and Ctrl+Enter mean something.

import { startEdit, toggleFlag } from "./answer.js";

const TEXT_FIELD = "textarea, input:not([type=radio]):not([type=checkbox])";

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
  return item ? onItem(event, item, acts) : false;
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

function onItem(event, item, acts) {
  const { key, target } = event;
  if (item.ranking && /^[0-9]$/.test(key)) item.rank(Number(key));
  else if (/^[1-5]$/.test(key) && !target.matches("select")) item.score(Number(key));
  else if (key === "Escape" && item.ranking) item.setRanking(false);
  else if (key === "r") item.setRanking(!item.ranking);
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
