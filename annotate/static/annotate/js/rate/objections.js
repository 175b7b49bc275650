// What keeps an answer from being sent: mistakes, which stay, and doubts, which a second press of Submit overrules.

import { cards, open, scales } from "./answer.js";
import { editorOf } from "./edit.js";
import { fieldOf, norms, quoteOf } from "./norms.js";
import { isQuoted } from "./quotes.js";
import { say } from "./words.js";

/** The first mistake as {text, place, card}, or null. */
export function mistake(form, answer) {
  const place = gap(answer);
  if (place) return { text: say("gap", { place }), place: "ranks" };
  for (const card of cards(form)) {
    const found = inCard(card, answer);
    if (found) return { ...found, card };
  }
  const rationale = form.elements.rationale;
  if (rationale && tooLong(rationale)) return { text: tooLong(rationale), place: "rationale" };
  return isEmpty(answer) ? { text: say("nothing"), place: "" } : null;
}

function inCard(card, answer) {
  const letter = card.dataset.answer;
  if (answer.edits[letter] !== undefined && !answer.edits[letter].trim()) {
    return { text: say("emptyEdit", { letter }), place: "edits" };
  }
  const editor = editorOf(card);
  if (editor && tooLong(editor)) return { text: tooLong(editor), place: "edits" };
  for (const norm of norms(card).filter(quoteOf)) {
    if (tooLong(fieldOf(norm))) return { text: tooLong(fieldOf(norm)), place: "norms" };
    if (!isQuoted(card, quoteOf(norm))) return { text: say("notQuoted", { letter }), place: "norms" };
  }
  return null;
}

function tooLong(field) {
  const longest = Number(field.dataset.longest);
  // The site counts characters, of which some are two units here.
  const length = field.value.length > longest ? [...field.value].length : 0;
  return length > longest ? say("tooLong", { length, longest }) : "";
}

function isEmpty({ scores, ranks, edits, norms: verdicts, both_bad: bothBad }) {
  return !bothBad && [scores, ranks, edits, verdicts].every((part) => Object.keys(part).length === 0);
}

/** The first place that nobody has although a later one is taken, or 0. */
function gap({ ranks }) {
  const taken = new Set(Object.values(ranks));
  for (let place = 1; place <= Math.max(0, ...taken); place += 1) if (!taken.has(place)) return place;
  return 0;
}

/** What is still open, in words. */
export function openParts(form) {
  const { scores, places, norms: unjudged, choice } = open(form);
  return [
    scores && say("missingScores", { count: scores }),
    places && say("missingPlaces", { count: places }),
    choice && say("missingChoice"),
    unjudged && say("missingNorms", { count: unjudged }),
  ].filter(Boolean);
}

/** The first two answers whose order contradicts their scores, in words; "" where there are none. */
export function contradiction(form, { scores, ranks }) {
  for (const [better, place] of Object.entries(ranks)) {
    for (const [worse, other] of Object.entries(ranks)) {
      if (place >= other) continue;
      const lower = lowerOn(scores[better], scores[worse]);
      if (lower.length) return say("contradiction", { better, worse, criteria: namesOf(form, lower) });
    }
  }
  return "";
}

/** The criteria on which one is lower, where it is higher on none. */
function lowerOn(one = {}, other = {}) {
  const both = Object.keys(one).filter((criterion) => criterion in other);
  return both.some((criterion) => one[criterion] > other[criterion])
    ? []
    : both.filter((criterion) => one[criterion] < other[criterion]);
}

function namesOf(form, criteria) {
  const named = scales(cards(form)[0]).filter((scale) => criteria.includes(scale.dataset.criterion));
  return named.map((scale) => scale.querySelector("[data-name]").textContent).join(", ");
}
