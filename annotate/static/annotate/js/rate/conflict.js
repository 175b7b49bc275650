// Two answers to one item: the other one is shown beside one's own, and the rater chooses.

import * as answer from "./answer.js";
import { optionOf } from "./choice.js";
import { nameOf, norms, verdictWords } from "./norms.js";
import { say } from "./words.js";

/**
 * Ask which of two answers to go on with.
 *
 * @param {HTMLFormElement} form the item's form, with one's own answer in it
 * @param {{words: string, other: object, mine: string, theirs: string}} question what happened, the other answer, and
 *   the words of the two buttons
 * @returns {Promise<boolean>} true for one's own
 */
export function choose(form, { words, other, mine, theirs }) {
  const box = form.querySelector("[data-conflict]");
  box.querySelector("[data-conflict-words]").textContent = words;
  box.querySelector("[data-conflict-stored]").textContent = inWords(form, other);
  const button = { mine: box.querySelector("[data-mine]"), theirs: box.querySelector("[data-theirs]") };
  button.mine.textContent = mine;
  button.theirs.textContent = theirs;
  box.hidden = false;
  box.scrollIntoView({ block: "nearest" });
  return new Promise((resolve) => {
    for (const [whose, each] of Object.entries(button)) {
      each.onclick = () => {
        box.hidden = true;
        resolve(whose === "mine");
      };
    }
  });
}

/** An answer in lines that can be read beside one's own. */
function inWords(form, other) {
  const lines = answer.cards(form).map((card) => `${card.dataset.answer}: ${partsOf(card, other).join(", ")}`);
  return [choiceOf(form, other), ...lines, other.rationale].filter(Boolean).join("\n");
}

function choiceOf(form, other) {
  const option = optionOf(form, other);
  return option ? option.closest("label").dataset.words : "";
}

function partsOf(card, other) {
  const letter = card.dataset.answer;
  const parts = answer.scales(card).map((scale) => {
    const value = other.scores?.[letter]?.[scale.dataset.criterion] ?? "–";
    return `${scale.querySelector("[data-name]").textContent} ${value}`;
  });
  if (other.ranks?.[letter]) parts.unshift(`#${other.ranks[letter]}`);
  for (const norm of norms(card)) {
    const { verdict, quote } = other.norms?.[letter]?.[norm.dataset.norm] ?? {};
    if (verdict) parts.push(`${nameOf(norm)}: ${verdictWords(norm, verdict)}${quote ? ` “${quote}”` : ""}`);
  }
  if (other.flags?.[letter] !== undefined) parts.push(`${say("flagged")}: ${other.flags[letter]}`);
  if (other.edits?.[letter]) parts.push(`${say("edited")}: ${other.edits[letter]}`);
  return parts;
}
