// An answer's form: reading what is judged out of it, and putting a draft or a stored answer into it.

export const cards = (form) => [...form.querySelectorAll("[data-answer]")];
export const scales = (root) => [...root.querySelectorAll("[data-criterion]")];
export const placeOf = (card) => card.querySelector(`[name="rank-${card.dataset.answer}"]`);
const editorOf = (card) => card.querySelector(`[name="edit-${card.dataset.answer}"]`);
const noteOf = (card) => card.querySelector(`[name="flag-${card.dataset.answer}"]`);

/** What is judged so far, as the site takes it. */
export function collect(form) {
  const answer = { scores: {}, ranks: {}, edits: {}, flags: {} };
  for (const card of cards(form)) {
    const letter = card.dataset.answer;
    for (const scale of scales(card)) {
      const chosen = scale.querySelector("input:checked");
      if (chosen) (answer.scores[letter] ??= {})[scale.dataset.criterion] = Number(chosen.value);
    }
    const place = placeOf(card)?.value;
    if (place) answer.ranks[letter] = Number(place);
    const editor = editorOf(card);
    if (editor && editor.value !== editor.defaultValue) answer.edits[letter] = editor.value;
    if (isFlagged(card)) answer.flags[letter] = noteOf(card).value;
  }
  const rationale = form.elements.rationale?.value ?? "";
  return rationale ? { ...answer, rationale } : answer;
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
    const editor = editorOf(card);
    if (editor) {
      editor.value = answer.edits?.[letter] ?? editor.defaultValue;
      openEditor(card, editor.value !== editor.defaultValue);
    }
    const note = answer.flags?.[letter];
    setFlag(card, note !== undefined);
    noteOf(card).value = note ?? "";
  }
  if (form.elements.rationale) form.elements.rationale.value = answer.rationale ?? "";
}

/** How much is still open. */
export function open(form) {
  const unscored = scales(form).filter((scale) => !scale.querySelector("input:checked"));
  const unplaced = cards(form).filter((card) => placeOf(card)?.value === "");
  return { scores: unscored.length, places: unplaced.length };
}

/** Whether nothing at all is judged. */
export function isEmpty({ scores, ranks, edits }) {
  return [scores, ranks, edits].every((part) => Object.keys(part).length === 0);
}

/** The first place that nobody has although a later one is taken, or 0. */
export function gap({ ranks }) {
  const taken = new Set(Object.values(ranks));
  for (let place = 1; place <= Math.max(0, ...taken); place += 1) if (!taken.has(place)) return place;
  return 0;
}

export const isFlagged = (card) => card.querySelector("[data-flag]").getAttribute("aria-pressed") === "true";

export function setFlag(card, on) {
  card.querySelector("[data-flag]").setAttribute("aria-pressed", String(on));
  card.querySelector("[data-flag-note]").hidden = !on;
}

export function toggleFlag(card) {
  setFlag(card, !isFlagged(card));
  if (isFlagged(card)) noteOf(card).focus();
}

export function openEditor(card, on) {
  card.querySelector("[data-editor]").hidden = !on;
  card.querySelector("[data-original]").hidden = on;
  card.querySelector("[data-edit]").setAttribute("aria-expanded", String(on));
}

export function startEdit(card) {
  const editor = editorOf(card);
  if (!editor) return;
  openEditor(card, true);
  editor.focus();
}

/** Leave the editor; one without a change closes. */
export function leaveEdit(card) {
  const editor = editorOf(card);
  if (editor && editor.value === editor.defaultValue) openEditor(card, false);
}

export function resetEdit(card) {
  const editor = editorOf(card);
  editor.value = editor.defaultValue;
  openEditor(card, false);
}

/** Show the words of each chosen score, and which answers are edited. */
export function showState(form) {
  for (const scale of scales(form)) {
    const chosen = scale.querySelector("input:checked");
    scale.querySelector("[data-anchor]").textContent = chosen?.closest("label").dataset.words ?? "";
  }
  for (const card of cards(form)) {
    const editor = editorOf(card);
    card.querySelector("[data-edited]").hidden = !editor || editor.value === editor.defaultValue;
  }
}
