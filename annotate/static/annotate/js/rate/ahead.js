// The item after the one at work, fetched before it is needed.

import { fetchPiece } from "./send.js";

let held = null;
let asked = 0;

/** Fetch the next item in the background; without it, moving on takes a moment longer. */
export async function fetchAhead(address) {
  held = null;
  asked += 1;
  const mine = asked;
  try {
    const piece = await fetchPiece(address);
    if (piece === null || mine !== asked) return;
    const page = new DOMParser().parseFromString(piece, "text/html");
    held = { slot: JSON.parse(page.getElementById("desk-data").textContent).slot, piece };
  } catch {
    // The site is away; moving on will say so.
  }
}

/** The number of the slot that is held, or null. */
export const slotAhead = () => held?.slot ?? null;

/** The piece that is held, once. */
export function takeAhead() {
  const piece = held?.piece ?? null;
  held = null;
  return piece;
}
