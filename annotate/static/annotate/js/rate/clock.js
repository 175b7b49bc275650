// Time at work: it runs while the page is seen and something was touched in the last minute.

const IDLE_MS = 60_000;
const TICK_MS = 1_000;
const SIGNS_OF_LIFE = ["keydown", "pointerdown", "pointermove", "wheel", "scroll"];

let lastTouch = performance.now();
for (const sign of SIGNS_OF_LIFE) {
  addEventListener(sign, () => (lastTouch = performance.now()), { capture: true, passive: true });
}

export class Clock {
  #ms;
  #last = performance.now();
  #timer;

  /** @param {number} ms time already spent */
  constructor(ms = 0) {
    this.#ms = ms;
    lastTouch = this.#last;
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /** Whether somebody is at work now. */
  get active() {
    return document.visibilityState === "visible" && performance.now() - lastTouch < IDLE_MS;
  }

  /** Milliseconds at work so far. */
  get ms() {
    this.#tick();
    return this.#ms;
  }

  #tick() {
    const now = performance.now();
    // A sleeping computer makes one long tick of the whole night.
    if (this.active) this.#ms += Math.min(now - this.#last, 2 * TICK_MS);
    this.#last = now;
  }

  stop() {
    clearInterval(this.#timer);
  }
}
