// What keys do to an item while ranking, and while judging norms.

import { placeOf } from "./answer.js";
import * as norms from "./norms.js";
import { say } from "./words.js";

/** Begin to rank at the first answer without a place; where all have one, at the one that is marked. */
export function enterRank(item) {
  const open = item.cards.find((card) => placeOf(card)?.value === "");
  if (open) item.goTo(open);
  item.setMode("rank");
}

/** Give the card a place (0 for none), and go on to the next card. */
export function rank(item, place) {
  if (place > item.cards.length) return;
  setPlace(item, place);
  if (item.card === item.cards.at(-1)) item.mode = "";
  else item.move(1);
  item.changed();
}

/** Move the card by a place; before the first place it has none. */
export function rankBy(item, step) {
  const place = Number(placeOf(item.card).value) + step;
  if (place < 0 || place > item.cards.length) return;
  setPlace(item, place);
  item.changed();
}

function setPlace(item, place) {
  placeOf(item.card).value = place || "";
  item.announce(`${item.card.dataset.answer}: ${place || "–"}`);
}

/** Go to the first norm of the card that is not judged yet. */
export function enterNorms(item) {
  const all = norms.norms(item.card);
  focus(all.find((norm) => !norms.verdictOf(norm)) ?? all[0]);
}

export function leaveNorms(item) {
  item.mode = "";
  item.focus(item.card);
}

/** Judge the norm that has the attention, and go on to the next one. */
export function judge(item, verdict) {
  const words = norms.judge(item.norm, verdict);
  item.announce(`${item.card.dataset.answer}, ${norms.nameOf(item.norm)}: ${words}`);
  item.changed();
  if (!moveNorm(item, 1)) leaveNorms(item);
}

/** Go to another norm, over to the next answer too; false where there is none. */
export function moveNorm(item, step) {
  const all = norms.norms(item.form);
  const next = all[all.indexOf(item.norm) + step];
  focus(next);
  return Boolean(next);
}

/** Take what is selected in the answer as the passage that shows it. */
export function markPassage(item) {
  const field = passageOf(item.norm);
  if (!field) return;
  if (!norms.mark(item.norm)) return item.problem(say("selectFirst", { letter: item.card.dataset.answer }), "norms");
  item.announce(say("marked", { quote: field.value }));
  item.changed();
}

/** Go to the field of the passage. */
export const typePassage = (item) => passageOf(item.norm)?.focus();

function focus(norm) {
  (norm?.querySelector(":checked") ?? norm?.querySelector("[type=radio]"))?.focus();
  // Its text, which opens with the focus, has moved it.
  norm?.scrollIntoView({ block: "nearest" });
}

/** The field of a norm's passage, where one can be given. */
function passageOf(norm) {
  const field = norm && norms.fieldOf(norm);
  return field?.closest("[hidden]") ? null : field;
}
