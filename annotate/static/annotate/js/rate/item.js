// One item on the desk: which answer and which criterion have the attention, and what is judged.

import * as answer from "./answer.js";
import { enableBoard, showBoard } from "./board.js";
import { Clock } from "./clock.js";
import { choose } from "./conflict.js";
import { Keeper } from "./keeper.js";
import { say } from "./words.js";

export class Item {
  /** @param {HTMLFormElement} form @param {object} data slot, addresses, stored answer, draft on the site @param {string} user */
  constructor(form, data, user) {
    Object.assign(this, { form, user, slot: data.slot, addresses: data.addresses });
    this.version = data.stored?.version ?? null;
    this.cards = answer.cards(form);
    this.card = this.cards[0];
    this.scaleNumber = 0;
    this.ranking = false;
    this.warned = false;
    this.keeper = this.#keeper();
    const kept = this.keeper.begin(data.draft);
    const first = kept?.answer ?? data.stored?.answer;
    if (first) answer.fill(form, first);
    form.querySelector("[data-skip-open]").hidden = this.version !== null;
    this.clock = new Clock(kept?.ms ?? 0);
    enableBoard(form, () => this.changed());
    form.addEventListener("input", () => this.changed());
    form.addEventListener("focusin", (event) => this.#attend(event.target));
    form.addEventListener("pointerover", (event) => this.#preview(event.target));
    this.show();
    if (kept) this.status(say("draft"));
  }

  close() {
    this.clock.stop();
    this.keeper.close();
  }

  get payload() {
    return { ...answer.collect(this.form), active_ms: Math.round(this.clock.ms) };
  }

  changed() {
    this.warned = false;
    this.clearProblems();
    this.show();
    this.keeper.changed();
  }

  /** Go on from a version that another tab has saved. */
  rebase(version) {
    this.keeper.forget();
    this.version = version;
    this.keeper = this.#keeper();
  }

  /** Put another answer in the place of what is on the form. */
  replace(other) {
    answer.fill(this.form, other);
    this.clearProblems();
    this.show();
  }

  /** Put attention on a card, as keys do. */
  focus(card) {
    this.#mark(card, null);
    card.focus({ preventScroll: true });
  }

  /** The same, and bring it into view. */
  goTo(card) {
    this.focus(card);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    card.scrollIntoView({ block: "nearest", behavior: still ? "auto" : "smooth" });
  }

  move(step) {
    const next = this.cards[this.cards.indexOf(this.card) + step];
    if (next) this.goTo(next);
  }

  /** Score the criterion that has the attention, and go on to the next one. */
  score(value) {
    const scale = answer.scales(this.card)[this.scaleNumber];
    const radio = scale?.querySelector(`input[value="${value}"]`);
    if (!radio) return;
    radio.checked = true;
    this.announce(
      `${this.card.dataset.answer}, ${scale.querySelector("[data-name]").textContent}: ${radio.closest("label").textContent}`,
    );
    if (this.scaleNumber + 1 < answer.scales(this.card).length) this.scaleNumber += 1;
    else this.move(1);
    this.changed();
  }

  /** Give the card a place (0 for none) while ranking, and go on to the next card. */
  rank(place) {
    const select = answer.placeOf(this.card);
    if (place > this.cards.length) return;
    select.value = place || "";
    this.announce(`${this.card.dataset.answer}: ${place || "–"}`);
    if (this.card === this.cards.at(-1)) this.ranking = false;
    else this.move(1);
    this.changed();
  }

  toggleEdit(card) {
    if (card.querySelector("[data-editor]").hidden) answer.startEdit(card);
    else answer.leaveEdit(card);
  }

  /** Go from a text field back to its card. */
  leaveField(field) {
    const card = field.closest("[data-answer]") ?? this.card;
    answer.leaveEdit(card);
    this.focus(card);
  }

  setRanking(on) {
    this.ranking = on && Boolean(answer.placeOf(this.card));
    this.show();
  }

  show() {
    answer.showState(this.form);
    showBoard(this.form, this.card);
    const what = this.#openParts().join(", ");
    this.form.querySelector("[data-missing]").textContent = what ? say("open", { what }) : say("complete");
    const mode = document.querySelector("[data-rank-mode]");
    mode.hidden = !this.ranking;
    mode.textContent = say("rankMode", { letter: this.card.dataset.answer, first: 1, last: this.cards.length });
    this.#markScale();
  }

  /** What keeps the answer from being sent, in words; "" when nothing does. */
  objection() {
    const collected = answer.collect(this.form);
    const place = answer.gap(collected);
    if (place) return say("gap", { place });
    const parts = this.#openParts();
    if (!parts.length || this.warned || answer.isEmpty(collected)) return "";
    this.warned = true;
    return say("sendAnyway", { what: parts.join(", ") });
  }

  problem(text, place = "") {
    const spots = [...this.form.querySelectorAll(`[data-problem="${place}"]`)];
    const seen = spots.find((spot) => spot.closest("[data-answer]") === this.card) ?? spots[0];
    for (const spot of [this.form.querySelector('[data-problem=""]'), seen]) {
      if (!spot) continue;
      spot.textContent = text;
      spot.hidden = false;
    }
  }

  clearProblems() {
    for (const spot of this.form.querySelectorAll("[data-problem]")) spot.hidden = true;
  }

  status(text, mood = "") {
    const line = this.form.querySelector("[data-saved]");
    line.textContent = text;
    line.className = mood;
  }

  announce(text) {
    document.querySelector("[data-announce]").textContent = text.replace(/\s+/g, " ");
  }

  lock(on) {
    for (const part of this.form.querySelectorAll(".answers, .board, .rationale")) part.inert = on;
    for (const button of this.form.querySelectorAll(".send button")) button.disabled = on;
  }

  #keeper() {
    const what = { user: this.user, slot: this.slot, version: this.version ?? 0, address: this.addresses.draft };
    const read = () => ({ answer: answer.collect(this.form), ms: Math.round(this.clock.ms) });
    return new Keeper(what, read, {
      show: (other) => {
        this.replace(other.answer);
        this.status(say("draftElsewhere"));
      },
      ask: (other) =>
        choose(this.form, {
          words: say("draftConflict"),
          other: other.answer,
          mine: say("draftMine"),
          theirs: say("draftTheirs"),
        }),
      kept: () => this.status(say("draft")),
      saved: () => this.status(say("draftSaved")),
      refused: (sentence) => this.status(sentence, "is-bad"),
      signedOut: () => this.problem(say("signedOutTyping")),
    });
  }

  #openParts() {
    const { scores, places } = answer.open(this.form);
    const parts = [];
    if (scores) parts.push(say("missingScores", { count: scores }));
    if (places) parts.push(say("missingPlaces", { count: places }));
    return parts;
  }

  #attend(target) {
    const card = target.closest("[data-answer]");
    if (card) this.#mark(card, target.closest("[data-criterion]"));
  }

  #mark(card, scale) {
    const all = answer.scales(card);
    if (scale) this.scaleNumber = all.indexOf(scale);
    else if (card !== this.card || this.scaleNumber >= all.length) {
      const unscored = all.findIndex((each) => !each.querySelector("input:checked"));
      this.scaleNumber = Math.max(0, unscored);
    }
    this.card = card;
    for (const each of this.cards) each.classList.toggle("is-current", each === card);
    this.show();
  }

  #markScale() {
    for (const scale of answer.scales(this.form)) scale.classList.remove("is-current");
    answer.scales(this.card)[this.scaleNumber]?.classList.add("is-current");
  }

  /** While the pointer is over a value, its words are shown. */
  #preview(target) {
    const notch = target.closest(".notch");
    answer.showState(this.form);
    if (notch) notch.closest("[data-criterion]").querySelector("[data-anchor]").textContent = notch.dataset.words;
  }
}
