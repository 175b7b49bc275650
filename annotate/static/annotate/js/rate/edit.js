// Editing an answer: the wording, what it changes word by word, and the way back to the original and forth again.

import { compare } from "./compare.js";
import { say } from "./words.js";

const DELAY_MS = 120;
const LONG = 5_000;
const LONG_DELAY_MS = 500;

const timers = new WeakMap();
const discarded = new WeakMap();

export const editorOf = (card) => card.querySelector("[data-wording]");

/** The edit of a card's answer, or null where nothing is changed. */
export function readEdit(card) {
  const editor = editorOf(card);
  return editor && editor.value !== editor.defaultValue ? editor.value : null;
}

/** Put an edit, or undefined for none, into a card. */
export function fillEdit(card, text) {
  const editor = editorOf(card);
  if (!editor) return;
  editor.value = text ?? editor.defaultValue;
  discarded.delete(card);
  open(card, readEdit(card) !== null);
  showEdit(card);
}

export const isEditing = (card) => !card.querySelector("[data-editor]")?.hidden;

export function startEdit(card) {
  if (!editorOf(card)) return;
  open(card, true);
  showEdit(card);
  editorOf(card).focus();
}

/** Leave the editor; one without a change closes. */
export function leaveEdit(card) {
  if (editorOf(card) && readEdit(card) === null) open(card, false);
}

/** Go back to the original; the wording can be brought back. */
export function resetEdit(card) {
  if (readEdit(card) === null) return open(card, false);
  discarded.set(card, editorOf(card).value);
  editorOf(card).value = editorOf(card).defaultValue;
  showEdit(card);
  card.querySelector("[data-unreset]").focus();
}

export function undoReset(card) {
  editorOf(card).value = discarded.get(card);
  discarded.delete(card);
  showEdit(card);
  editorOf(card).focus();
}

/** Show what is changed, now, or in a moment while somebody types. */
export function showEdit(card, { typing = false } = {}) {
  const changed = readEdit(card) !== null;
  if (changed) discarded.delete(card);
  card.querySelector("[data-edited]").hidden = !changed;
  card.querySelector("[data-reset]").hidden = !changed;
  card.querySelector("[data-unreset]").hidden = !discarded.has(card);
  clearTimeout(timers.get(card));
  const delay = editorOf(card).value.length > LONG ? LONG_DELAY_MS : DELAY_MS;
  if (typing) timers.set(card, setTimeout(() => draw(card), delay));
  else if (isEditing(card)) draw(card);
}

function open(card, on) {
  card.querySelector("[data-editor]").hidden = !on;
  card.querySelector("[data-original]").hidden = on;
  card.querySelector("[data-edit]").setAttribute("aria-expanded", String(on));
}

function draw(card) {
  const editor = editorOf(card);
  const edited = readEdit(card) !== null;
  const found = edited ? compare(editor.defaultValue, editor.value) : null;
  card.querySelector("[data-distance]").textContent = edited ? inWords(found) : say("unchanged");
  const pieces = (found?.parts ?? []).map(({ kind, text }) => {
    const piece = document.createElement({ same: "span", gone: "del", new: "ins" }[kind]);
    piece.textContent = text;
    return piece;
  });
  const box = card.querySelector("[data-difference]");
  box.replaceChildren(...pieces);
  box.hidden = pieces.length === 0;
}

function inWords(found) {
  if (!found) return say("tooLongToCompare");
  if (!found.changed) return say("changedSigns");
  const percent = Math.round((100 * found.changed) / found.words);
  return say(found.changed === 1 ? "changedOne" : "changed", { count: found.changed, percent });
}
