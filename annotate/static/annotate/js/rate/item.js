// One item on the desk: which answer, criterion and norm have the attention, and what is judged.

import { reachWide } from "../wide.js";
import * as answer from "./answer.js";
import { enableBoard, showBoard } from "./board.js";
import { choose as chooseOption, isPair, lean } from "./choice.js";
import { Clock } from "./clock.js";
import { choose } from "./conflict.js";
import * as edit from "./edit.js";
import { Keeper } from "./keeper.js";
import { markPassage } from "./modes.js";
import * as norms from "./norms.js";
import { contradiction, mistake, openParts } from "./objections.js";
import { forgetQuotes, paintQuotes } from "./quotes.js";
import { say } from "./words.js";

export class Item {
  /** @param {HTMLFormElement} form @param {object} data slot, addresses, stored answer, draft on the site @param {string} user */
  constructor(form, data, user) {
    Object.assign(this, { form, user, slot: data.slot, addresses: data.addresses });
    this.version = data.stored?.version ?? null;
    this.cards = answer.cards(form);
    this.card = this.cards[0];
    this.scaleNumber = 0;
    this.normNumber = 0;
    // What keys mean beside their usual meaning: "rank", "norms", or "".
    this.mode = "";
    this.warned = false;
    this.keeper = this.#keeper();
    const kept = this.keeper.begin(data.draft);
    const first = kept?.answer ?? data.stored?.answer;
    if (first) answer.fill(form, first);
    form.querySelector("[data-skip-open]").hidden = this.version !== null;
    this.clock = new Clock(kept?.ms ?? 0);
    enableBoard(form, () => this.changed());
    reachWide(form);
    form.addEventListener("input", (event) => this.#typed(event.target));
    form.addEventListener("focusin", (event) => this.#attend(event.target));
    form.addEventListener("pointerover", (event) => this.#preview(event.target));
    // A press on the button that marks a passage must leave the passage selected.
    form.addEventListener("mousedown", (event) => event.target.closest("[data-mark]") && event.preventDefault());
    form.addEventListener("click", (event) => this.#clicked(event.target));
    this.show();
    if (kept) this.status(say("draft"));
  }

  close() {
    this.clock.stop();
    this.keeper.close();
    forgetQuotes();
  }

  get payload() {
    return { ...answer.collect(this.form), active_ms: Math.round(this.clock.ms) };
  }

  get isPair() {
    return isPair(this.form);
  }

  /** The norm that has the attention. */
  get norm() {
    return norms.norms(this.card)[this.normNumber];
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
    // Tabs hand drafts on with their time: what went by until now may be in that version.
    this.clock.stop();
    this.clock = new Clock();
  }

  /** Put another answer in the place of what is on the form. */
  replace(other) {
    answer.fill(this.form, other);
    this.clearProblems();
    this.show();
  }

  /** Put attention on a card, as keys do. */
  focus(card) {
    this.#mark(card);
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
    const name = scale.querySelector("[data-name]").textContent;
    this.announce(`${this.card.dataset.answer}, ${name}: ${radio.closest("label").textContent}`);
    if (this.scaleNumber + 1 < answer.scales(this.card).length) this.scaleNumber += 1;
    else this.move(1);
    this.changed();
  }

  /** Compare the two answers: "A", "B" (again for more), "equal" or "bad". */
  compare(name) {
    const side = { A: -1, B: 1 }[name];
    const words = side ? lean(this.form, side) : chooseOption(this.form, name);
    this.announce(words);
    this.changed();
  }

  /** Go from a text field back to its card, or to its norm. */
  leaveField(field) {
    const norm = field.closest("[data-norm]");
    if (norm) return norm.querySelector("[type=radio]:checked").focus();
    const card = field.closest("[data-answer]") ?? this.card;
    edit.leaveEdit(card);
    this.focus(card);
  }

  setMode(mode) {
    this.mode = mode === "rank" && !answer.placeOf(this.card) ? "" : mode;
    this.show();
  }

  show() {
    answer.showState(this.form);
    showBoard(this.form, this.card);
    const what = openParts(this.form).join(", ");
    this.form.querySelector("[data-missing]").textContent = what ? say("open", { what }) : say("complete");
    const doubt = this.form.querySelector("[data-contradiction]");
    if (doubt) doubt.textContent = contradiction(this.form, answer.collect(this.form));
    this.#showMode();
    this.#markScale();
    this.#showQuotes();
  }

  /** What keeps the answer from being sent, as {text, place, card}; null when nothing does. A doubt is at its place already. */
  objection() {
    const collected = answer.collect(this.form);
    const wrong = mistake(this.form, collected);
    if (wrong || this.warned) return wrong;
    const doubt = contradiction(this.form, collected);
    const parts = openParts(this.form);
    if (!doubt && !parts.length) return null;
    this.warned = true;
    const sentences = [
      doubt && say("contradictionAnyway", { what: doubt }),
      parts.length && say("sendAnyway", { what: parts.join(", ") }),
    ];
    return { text: sentences.filter(Boolean).join(" ") };
  }

  problem(text, place = "", card = this.card) {
    const spots = [...this.form.querySelectorAll(`[data-problem="${place}"]`)];
    const seen = spots.find((spot) => spot.closest("[data-answer]") === card) ?? spots[0];
    for (const spot of [this.form.querySelector('[data-problem=""]'), seen]) {
      if (!spot) continue;
      spot.textContent = text;
      spot.hidden = false;
    }
    if (place) seen?.scrollIntoView({ block: "nearest" });
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
    for (const part of this.form.querySelectorAll(".answers, .order, .rationale")) part.inert = on;
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

  #typed(target) {
    if (target.matches("[data-wording]")) edit.showEdit(target.closest("[data-answer]"), { typing: true });
    this.changed();
  }

  #clicked(target) {
    const card = target.closest("[data-answer]");
    const button = target.closest("button");
    if (!card || !button) return;
    if (button.matches("[data-flag]")) answer.toggleFlag(card);
    else if (button.matches("[data-edit]")) edit.isEditing(card) ? edit.leaveEdit(card) : edit.startEdit(card);
    else if (button.matches("[data-reset]")) edit.resetEdit(card);
    else if (button.matches("[data-unreset]")) edit.undoReset(card);
    else if (button.matches("[data-mark]")) {
      this.#attend(button);
      return markPassage(this);
    }
    this.changed();
  }

  #attend(target) {
    const card = target.closest("[data-answer]");
    if (card) this.#mark(card, target.closest("[data-criterion]"), target.closest("[data-norm]"));
  }

  #mark(card, scale = null, norm = null) {
    const all = answer.scales(card);
    if (scale) this.scaleNumber = all.indexOf(scale);
    else if (card !== this.card || this.scaleNumber >= all.length) {
      const unscored = all.findIndex((each) => !each.querySelector("input:checked"));
      this.scaleNumber = Math.max(0, unscored);
    }
    if (norm) {
      this.normNumber = norms.norms(card).indexOf(norm);
      this.mode = "norms";
    } else if (this.mode === "norms" && (scale || card !== this.card)) this.mode = "";
    this.card = card;
    for (const each of this.cards) each.classList.toggle("is-current", each === card);
    this.show();
  }

  #markScale() {
    for (const scale of answer.scales(this.form)) scale.classList.remove("is-current");
    answer.scales(this.card)[this.scaleNumber]?.classList.add("is-current");
  }

  #showMode() {
    const norm = this.mode === "norms" ? this.norm : null;
    for (const each of norms.norms(this.form)) each.classList.toggle("is-current", each === norm);
    // Under a pointer that is pressed nothing may move, or it would be let go over something else.
    if (document.activeElement.matches(":focus-visible")) norms.openText(this.form, norm);
    const hint = this.form.querySelector("[data-mode]");
    hint.hidden = !this.mode;
    const letter = this.card.dataset.answer;
    if (norm) hint.textContent = say("normMode", { letter, norm: norms.nameOf(norm) });
    else if (this.mode) hint.textContent = say("rankMode", { letter, first: 1, last: this.cards.length });
  }

  #showQuotes() {
    const marked = this.cards.flatMap((card) => norms.norms(card).map((norm) => ({ card, quote: norms.quoteOf(norm) })));
    paintQuotes(marked.filter(({ quote }) => quote));
  }

  /** While the pointer is over a value, its words are shown. */
  #preview(target) {
    answer.showState(this.form);
    const value = target.closest("[data-words]");
    const line = value?.closest("[data-criterion], [data-chooser]")?.querySelector("[data-anchor], [data-choice-words]");
    if (line) line.textContent = value.dataset.words;
  }
}
