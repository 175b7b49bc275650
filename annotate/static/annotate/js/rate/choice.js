// The comparison of two answers: one is better, by how much where that is asked, or both are equal, or both bad.

const options = (form) => [...form.querySelectorAll('[name="choice"]')];
const chosenOf = (form) => options(form).find((option) => option.checked);

/** Whether the item's answers are compared instead of ranked. */
export const isPair = (form) => options(form).length > 0;

/** The parts of an answer that the choice makes. */
export function readChoice(form) {
  const [letter, strength] = chosenOf(form)?.value.split("-") ?? [];
  if (!letter) return { ranks: {} };
  if (letter === "bad") return { ranks: {}, both_bad: true };
  if (letter === "equal") return { ranks: { A: 1, B: 1 } };
  const ranks = letter === "A" ? { A: 1, B: 2 } : { A: 2, B: 1 };
  return strength ? { ranks, strength: Number(strength) } : { ranks };
}

/** The option that an answer chose; none where it chose what is not asked any more. */
export function optionOf(form, answer) {
  const names = namesOf(answer);
  return options(form).find((option) => names.includes(option.value));
}

/** Choose what an answer chose. */
export function fillChoice(form, answer) {
  const chosen = optionOf(form, answer);
  for (const option of options(form)) option.checked = option === chosen;
}

function namesOf({ ranks, both_bad: bothBad, strength }) {
  if (bothBad) return ["bad"];
  if (!ranks?.A || !ranks?.B) return [];
  if (ranks.A === ranks.B) return ["equal"];
  const better = ranks.A < ranks.B ? "A" : "B";
  return [better, `${better}-${strength}`];
}

/** Choose one option; gives its words, or "" where it is not asked. */
export function choose(form, name) {
  const option = options(form).find((each) => each.value === name);
  if (!option) return "";
  option.checked = true;
  return option.closest("label").dataset.words;
}

/** Prefer the left (-1) or the right answer (1), and more so each time; gives the words of what is chosen then. */
export function lean(form, side) {
  const scale = options(form).filter((option) => option.value !== "bad");
  const middle = scale.findIndex((option) => option.value === "equal");
  const from = scale.findIndex((option) => option.checked);
  const onSide = from >= 0 && Math.sign(from - middle) === side;
  const to = scale[onSide ? from + side : middle + side] ?? scale[from];
  return choose(form, to.value);
}

/** Show the words of the choice. */
export function showChoice(form) {
  const line = form.querySelector("[data-choice-words]");
  if (line) line.textContent = chosenOf(form)?.closest("label").dataset.words ?? "";
}
