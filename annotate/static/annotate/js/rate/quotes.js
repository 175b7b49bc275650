// Passages of an answer that show something: taken from what is selected, found again, and marked in the text.

const MARKS = "quote";
let painted = "";

const bare = (text) => text.replace(/\s+/g, "");
const textOf = (card) => card.querySelector("[data-original]");

/** What is selected in a card's answer, or "". */
export function selectedIn(card) {
  const selection = getSelection();
  const text = textOf(card);
  if (selection.isCollapsed || !selection.rangeCount) return "";
  const range = selection.getRangeAt(0);
  if (!range.intersectsNode(text)) return "";
  if (text.contains(range.startContainer) && text.contains(range.endContainer)) return selection.toString().trim();
  // A triple click selects up to the beginning of what follows.
  const within = document.createRange();
  within.selectNodeContents(text);
  if (text.contains(range.startContainer)) within.setStart(range.startContainer, range.startOffset);
  if (text.contains(range.endContainer)) within.setEnd(range.endContainer, range.endOffset);
  return within.toString().trim();
}

/** Whether a passage is part of a card's answer; spaces do not count. */
export function isQuoted(card, quote) {
  const written = card.querySelector("[data-wording]")?.defaultValue ?? "";
  return [textOf(card).textContent, written].some((text) => bare(text).includes(bare(quote)));
}

/** Mark passages in the answers that they are from. */
export function paintQuotes(quotes) {
  const now = JSON.stringify(quotes.map(({ card, quote }) => [card.dataset.answer, quote]));
  if (!CSS.highlights || now === painted) return;
  painted = now;
  const ranges = quotes.map(({ card, quote }) => find(textOf(card), bare(quote))).filter(Boolean);
  CSS.highlights.set(MARKS, new Highlight(...ranges));
}

/** Nothing is marked on the item that comes next. */
export function forgetQuotes() {
  painted = "";
  CSS.highlights?.delete(MARKS);
}

function find(root, quote) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const places = [];
  let text = "";
  while (walker.nextNode()) {
    const { data } = walker.currentNode;
    for (let at = 0; at < data.length; at += 1) {
      if (/\s/.test(data[at])) continue;
      text += data[at];
      places.push([walker.currentNode, at]);
    }
  }
  const start = text.indexOf(quote);
  if (!quote || start < 0) return null;
  const range = document.createRange();
  range.setStart(...places[start]);
  const [node, at] = places[start + quote.length - 1];
  range.setEnd(node, at + 1);
  return range;
}
