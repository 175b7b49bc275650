// The ranking board: chips that are dragged into places. The selects in the cards hold the truth, for keys and readers.

import Sortable from "../../../vendor/sortable/sortable.esm.js";
import { cards, placeOf } from "./answer.js";

/** Make the board's chips movable; `changed` is called when one was moved. */
export function enableBoard(form, changed) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  for (const zone of form.querySelectorAll("[data-zone]")) {
    Sortable.create(zone, {
      group: "places",
      draggable: "[data-chip]",
      animation: still ? 0 : 120,
      ghostClass: "is-dragged",
      onEnd: ({ item, to }) => {
        const card = cards(form).find((each) => each.dataset.answer === item.dataset.chip);
        placeOf(card).value = to.dataset.zone;
        changed();
      },
    });
  }
}

/** Move each chip to the place that its select names. */
export function showBoard(form, current) {
  for (const card of cards(form)) {
    const place = placeOf(card);
    if (!place) return;
    const chip = form.querySelector(`[data-chip="${card.dataset.answer}"]`);
    form.querySelector(`[data-zone="${place.value}"]`).append(chip);
    chip.classList.toggle("is-current", card === current);
  }
}
