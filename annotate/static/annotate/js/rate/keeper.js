// Keeps what is typed on one item: in the browser at once, on the site every few seconds.
//
// A browser numbers its drafts, and its tabs share the numbers. The site takes a draft only from a browser that has
// seen the newest one there, so nothing typed is replaced unseen; where two browsers went on side by side, the rater
// chooses.

import * as draft from "./draft.js";
import { Offline, SignedOut, newUuid, post } from "./send.js";

const BROWSER_DELAY_MS = 400;
const SITE_DELAY_MS = 3000;

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

export class Keeper {
  #browserTimer;
  #siteTimer;
  #stopWatching;
  #sending = false;
  #asking = false;
  #closed = false;
  // Number of the draft on the desk, of the newest one known to be on the site, and of the last one sent there.
  #sequence = 0;
  #seen = 0;

  /**
   * @param {{user, slot, version: number, address: string}} what whose draft of which item, and where it is sent
   * @param {() => {answer: object, ms: number}} read what is typed so far
   * @param {{show, ask, kept, saved, refused, signedOut}} tell show another draft, ask which one to go on with, say what happened
   */
  constructor(what, read, tell) {
    Object.assign(this, { ...what, read, tell, browser: draft.browserId(newUuid) });
    this.#stopWatching = draft.watch(this.user, this.slot, (other) => this.#fromOtherTab(other));
  }

  /** The draft to begin with, or null; two that went on side by side are put to the rater. */
  begin(onSite) {
    let local = draft.recall(this.user, this.slot);
    if (local && (local.version ?? 0) !== this.version) local = null;
    this.#sequence = local?.sequence ?? 0;
    this.#seen = local?.seen ?? 0;
    if (!onSite || this.#knows(onSite)) {
      this.#seen = Math.max(this.#seen, onSite?.sequence ?? 0);
      if (local && this.#sequence > this.#seen) this.#scheduleSite();
      return local ?? onSite;
    }
    const unsent = local && this.#sequence > this.#seen && !same(local.answer, onSite.answer);
    if (!unsent) this.#adopt(onSite);
    else queueMicrotask(() => this.#ask(onSite));
    return unsent ? local : onSite;
  }

  /** Something was typed. */
  changed() {
    clearTimeout(this.#browserTimer);
    this.#browserTimer = setTimeout(() => this.keep(), BROWSER_DELAY_MS);
  }

  /** Keep in this browser now, and on the site soon. */
  keep() {
    clearTimeout(this.#browserTimer);
    this.#sequence = Math.max(this.#sequence, draft.recall(this.user, this.slot)?.sequence ?? 0) + 1;
    if (this.#store()) this.tell.kept();
    this.#scheduleSite();
  }

  /** Keep what is typed before the page goes out of sight. */
  flush() {
    if (this.#closed) return;
    if (this.#browserTimer) this.keep();
    this.#send(true);
  }

  /** A draft that the site holds, as it told in passing. */
  heard(onSite) {
    if (!this.#closed && onSite && !this.#knows(onSite)) this.#meet(onSite);
  }

  /** The answer has arrived: its draft is over. */
  forget() {
    this.close();
    draft.forget(this.user, this.slot);
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#browserTimer);
    clearTimeout(this.#siteTimer);
    this.#stopWatching();
  }

  #knows(onSite) {
    return onSite.browser === this.browser ? onSite.sequence <= this.#sequence : onSite.sequence <= this.#seen;
  }

  #store() {
    const record = { ...this.read(), sequence: this.#sequence, seen: this.#seen, version: this.version };
    this.#browserTimer = undefined;
    return draft.keep(this.user, this.slot, record);
  }

  #fromOtherTab(other) {
    this.#seen = Math.max(this.#seen, other.seen ?? 0);
    if (other.sequence <= this.#sequence || (other.version ?? 0) !== this.version) return;
    clearTimeout(this.#browserTimer);
    clearTimeout(this.#siteTimer);
    this.#siteTimer = undefined;
    this.#sequence = other.sequence;
    this.tell.show(other);
  }

  #scheduleSite() {
    this.#siteTimer ??= setTimeout(() => this.#send(false), SITE_DELAY_MS);
  }

  async #send(leaving) {
    clearTimeout(this.#siteTimer);
    this.#siteTimer = undefined;
    if (this.#closed || this.#asking || this.#sequence <= this.#seen) return;
    if (this.#sending && !leaving) return this.#scheduleSite();
    const sequence = this.#sequence;
    const body = { sequence, seen: this.#seen, browser: this.browser, version: this.version, ...this.read() };
    this.#sending = true;
    try {
      const { status, data } = await post(this.address, body, { keepalive: leaving });
      if (this.#closed) return;
      if (status === 409 && data.draft) this.#meet(data.draft);
      else if (status === 200 && data.kept) this.#arrived(sequence);
      else if (status === 400) this.tell.refused(data.error);
    } catch (problem) {
      if (this.#closed) return;
      // It is in this browser; the site gets it with a later one.
      if (problem instanceof SignedOut) this.tell.signedOut();
      if (problem instanceof Offline) this.#scheduleSite();
    } finally {
      this.#sending = false;
    }
  }

  #arrived(sequence) {
    this.#seen = Math.max(this.#seen, sequence);
    if (this.#sequence !== sequence) return;
    this.#store();
    this.tell.saved();
  }

  #meet(onSite) {
    if (this.#sequence > this.#seen || this.#browserTimer) this.#ask(onSite);
    else {
      this.#adopt(onSite);
      this.tell.show(onSite);
    }
  }

  #adopt(onSite) {
    this.#sequence = Math.max(this.#sequence, onSite.sequence);
    this.#seen = this.#sequence;
    draft.keep(this.user, this.slot, { ...onSite, sequence: this.#sequence, seen: this.#seen, version: this.version });
  }

  async #ask(onSite) {
    if (this.#asking) return;
    this.#asking = true;
    const mine = await this.tell.ask(onSite);
    this.#asking = false;
    if (mine) {
      this.#sequence = Math.max(this.#sequence, onSite.sequence);
      this.#seen = onSite.sequence;
      this.keep();
    } else {
      this.#adopt(onSite);
      this.tell.show(onSite);
    }
  }
}
