// An answer's form: reading what is judged out of it, and putting a draft or a stored answer into it.

import { fillChoice, isPair, readChoice, showChoice } from "./choice.js";
import { fillEdit, readEdit } from "./edit.js";
import { fillNorms, norms, readNorms, showNorms, verdictOf } from "./norms.js";

export const cards = (form) => [...form.querySelectorAll("[data-answer]")];
export const scales = (root) => [...root.querySelectorAll("[data-criterion]")];
export const placeOf = (card) => card.querySelector(`[name="rank-${card.dataset.answer}"]`);
const noteOf = (card) => card.querySelector(`[name="flag-${card.dataset.answer}"]`);

/** What is judged so far, as the site takes it. */
export function collect(form) {
  const answer = { scores: {}, ranks: {}, edits: {}, flags: {}, norms: {} };
  for (const card of cards(form)) {
    const letter = card.dataset.answer;
    for (const scale of scales(card)) {
      const chosen = scale.querySelector("input:checked");
      if (chosen) (answer.scores[letter] ??= {})[scale.dataset.criterion] = Number(chosen.value);
    }
    const place = placeOf(card)?.value;
    if (place) answer.ranks[letter] = Number(place);
    const edit = readEdit(card);
    if (edit !== null) answer.edits[letter] = edit;
    if (isFlagged(card)) answer.flags[letter] = noteOf(card).value;
    const verdicts = readNorms(card);
    if (Object.keys(verdicts).length) answer.norms[letter] = verdicts;
  }
  const rationale = form.elements.rationale?.value ?? "";
  return { ...answer, ...(isPair(form) && readChoice(form)), ...(rationale && { rationale }) };
}

/** Put an answer into an untouched form. */
export function fill(form, answer) {
  for (const card of cards(form)) {
    const letter = card.dataset.answer;
    for (const scale of scales(card)) {
      const value = answer.scores?.[letter]?.[scale.dataset.criterion];
      for (const radio of scale.querySelectorAll("input")) radio.checked = Number(radio.value) === value;
    }
    const place = placeOf(card);
    if (place) place.value = answer.ranks?.[letter] ?? "";
    fillEdit(card, answer.edits?.[letter]);
    fillNorms(card, answer.norms?.[letter]);
    const note = answer.flags?.[letter];
    setFlag(card, note !== undefined);
    noteOf(card).value = note ?? "";
  }
  fillChoice(form, answer);
  if (form.elements.rationale) form.elements.rationale.value = answer.rationale ?? "";
}

/** How much is still open. */
export function open(form) {
  const unscored = scales(form).filter((scale) => !scale.querySelector("input:checked"));
  const unplaced = cards(form).filter((card) => placeOf(card)?.value === "");
  const unjudged = norms(form).filter((norm) => !verdictOf(norm));
  const { ranks, both_bad: bothBad } = readChoice(form);
  const choice = isPair(form) && !bothBad && Object.keys(ranks).length === 0;
  return { scores: unscored.length, places: unplaced.length, norms: unjudged.length, choice };
}

export const isFlagged = (card) => card.querySelector("[data-flag]").getAttribute("aria-pressed") === "true";

function setFlag(card, on) {
  card.querySelector("[data-flag]").setAttribute("aria-pressed", String(on));
  card.querySelector("[data-flag-note]").hidden = !on;
}

export function toggleFlag(card) {
  setFlag(card, !isFlagged(card));
  if (isFlagged(card)) noteOf(card).focus();
}

/** Show the words of each choice, and where a norm's passage can be given. */
export function showState(form) {
  for (const scale of scales(form)) {
    const chosen = scale.querySelector("input:checked");
    scale.querySelector("[data-anchor]").textContent = chosen?.closest("label").dataset.words ?? "";
  }
  for (const card of cards(form)) showNorms(card);
  showChoice(form);
}
