// Two wordings compared word by word, in languages with and without spaces.

import { diffArrays } from "../../../vendor/diff/diff/array.js";

const LONGEST = 20_000;
const PATIENCE_MS = 80;

/**
 * What was taken out and put in between two texts.
 *
 * @returns {{parts: {kind: "same"|"gone"|"new", text: string}[], changed: number, words: number} | null} the parts in
 *   order, how many words were changed (the longer side of each change counts) and how many there are in the longer
 *   text; null where the texts are too long or too different to be compared while somebody types
 */
export function compare(before, after) {
  if (before.length + after.length > 2 * LONGEST) return null;
  const [left, right] = [before, after].map(segments);
  const changes = diffArrays(left.texts, right.texts, { timeout: PATIENCE_MS });
  if (!changes) return null;
  const isWord = new Set([...left.words, ...right.words]);
  const count = (texts) => texts.filter((text) => isWord.has(text)).length;
  const hunks = hunksOf(changes);
  const changed = hunks.reduce((sum, { gone, added }) => sum + Math.max(count(gone), count(added)), 0);
  const parts = hunks.flatMap(({ gone, added, same }) => [
    { kind: "gone", text: gone.join("") },
    { kind: "new", text: added.join("") },
    { kind: "same", text: same.join("") },
  ]);
  const words = Math.max(count(left.texts), count(right.texts));
  return { parts: parts.filter(({ text }) => text), changed, words };
}

function segments(text) {
  const found = [...new Intl.Segmenter(undefined, { granularity: "word" }).segment(text)];
  const words = found.filter(({ isWordLike }) => isWordLike).map(({ segment }) => segment);
  return { texts: found.map(({ segment }) => segment), words };
}

/** Changes, each with the unchanged text after it; those that only a space parts are one. */
function hunksOf(changes) {
  const hunks = [{ gone: [], added: [], same: [] }];
  for (const { value, added, removed } of changes) {
    let hunk = hunks.at(-1);
    if (!added && !removed) {
      hunk.same.push(...value);
      continue;
    }
    if (hunk.same.length) {
      const joined = hunks.length > 1 && hunk.same.every((text) => text === " ");
      if (joined) {
        hunk.gone.push(...hunk.same);
        hunk.added.push(...hunk.same);
        hunk.same = [];
      } else hunks.push((hunk = { gone: [], added: [], same: [] }));
    }
    (added ? hunk.added : hunk.gone).push(...value);
  }
  return hunks;
}
