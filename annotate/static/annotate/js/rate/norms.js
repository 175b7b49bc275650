// Norms of an answer: whether it keeps each, and the passage that shows it.

import { selectedIn } from "./quotes.js";

export const norms = (root) => [...root.querySelectorAll("[data-norm]")];
export const nameOf = (norm) => norm.querySelector("[data-norm-name]").textContent;
export const fieldOf = (norm) => norm.querySelector("[data-quote]");
export const verdictOf = (norm) => norm.querySelector("[type=radio]:checked")?.value ?? "";
const takesQuote = (norm) => ["comply", "violate"].includes(verdictOf(norm));

/** The passage of a norm, or "". */
export const quoteOf = (norm) => (takesQuote(norm) ? fieldOf(norm).value.trim() : "");

/** The verdicts on a card's answer by norm version. */
export function readNorms(card) {
  const judged = norms(card).filter((norm) => verdictOf(norm));
  return Object.fromEntries(
    judged.map((norm) => {
      const quote = quoteOf(norm);
      return [norm.dataset.norm, { verdict: verdictOf(norm), ...(quote && { quote }) }];
    }),
  );
}

export function fillNorms(card, verdicts) {
  for (const norm of norms(card)) {
    const { verdict, quote } = verdicts?.[norm.dataset.norm] ?? {};
    for (const radio of norm.querySelectorAll("[type=radio]")) radio.checked = radio.value === verdict;
    fieldOf(norm).value = quote ?? "";
  }
}

/** Give a verdict; what is selected in the answer becomes the passage that shows it. Gives the verdict's words. */
export function judge(norm, verdict) {
  norm.querySelector(`[value="${verdict}"]`).checked = true;
  if (takesQuote(norm)) mark(norm);
  return verdictWords(norm, verdict);
}

export const verdictWords = (norm, verdict) =>
  norm.querySelector(`[value="${verdict}"]`).closest("label").textContent.trim();

/** Take what is selected in the answer as the passage; false where nothing is. */
export function mark(norm) {
  const quote = selectedIn(norm.closest("[data-answer]")).slice(0, Number(fieldOf(norm).dataset.longest));
  if (!quote) return false;
  fieldOf(norm).value = quote.replace(/\s+/g, " ");
  getSelection().removeAllRanges();
  return true;
}

/** Ask for the passage where there can be one. */
export function showNorms(card) {
  for (const norm of norms(card)) norm.querySelector("[data-passage]").hidden = !takesQuote(norm);
}

/** Have the text of the norm at hand open, and of no other that was opened so. */
export function openText(form, norm) {
  for (const each of form.querySelectorAll("[data-norm-text][data-opened]")) {
    if (norm?.contains(each)) continue;
    each.open = false;
    delete each.dataset.opened;
  }
  const text = norm?.querySelector("[data-norm-text]");
  if (!text || text.open) return;
  text.open = true;
  text.dataset.opened = "";
}
